//! How a worker hears that it is to stop, whatever it is waiting for.

use std::time::Duration;

use pipeline_stage::{Result, StageError};
use tokio::sync::watch;
use tokio::time::sleep;

use super::retry::until_store_works;

/// How long a stop waits for a state store that does not answer: what it was to note is done again by the next run.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Why a worker has ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to.
    Told,
    /// It cannot go on.
    Failed(StageError),
}

impl From<StageError> for Ended {
    fn from(error: StageError) -> Self {
        Ended::Failed(error)
    }
}

/// Says whether to stop. Nobody left who could say so is a stop, too.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// When `stop` becomes true.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Stop(stop)
    }

    /// Whether it was said.
    pub fn is_told(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until it is said.
    pub async fn told(&self) {
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }

    /// Asks the state store until it answers; a stop does not wait long for it.
    pub async fn ask_store<T, Attempt>(&self, attempt: impl FnMut() -> Attempt) -> Result<T, Ended>
    where
        Attempt: Future<Output = Result<T>>,
    {
        let given_up = async {
            self.told().await;
            sleep(STOP_WITHIN).await;
        };
        tokio::select! {
            biased;
            answer = until_store_works(attempt) => Ok(answer?),
            () = given_up => Err(Ended::Told),
        }
    }
}
