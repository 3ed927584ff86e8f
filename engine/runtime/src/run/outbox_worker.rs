//! Empties an outbox: in order, at the sink's pace, for ever, by one process at a time.

use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{Alert, ErrorKind, OutboxSink, Result, Span, StageError, Timestamp};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::clock::Clock;
use super::lease::Lease;
use super::outbox::Outbox;
use super::retry::Retry;
use super::told::{Ended, Stop};
use crate::bugs::{Bug, is_there};
use crate::store::{DeadLetter, Digest, OutboxStore, Pending, StoredRow};

/// Delivers what is in an outbox until it is told to stop.
pub struct OutboxWorker {
    outbox: Arc<Outbox>,
    sink: Box<dyn OutboxSink>,
    store: Arc<dyn OutboxStore>,
    clock: Arc<dyn Clock>,
    lease: Lease,
    /// The sink's pace allows no delivery earlier.
    not_before: Instant,
    /// When alerts that were delivered are deleted next.
    next_tidy: Instant,
}

/// How often an idle worker looks whether another process has put something in.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Alerts read from the store at once.
const READ_AHEAD: u32 = 100;
/// How long alerts that were delivered are kept, for people who ask what became of one.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked for older ones.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Older ones deleted at once: a few milliseconds, so that no epoch waits for it.
const TIDIED_AT_ONCE: u32 = 1_000;

/// What became of a delivery.
enum Outcome {
    Taken,
    /// It can never be.
    Refused(StageError),
    /// Another process delivers from here on.
    LeaseLost,
}

impl OutboxWorker {
    /// Nothing is delivered yet.
    pub fn new(
        outbox: Arc<Outbox>,
        sink: Box<dyn OutboxSink>,
        store: Arc<dyn OutboxStore>,
        clock: Arc<dyn Clock>,
        lease: Lease,
    ) -> Self {
        let now = Instant::now();
        OutboxWorker { outbox, sink, store, clock, lease, not_before: now, next_tidy: now }
    }

    /// Runs until it is told to stop: the delivery under way is finished then, no other is begun.
    ///
    /// # Errors
    /// When the store or the sink fails for good.
    pub async fn run(mut self, stop: Stop) -> Result<()> {
        let ended = self.run_until(&stop).await;
        self.lease.release().await;
        match ended {
            Ok(()) | Err(Ended::Told) => Ok(()),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    async fn run_until(&mut self, stop: &Stop) -> Result<(), Ended> {
        while !stop.is_told() {
            let has_lease = self.lease.take(stop).await?;
            if !has_lease {
                self.look(stop).await?;
            } else if self.deliver_some(stop).await? {
                continue;
            }
            // What another process delivers is counted at leisure, however much this one puts in.
            tokio::select! {
                biased;
                () = self.outbox.news.notified(), if has_lease => {}
                () = sleep(LOOK_EVERY) => {}
                () = stop.told() => {}
            }
        }
        Ok(())
    }

    /// Another process delivers: counts what it has left.
    async fn look(&mut self, stop: &Stop) -> Result<(), Ended> {
        let waiting = stop.ask_store(|| self.store.count_pending(&self.outbox.sink)).await?;
        self.outbox.counted(waiting);
        Ok(())
    }

    /// Delivers the oldest alerts; false when there was none.
    async fn deliver_some(&mut self, stop: &Stop) -> Result<bool, Ended> {
        self.tidy(stop).await?;
        let pending = self.read(stop).await?;
        let is_empty = pending.is_empty();
        for next in pending {
            if !self.deliver_next(next, stop).await? {
                break;
            }
        }
        Ok(!is_empty)
    }

    async fn read(&mut self, stop: &Stop) -> Result<Vec<Pending>, Ended> {
        let sink = &self.outbox.sink;
        let pending = stop.ask_store(|| self.store.pending(sink, READ_AHEAD)).await?;
        // Other processes put in, and have delivered, what was not counted here.
        let waiting = match pending.len() as u64 {
            few if few < u64::from(READ_AHEAD) => few,
            _ => stop.ask_store(|| self.store.count_pending(sink)).await?,
        };
        self.outbox.counted(waiting);
        Ok(pending)
    }

    /// Deletes some of the alerts that were delivered long ago, if it is time to.
    async fn tidy(&mut self, stop: &Stop) -> Result<(), Ended> {
        if Instant::now() < self.next_tidy {
            return Ok(());
        }
        let before = Timestamp(self.clock.now().0 - KEPT.as_micros() as i64);
        let sink = &self.outbox.sink;
        let deleted = stop.ask_store(|| self.store.drop_delivered(sink, before, TIDIED_AT_ONCE)).await?;
        if deleted < u64::from(TIDIED_AT_ONCE) {
            self.next_tidy = Instant::now() + TIDY_EVERY;
        }
        Ok(())
    }

    /// Delivers one alert, or the digest that it is in. False when those read ahead are not the next any more.
    async fn deliver_next(&mut self, next: Pending, stop: &Stop) -> Result<bool, Ended> {
        self.wait_for_turn(stop).await?;
        // The pause may have been longer than the lease.
        if !self.lease.take(stop).await? {
            return Ok(false);
        }
        if next.is_excess {
            self.deliver_digest(&next, stop).await?;
            return Ok(false);
        }
        if is_there(Bug::NotedBeforeDelivered) {
            stop.ask_store(|| self.store.delivered(next.number, self.clock.now())).await?;
        }
        match self.deliver(&next.alert, stop).await? {
            Outcome::Taken => {
                let now = self.clock.now();
                stop.ask_store(|| self.store.delivered(next.number, now)).await?;
                self.outbox.delivered(1);
            }
            Outcome::Refused(error) => {
                self.bury(&[next], &error, stop).await?;
                self.outbox.taken_out(1);
            }
            Outcome::LeaseLost => return Ok(false),
        }
        Ok(true)
    }

    async fn wait_for_turn(&mut self, stop: &Stop) -> Result<(), Ended> {
        // A timer is a millisecond late at least.
        if self.not_before <= Instant::now() && !stop.is_told() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = stop.told() => Err(Ended::Told),
            () = sleep_until(self.not_before) => Ok(()),
        }
    }

    async fn deliver_digest(&mut self, first: &Pending, stop: &Stop) -> Result<(), Ended> {
        let sink = self.outbox.sink.clone();
        let digest = stop.ask_store(|| self.store.digest(&sink, first.number)).await?;
        // None when another process, which had the lease before, has delivered it after all.
        let Some(digest) = digest else { return Ok(()) };
        match self.deliver(&summary(first, &digest), stop).await? {
            Outcome::Taken => {
                let now = self.clock.now();
                stop.ask_store(|| self.store.digest_delivered(&sink, digest.number, now)).await?;
                self.outbox.delivered(digest.count);
            }
            Outcome::Refused(error) => {
                self.bury_digest(&digest, &error, stop).await?;
                self.outbox.taken_out(digest.count);
            }
            Outcome::LeaseLost => return Ok(()),
        }
        Ok(())
    }

    /// Delivers one alert or digest, however long it takes.
    async fn deliver(&mut self, alert: &Alert, stop: &Stop) -> Result<Outcome, Ended> {
        let mut retry = Retry::new(&self.outbox.sink).meanwhile("alerts wait in the outbox");
        loop {
            self.not_before = Instant::now() + self.outbox.pace.at_most_every;
            match self.attempt(alert).await {
                Ok(()) => {
                    retry.worked();
                    return Ok(Outcome::Taken);
                }
                Err(error) if error.kind() == ErrorKind::Data => {
                    retry.worked();
                    return Ok(Outcome::Refused(error));
                }
                Err(error) => tokio::select! {
                    biased;
                    waited = retry.wait(error) => waited.map_err(|error| error.named(&self.outbox.sink))?,
                    () = stop.told() => return Err(Ended::Told),
                },
            }
            self.wait_for_turn(stop).await?;
            if !self.lease.take(stop).await? {
                return Ok(Outcome::LeaseLost);
            }
        }
    }

    async fn attempt(&mut self, alert: &Alert) -> Result<()> {
        let limit = self.outbox.pace.timeout;
        match timeout(limit, self.sink.deliver(alert)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StageError::transient(format!("no answer within {}", Span(limit)))),
        }
    }

    async fn bury(&mut self, pending: &[Pending], error: &StageError, stop: &Stop) -> Result<(), Ended> {
        let letters: Vec<_> = pending.iter().map(|one| (one.number, self.letter(one, error))).collect();
        stop.ask_store(|| self.store.undeliverable(&letters)).await?;
        if self.outbox.refused(letters.len() as u64, &error.chain()) {
            warn!("{}: {}; the alert is a dead letter now, as others may be", self.outbox.sink, error.chain());
        }
        Ok(())
    }

    /// Part by part; what is left after a crash is refused again.
    async fn bury_digest(&mut self, digest: &Digest, error: &StageError, stop: &Stop) -> Result<(), Ended> {
        loop {
            let pending = stop.ask_store(|| self.store.pending(&self.outbox.sink, READ_AHEAD)).await?;
            let members: Vec<Pending> =
                pending.into_iter().filter(|pending| pending.digest == Some(digest.number)).collect();
            if members.is_empty() {
                return Ok(());
            }
            self.bury(&members, error, stop).await?;
        }
    }

    fn letter(&self, pending: &Pending, error: &StageError) -> DeadLetter {
        let row = StoredRow {
            stage: self.outbox.sink.clone(),
            edge: 0,
            place: pending.place.clone(),
            offset: pending.offset,
            branch: pending.branch,
            bytes: serde_json::to_vec(&pending.alert.row).ok(),
            beside: None,
        };
        DeadLetter {
            row,
            task: pending.task.clone(),
            epoch: pending.epoch,
            reason: error.chain(),
            at: self.clock.now(),
        }
    }
}

/// The one alert that stands for all of a digest. Its id is that of the first: a repeat has it again.
fn summary(first: &Pending, digest: &Digest) -> Alert {
    Alert { id: first.alert.id.clone(), row: digest.last.row.clone(), digest_of: Some(digest.count) }
}

#[cfg(test)]
mod tests;
