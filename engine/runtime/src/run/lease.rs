//! The right to empty an outbox: one process at a time has it.

use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::Pace;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::told::{Ended, Stop};
use crate::bugs::{Bug, is_there};
use crate::store::OutboxStore;

/// A process that died holds up the deliveries of the others as long; a machine that is busy must not lose it.
const LEASE: Duration = Duration::from_secs(30);
/// How long a stop waits for it to be given back: it runs out anyway.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// The lease of one outbox.
pub struct Lease {
    store: Arc<dyn OutboxStore>,
    name: String,
    /// Names this process.
    holder: String,
    /// It is renewed when half of it is over.
    half: Duration,
    /// By the clock that nobody sets.
    until: Option<Instant>,
}

impl Lease {
    /// It is not held yet.
    pub fn new(sink: &str, pace: &Pace, store: Arc<dyn OutboxStore>, holder: String) -> Self {
        // Half of it must be enough for the pause before a delivery and for the delivery.
        let half = (LEASE / 2).max(pace.timeout.saturating_add(pace.at_most_every));
        Lease { store, name: format!("outbox {sink}"), holder, half, until: None }
    }

    /// Takes or renews it, if it is time to. False when another process has it.
    pub async fn take(&mut self, stop: &Stop) -> Result<bool, Ended> {
        if is_there(Bug::NoLease) {
            return Ok(true);
        }
        if self.until.is_some_and(|until| Instant::now() + self.half < until) {
            return Ok(true);
        }
        let lasts = self.half.saturating_mul(2);
        // It lasts from when the store has heard of it, which is later.
        let mut asked = Instant::now();
        let ask = || {
            asked = Instant::now();
            self.store.lease(&self.name, &self.holder, lasts)
        };
        let is_held = stop.ask_store(ask).await?;
        self.until = is_held.then(|| asked + lasts);
        Ok(is_held)
    }

    /// Gives it back: whoever comes next need not wait until it has run out.
    pub async fn release(&self) {
        if self.until.is_none() {
            return;
        }
        match timeout(RELEASE_WITHIN, self.store.release(&self.name, &self.holder)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!("the lease `{}` is left to run out: {}", self.name, error.chain()),
            Err(_) => debug!("the lease `{}` is left to run out: the state store does not answer", self.name),
        }
    }
}
