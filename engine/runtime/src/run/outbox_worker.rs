//! Empties an outbox: in order, at the sink's pace, for ever, by one process at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipeline_stage::{Alert, ErrorKind, OutboxSink, Pace, Result, StageError, Timestamp, WhenFull};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::clock::Clock;
use super::retry::{Retry, until_it_works};
use crate::store::{DeadLetter, NewAlert, Pending, StateStore};

/// One outbox, as the tasks see it.
pub struct Outbox {
    /// The sink's id.
    pub sink: String,
    pace: Pace,
    waiting: AtomicU64,
    /// Somebody has put something in, or taken something out.
    changed: Notify,
}

impl Outbox {
    /// The outbox of a sink with what waits in it already.
    pub async fn open(sink: &str, pace: Pace, store: &dyn StateStore) -> Result<Arc<Self>> {
        let waiting = AtomicU64::new(store.count_pending(sink).await?);
        Ok(Arc::new(Outbox { sink: sink.into(), pace, waiting, changed: Notify::new() }))
    }

    /// How many alerts wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Waits until there is room, if the sink wants that, and decides which alerts are too many.
    pub async fn admit(&self, alerts: &mut [NewAlert]) {
        if alerts.is_empty() {
            return;
        }
        if self.pace.when_full == WhenFull::Wait {
            return self.has_room().await;
        }
        let room = self.pace.max_pending.saturating_sub(self.waiting()) as usize;
        for alert in alerts.iter_mut().skip(room) {
            alert.is_excess = true;
        }
    }

    async fn has_room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.waiting() < self.pace.max_pending {
                return;
            }
            changed.await;
        }
    }

    /// So many alerts are in the store now.
    pub fn put(&self, count: u64) {
        if 0 < count {
            self.waiting.fetch_add(count, Ordering::AcqRel);
            self.changed.notify_waiters();
        }
    }

    /// Waits until it is empty.
    pub async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.waiting() == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// Delivers what is in an outbox until it is told to stop.
pub struct OutboxWorker {
    /// The outbox.
    pub outbox: Arc<Outbox>,
    /// Its sink.
    pub sink: Box<dyn OutboxSink>,
    /// Where it is kept.
    pub store: Arc<dyn StateStore>,
    /// The engine's clock.
    pub clock: Arc<dyn Clock>,
    /// Names this process, for the lease.
    pub holder: String,
    /// Until when this process has the lease; renewed when half of it is over.
    pub leased_until: Option<Timestamp>,
    /// Set when the process stops: the delivery under way is finished, no other is begun.
    pub stop: watch::Receiver<bool>,
}

/// As long as a process that died may hold up the deliveries of the others.
const LEASE: Duration = Duration::from_secs(30);
/// How often an idle worker looks whether another process has put something in.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Alerts read from the store at once.
const READ_AHEAD: u32 = 100;

impl OutboxWorker {
    /// Runs until stopped.
    ///
    /// # Errors
    /// When the store fails for good.
    pub async fn run(mut self) -> Result<()> {
        let mut stop = self.stop.clone();
        let mut not_before = Instant::now();
        while !*stop.borrow() {
            let outbox = self.outbox.clone();
            let changed = outbox.changed.notified();
            let has_lease = self.take_lease().await?;
            let pending = if has_lease { self.read().await? } else { self.look().await? };
            if pending.is_empty() {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    _ = stop.changed() => {}
                }
                continue;
            }
            self.deliver_all(pending, &mut not_before, &mut stop).await?;
        }
        Ok(())
    }

    async fn take_lease(&mut self) -> Result<bool> {
        let now = self.clock.now();
        let half = LEASE.as_micros() as i64 / 2;
        if self.leased_until.is_some_and(|until| now.0 + half < until.0) {
            return Ok(true);
        }
        let until = Timestamp(now.0 + LEASE.as_micros() as i64);
        let name = format!("outbox {}", self.outbox.sink);
        let is_held = until_it_works("state store", || self.store.lease(&name, &self.holder, now, until)).await?;
        self.leased_until = is_held.then_some(until);
        Ok(is_held)
    }

    async fn read(&mut self) -> Result<Vec<Pending>> {
        let sink = &self.outbox.sink;
        let pending = until_it_works("state store", || self.store.pending(sink, READ_AHEAD)).await?;
        if pending.is_empty() {
            // Another process may have delivered some of those counted here.
            self.outbox.waiting.store(0, Ordering::Release);
            self.outbox.changed.notify_waiters();
        }
        Ok(pending)
    }

    /// Another process delivers: counts what it has left.
    async fn look(&mut self) -> Result<Vec<Pending>> {
        let sink = &self.outbox.sink;
        let waiting = until_it_works("state store", || self.store.count_pending(sink)).await?;
        self.outbox.waiting.store(waiting, Ordering::Release);
        self.outbox.changed.notify_waiters();
        Ok(Vec::new())
    }

    async fn deliver_all(
        &mut self,
        pending: Vec<Pending>,
        not_before: &mut Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<()> {
        for group in in_groups(pending) {
            tokio::select! {
                () = sleep_until(*not_before) => {}
                _ = stop.changed() => return Ok(()),
            }
            *not_before = Instant::now() + self.outbox.pace.at_most_every;
            if !self.deliver(&group, stop).await? {
                return Ok(());
            }
            if !self.take_lease().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Delivers one alert or digest; false when it was told to stop before it could.
    async fn deliver(&mut self, group: &[Pending], stop: &mut watch::Receiver<bool>) -> Result<bool> {
        let alert = digest(group);
        let mut retry = Retry::new(&self.outbox.sink);
        loop {
            let outcome = match timeout(self.outbox.pace.timeout, self.sink.deliver(&alert)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let limit = humantime_text(self.outbox.pace.timeout);
                    Err(StageError::transient(format!("no answer within {limit}")))
                }
            };
            match outcome {
                Ok(()) => {
                    retry.worked();
                    self.finish(group).await?;
                    return Ok(true);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Data) => {
                    self.bury(group, &error).await?;
                    return Ok(true);
                }
                Err(error) => tokio::select! {
                    waited = retry.wait(error) => waited?,
                    _ = stop.changed() => return Ok(false),
                },
            }
            if !self.take_lease().await? {
                return Ok(false);
            }
        }
    }

    async fn finish(&mut self, group: &[Pending]) -> Result<()> {
        let numbers: Vec<i64> = group.iter().map(|pending| pending.number).collect();
        let now = self.clock.now();
        until_it_works("state store", || self.store.delivered(&numbers, now)).await?;
        self.taken_out(group);
        Ok(())
    }

    async fn bury(&mut self, group: &[Pending], error: &StageError) -> Result<()> {
        for pending in group {
            let letter = self.letter(pending, error);
            until_it_works("state store", || self.store.undeliverable(pending.number, &letter)).await?;
        }
        self.taken_out(group);
        Ok(())
    }

    fn letter(&self, pending: &Pending, error: &StageError) -> DeadLetter {
        DeadLetter {
            stage: self.outbox.sink.clone(),
            task: pending.task.clone(),
            place: pending.place.clone(),
            offset: pending.offset,
            epoch: pending.epoch,
            reason: error.chain(),
            bytes: serde_json::to_vec(&pending.alert.row).ok(),
            at: self.clock.now(),
        }
    }

    fn taken_out(&self, group: &[Pending]) {
        let count = group.len() as u64;
        let left = |waiting: u64| Some(waiting.saturating_sub(count));
        let _ = self.outbox.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, left);
        self.outbox.changed.notify_waiters();
    }
}

fn humantime_text(duration: Duration) -> String {
    pipeline_stage::Span(duration).to_string()
}

/// Each alert alone, those in excess together.
fn in_groups(pending: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut groups: Vec<Vec<Pending>> = Vec::new();
    for next in pending {
        match groups.last_mut() {
            Some(group) if next.is_excess && group[0].is_excess => group.push(next),
            _ => groups.push(vec![next]),
        }
    }
    groups
}

/// The one alert, or one that stands for all of a group. Its id is that of the first: a repeat has it again.
fn digest(group: &[Pending]) -> Alert {
    let first = &group[0].alert;
    match group {
        [one] if !one.is_excess => first.clone(),
        _ => Alert {
            id: first.id.clone(),
            row: group[group.len() - 1].alert.row.clone(),
            digest_of: Some(group.len() as u64),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(number: i64, is_excess: bool) -> Pending {
        let alert = Alert { id: number.to_string(), row: serde_json::Map::new(), digest_of: None };
        Pending { number, alert, is_excess, task: "0".into(), place: "readings/0".into(), offset: 0, epoch: 1 }
    }

    #[test]
    fn alerts_in_excess_become_one_digest() {
        let groups = in_groups(vec![pending(1, false), pending(2, false), pending(3, true), pending(4, true)]);
        let numbers: Vec<Vec<i64>> = groups.iter().map(|group| group.iter().map(|p| p.number).collect()).collect();
        assert_eq!(numbers, [vec![1], vec![2], vec![3, 4]]);
        assert_eq!(digest(&groups[0]).digest_of, None);
        let summary = digest(&groups[2]);
        assert_eq!((summary.id.as_str(), summary.digest_of), ("3", Some(2)));
    }
}
