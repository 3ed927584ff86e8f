//! Killed at random moments, over servers that are killed too: the tables are those of an undisturbed run.
//!
//! `make kills` does it on a large scale. `PIPELINE_TEST_KILLS`, `PIPELINE_TEST_KILL_ROWS` and
//! `PIPELINE_TEST_KILL_SEED` say how often, over how many rows, and at which moments.

mod chance;
mod tables;
mod tally;
mod world;

use std::time::{Duration, Instant};

use self::chance::Chance;
use self::tally::Tally;
use self::world::{Kind, Subject, World, world};
use crate::production::Binary;
use pipeline_services::{Finished, RunningPipeline, StopMode, eventually};

/// For what takes seconds on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(120);

/// A start takes about as long: some kills come before it reads, some in the middle of what it computes again.
const START: Duration = Duration::from_millis(800);

/// Longer than clients keep quiet about, shorter than a session.
const FROZEN: Duration = Duration::from_secs(3);

/// A setting of these tests.
fn setting(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("`{name}` is `{text}`, it must be a whole number")),
        Err(_) => otherwise,
    }
}

fn kills() -> usize {
    setting("PIPELINE_TEST_KILLS", 10)
}

/// Enough to meet each fault: most moments are those of the others.
fn some_kills() -> usize {
    (kills() / 2).min(20)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_to_postgresql() {
    kills_do_not_matter(Kind::Postgres, Binary::Full, kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_to_sqlite() {
    kills_do_not_matter(Kind::Sqlite, Binary::Full, kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_with_state_in_postgresql() {
    kills_do_not_matter(Kind::PostgresAlone, Binary::Full, some_kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_with_everything_loaded() {
    kills_do_not_matter(Kind::Postgres, Binary::Slim, some_kills()).await;
}

async fn kills_do_not_matter(kind: Kind, binary: Binary, kills: usize) {
    let mut world = world().await;
    let what = format!("{kind:?}, {binary:?}");
    let mut chance = Chance::new(&what);
    let began = Instant::now();
    let subject = world.subject(kind, binary).await;
    let mut tally = Tally::default();
    for kill in 0..kills {
        let fault = Fault::of(kill, kills, kind);
        run_and_kill(&mut world, &subject, fault, kills - kill, &mut chance, &mut tally).await;
    }
    let repeats = world.assert_undisturbed(kind, &subject).await;
    println!("{what}: {} rows, {tally}, {repeats} alerts repeated, {:.0?} in all", world.rows, began.elapsed());
    tally.assert_that_it_was_a_test(kills, kind);
    assert!(repeats <= kills, "{repeats} alerts were repeated, at most one for each of {kills} kills may be");
}

/// What happens to the servers while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
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
    fn of(kill: usize, kills: usize, kind: Kind) -> Self {
        let cycle = kills.min(40);
        match (cycle - 1 - kill % cycle, kill % 10) {
            (0, _) => Fault::BrokerCrash,
            (1, _) => Fault::BrokerFreeze,
            (_, 0) if kind != Kind::Sqlite => Fault::DatabaseCrash,
            (_, 1 | 6 | 7) => Fault::EarlyKill,
            _ => Fault::None,
        }
    }
}

/// Starts the pipeline, lets it come to a random place, lets the fault happen, and kills it.
async fn run_and_kill(
    world: &mut World,
    subject: &Subject,
    fault: Fault,
    kills_left: usize,
    chance: &mut Chance,
    tally: &mut Tally,
) {
    let tables = &subject.tables;
    let (rows, newest) = (tables.rows().await, tables.newest().await);
    let step = world.rows.saturating_sub(rows) as f64 / (kills_left + 1) as f64;
    let target = newest + 1 + (step * chance.fraction()) as usize;
    let started = Instant::now();
    let running = subject.run().start();
    let killed = if fault == Fault::EarlyKill {
        let moment = chance.up_to(START);
        eventually(LONG, "the moment of the kill", async || moment <= started.elapsed()).await;
        running.kill().await
    } else {
        let mut running = running;
        if rows < world.rows {
            moves_beyond(subject, &mut running, newest).await;
            tally.first_rows.push(started.elapsed());
            moves_beyond(subject, &mut running, target - 1).await;
        }
        suffer(world, subject, fault, running, chance, tally).await
    };
    tables.are_left_alone().await;
    tally.kills += 1;
    tally.in_mid_work += usize::from(tables.rows().await < world.rows);
    tally.before_first_row += usize::from(tables.newest().await == newest);
    tally.replayed += usize::from(killed.stderr.contains("again in"));
    let first_row = tally.first_rows.last().copied().unwrap_or_default();
    println!(
        "kill {} after {:.1?}, {fault:?}: {rows} rows before, first row after {first_row:.1?}",
        tally.kills,
        started.elapsed()
    );
}

async fn moves_beyond(subject: &Subject, running: &mut RunningPipeline, row: usize) {
    eventually(LONG, &format!("row {row} in the table"), async || {
        assert!(running.is_running(), "the run has ended: {}", running.stderr());
        row < subject.tables.newest().await
    })
    .await;
}

/// The fault begins; it ends before the kill or after it.
async fn suffer(
    world: &mut World,
    subject: &Subject,
    fault: Fault,
    running: RunningPipeline,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Finished {
    let seen = subject.tables.newest().await;
    let dies_meanwhile = chance.is_heads();
    match fault {
        Fault::None | Fault::EarlyKill => return running.kill().await,
        Fault::DatabaseCrash => world.postgres.stop(StopMode::Immediate).await,
        Fault::BrokerFreeze => world.kafka.pause(),
        Fault::BrokerCrash => world.kafka.kill().await,
    }
    let began = Instant::now();
    let moment = chance.up_to(FROZEN);
    if fault == Fault::BrokerFreeze || dies_meanwhile {
        eventually(LONG, "the end of the fault", async || moment <= began.elapsed()).await;
    }
    let killed = if dies_meanwhile { Ok(running.kill().await) } else { Err(running) };
    match fault {
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
    match killed {
        Ok(killed) => killed,
        Err(mut running) => {
            if subject.tables.rows().await < world.rows {
                moves_beyond(subject, &mut running, seen).await;
            }
            running.kill().await
        }
    }
}
