//! Trying again: with growing pauses, for ever, and two lines in the log.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use pipeline_stage::{ErrorKind, Result, StageError};
use tokio::time::Instant;
use tracing::{info, warn};

use super::health::{self, Down};

/// One thing that may be down, and how long it has been.
///
/// While it is down [`health`] knows it.
pub struct Retry {
    /// What is written in the log before the error's words: a stage's id.
    what: String,
    /// What people have to know while it is down.
    meanwhile: Option<&'static str>,
    /// What is known of the time in which it was down, once that is over.
    afterwards: &'static str,
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
    /// Since when it is down, and what the whole process can be asked about.
    down: Option<(Instant, Down)>,
}

impl Retry {
    /// For a stage or a part of the engine whose work waits for it.
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        let afterwards = "nothing was lost";
        Retry { pauses: pauses(&what), what, meanwhile: None, afterwards, down: None }
    }

    /// For a source. One that cannot be read again may have missed what was there while it was down: that a broker has kept
    /// it, or an API does not say it any more, is known to nobody here.
    pub fn of_source(id: &str, is_replayable: bool) -> Self {
        match is_replayable {
            true => Retry::new(id),
            false => Retry { afterwards: "no row that it had given was lost", ..Retry::new(id) },
        }
    }

    /// Says in the log what happens while it is down.
    pub fn meanwhile(self, consequence: &'static str) -> Self {
        Retry { meanwhile: Some(consequence), ..self }
    }

    /// After a failure: says so if it is the first, then waits. Why it is down is known by the last. Other errors than
    /// `Transient` are handed back.
    pub async fn wait(&mut self, error: StageError) -> Result<()> {
        if error.kind() != ErrorKind::Transient {
            return Err(error);
        }
        let why = error.chain();
        match &self.down {
            Some((_, down)) => down.is_because(why),
            None => {
                self.down = Some((Instant::now(), health::down(&self.what, why.clone())));
                match self.meanwhile {
                    Some(then) => warn!("{}: {why}; trying again until it works, {then}", self.what),
                    None => warn!("{}: {why}; trying again until it works", self.what),
                }
            }
        }
        let pause = self.pauses.next().unwrap_or(MAX_PAUSE);
        tokio::time::sleep(error.pause().unwrap_or(pause)).await;
        Ok(())
    }

    /// After a success: says so if it had failed before. Call it only for what shows that the work itself goes on: a
    /// sink that can be reached but not written to is down still.
    pub fn worked(&mut self) {
        if let Some((since, down)) = self.down.take() {
            drop(down);
            info!("{}: back after {} s; {}", self.what, since.elapsed().as_secs(), self.afterwards);
            self.pauses = pauses(&self.what);
        }
    }
}

/// Long enough to leave a struggling service alone, short enough that nobody waits for us once it is back.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Processes that wait for the same service must not come back in step. Without it the pauses are the same in every
/// run, which the simulation needs.
static SALT: OnceLock<u64> = OnceLock::new();

/// From here on the pauses of this process differ from those of others.
pub fn pause_unlike_others() {
    SALT.get_or_init(|| RandomState::new().hash_one("pauses"));
}

fn pauses(what: &str) -> Box<dyn Iterator<Item = Duration> + Send> {
    let mut seed = DefaultHasher::new();
    (SALT.get(), what).hash(&mut seed);
    let builder = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(MAX_PAUSE)
        .with_jitter()
        .with_jitter_seed(seed.finish())
        .without_max_times();
    Box::new(builder.build())
}

/// Calls the state store until it works or fails for good.
///
/// # Errors
/// The first that is not `Transient`.
pub async fn until_store_works<T, Attempt>(attempt: impl FnMut() -> Attempt) -> Result<T>
where
    Attempt: Future<Output = Result<T>>,
{
    until_works(Retry::new("state store").meanwhile("reading pauses when 2 epochs wait for it"), attempt).await
}

/// Calls something until it works or fails for good.
///
/// # Errors
/// The first that is not `Transient`.
pub async fn until_works<T, Attempt>(mut retry: Retry, mut attempt: impl FnMut() -> Attempt) -> Result<T>
where
    Attempt: Future<Output = Result<T>>,
{
    loop {
        match attempt().await {
            Ok(value) => {
                retry.worked();
                return Ok(value);
            }
            Err(error) => retry.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline_testkit::LogLines;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_it_says_what_is_known_of_it() {
        let log = LogLines::default();
        let _guard = tracing::subscriber::set_default(log.clone());
        for (mut retry, afterwards) in [
            (Retry::new("history"), "nothing was lost"),
            (Retry::of_source("readings", true), "nothing was lost"),
            (Retry::of_source("weather", false), "no row that it had given was lost"),
        ] {
            for _ in 0..3 {
                retry.wait(StageError::transient("gone").retry_after(Duration::from_secs(2))).await.unwrap();
            }
            retry.worked();
            retry.worked();
            let what = &retry.what;
            let lines =
                [format!("{what}: gone; trying again until it works"), format!("{what}: back after 6 s; {afterwards}")];
            assert_eq!(log.take(), lines);
        }
    }
}
