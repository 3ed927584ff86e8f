//! Trying again: with growing pauses, for ever, and two lines in the log.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use pipeline_stage::{ErrorKind, Result, StageError};
use tracing::{info, warn};

/// One thing that may be down, and how long it has been.
pub struct Retry {
    /// What is written in the log before the error's words: a stage's id.
    what: String,
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
    down_since: Option<Instant>,
}

impl Retry {
    /// For a stage or a part of the engine.
    pub fn new(what: impl Into<String>) -> Self {
        Retry { what: what.into(), pauses: pauses(), down_since: None }
    }

    /// After a failure: says so if it is the first, then waits. Other errors than `Transient` are handed back.
    pub async fn wait(&mut self, error: StageError) -> Result<()> {
        if error.kind() != ErrorKind::Transient {
            return Err(error);
        }
        if self.down_since.is_none() {
            self.down_since = Some(Instant::now());
            warn!("{}: {}; trying again until it works, reading pauses when 2 epochs wait", self.what, error.chain());
        }
        let pause = self.pauses.next().unwrap_or(MAX_PAUSE);
        tokio::time::sleep(error.pause().unwrap_or(pause)).await;
        Ok(())
    }

    /// After a success: says so if it had failed before.
    pub fn worked(&mut self) {
        if let Some(since) = self.down_since.take() {
            info!("{}: back after {} s; nothing was lost", self.what, since.elapsed().as_secs());
            self.pauses = pauses();
        }
    }
}

/// Long enough to leave a struggling service alone, short enough that nobody waits for us once it is back.
const MAX_PAUSE: Duration = Duration::from_secs(5);

fn pauses() -> Box<dyn Iterator<Item = Duration> + Send> {
    let builder = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(MAX_PAUSE)
        .with_jitter()
        .without_max_times();
    Box::new(builder.build())
}

/// Calls until it works or fails for good.
///
/// # Errors
/// The first that is not `Transient`.
pub async fn until_it_works<T, Attempt>(what: &str, mut attempt: impl FnMut() -> Attempt) -> Result<T>
where
    Attempt: Future<Output = Result<T>>,
{
    let mut retry = Retry::new(what);
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
