//! What happens to the servers while the binary runs.

use crate::killed::tally::Tally;
use crate::killed::world::{Kind, World};
use pipeline_services::StopMode;

/// What happens beside the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The kill comes soon after the start.
    EarlyKill,
    /// `pg_ctl stop -m immediate`, and a start.
    DatabaseCrash,
    /// SIGSTOP, and SIGCONT after some seconds.
    BrokerFreeze,
    /// SIGKILL, and a start.
    BrokerCrash,
}

impl Fault {
    /// Those of the broker come last and seldom: what was fetched ahead is read meanwhile, and that is much.
    pub fn of(kill: usize, kills: usize, kind: Kind) -> Self {
        let cycle = kills.min(40);
        match (cycle - 1 - kill % cycle, kill % 10) {
            (0, _) => Fault::BrokerCrash,
            (1, _) => Fault::BrokerFreeze,
            (_, 0) if kind != Kind::Sqlite => Fault::DatabaseCrash,
            (_, 1 | 6 | 7) => Fault::EarlyKill,
            _ => Fault::None,
        }
    }

    /// Whether a server is away for a while.
    pub fn is_of_a_server(self) -> bool {
        !matches!(self, Fault::None | Fault::EarlyKill)
    }

    pub async fn begin(self, world: &mut World) {
        match self {
            Fault::None | Fault::EarlyKill => {}
            Fault::DatabaseCrash => world.postgres.stop(StopMode::Immediate).await,
            Fault::BrokerFreeze => world.kafka.pause(),
            Fault::BrokerCrash => world.kafka.kill().await,
        }
    }

    /// Returns when the server answers again.
    pub async fn end(self, world: &mut World, tally: &mut Tally) {
        match self {
            Fault::None | Fault::EarlyKill => {}
            Fault::DatabaseCrash => {
                world.postgres.start_again().await;
                tally.database_crashes += 1;
            }
            Fault::BrokerFreeze => {
                world.kafka.resume();
                tally.broker_freezes += 1;
            }
            Fault::BrokerCrash => {
                world.kafka.start_again().await;
                tally.broker_crashes += 1;
            }
        }
    }
}
