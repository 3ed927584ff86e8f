//! Outboxes and their leases, as the log file holds them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipeline_runtime::store::{Append, DeadLetter, Digest, OutboxStore, Pending};
use pipeline_stage::{Result, Timestamp};

use super::SimulatedStore;
use super::log::Log;
use crate::world::{Mode, State};

/// All outboxes.
#[derive(Debug, Clone, Default)]
pub struct Outboxes {
    /// By number.
    pub alerts: BTreeMap<i64, Waiting>,
    /// By name: holder and end.
    pub leases: BTreeMap<String, (String, i64)>,
    last: i64,
}

/// An alert as it is stored.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Of the sink.
    pub sink: String,
    /// What it is.
    pub pending: Pending,
    /// When it was delivered.
    pub delivered_at: Option<Timestamp>,
}

impl Outboxes {
    /// Puts in what an epoch gave.
    pub fn insert(&mut self, append: &Append) {
        for new in &append.alerts {
            self.last += 1;
            let pending = Pending {
                number: self.last,
                alert: new.alert.clone(),
                is_excess: new.is_excess,
                digest: None,
                task: append.task.clone(),
                place: new.place.clone(),
                offset: new.offset,
                branch: new.branch,
                epoch: append.entry.epoch,
            };
            self.alerts.insert(self.last, Waiting { sink: new.sink.clone(), pending, delivered_at: None });
        }
    }

    fn waiting(&self, sink: &str) -> impl Iterator<Item = &Pending> {
        self.alerts.values().filter(move |one| one.sink == sink && one.delivered_at.is_none()).map(|one| &one.pending)
    }

    fn delivered(&mut self, number: i64, at: Timestamp) {
        if let Some(alert) = self.alerts.get_mut(&number) {
            alert.delivered_at = Some(at);
        }
    }

    fn digest(&mut self, sink: &str, first: i64) -> Option<Digest> {
        let digest = match self.alerts.get(&first)?.pending.digest {
            Some(digest) => digest,
            None => self.make_digest(sink, first),
        };
        let members: Vec<&Pending> = self.waiting(sink).filter(|one| one.digest == Some(digest)).collect();
        let last = members.last()?.alert.clone();
        Some(Digest { number: digest, count: members.len() as u64, last })
    }

    fn make_digest(&mut self, sink: &str, first: i64) -> i64 {
        let is_end = |one: &&Pending| first < one.number && (!one.is_excess || one.digest.is_some());
        let end = self.waiting(sink).find(is_end).map_or(i64::MAX, |one| one.number);
        for alert in self.alerts.range_mut(first..end).map(|(_, alert)| alert) {
            if alert.sink == sink && alert.delivered_at.is_none() {
                alert.pending.digest = Some(first);
            }
        }
        first
    }

    fn lease(&mut self, name: &str, holder: &str, has_run_out_before: i64, until: i64) -> bool {
        if let Some((other, end)) = self.leases.get(name)
            && other != holder
            && has_run_out_before <= *end
        {
            return false;
        }
        self.leases.insert(name.into(), (holder.into(), until));
        true
    }
}

#[async_trait]
impl OutboxStore for SimulatedStore {
    async fn pending(&self, sink: &str, limit: u32) -> Result<Vec<Pending>> {
        let read = |log: &Log| log.outboxes.waiting(sink).take(limit as usize).cloned().collect();
        self.read("looks into the outbox", read).await
    }

    async fn count_pending(&self, sink: &str) -> Result<u64> {
        self.read("counts the outbox", |log| log.outboxes.waiting(sink).count() as u64).await
    }

    async fn digest(&self, sink: &str, first: i64) -> Result<Option<Digest>> {
        let sink: Arc<str> = sink.into();
        self.write(&format!("makes digest {first}"), move |log| log.outboxes.digest(&sink, first)).await
    }

    async fn delivered(&self, number: i64, at: Timestamp) -> Result<()> {
        let who = format!("notes alert {number} as delivered");
        self.write(&who, move |log| log.outboxes.delivered(number, at)).await
    }

    async fn digest_delivered(&self, sink: &str, digest: i64, at: Timestamp) -> Result<()> {
        let sink: Arc<str> = sink.into();
        self.write(&format!("notes digest {digest} as delivered"), move |log| {
            for alert in log.outboxes.alerts.values_mut() {
                if *alert.sink == *sink && alert.delivered_at.is_none() && alert.pending.digest == Some(digest) {
                    alert.delivered_at = Some(at);
                }
            }
        })
        .await
    }

    async fn undeliverable(&self, letters: &[(i64, DeadLetter)]) -> Result<()> {
        let letters: Arc<[(i64, DeadLetter)]> = letters.into();
        self.write("buries alerts", move |log| {
            for (number, letter) in letters.iter() {
                log.add_letters(std::slice::from_ref(letter));
                log.outboxes.delivered(*number, letter.at);
            }
        })
        .await
    }

    async fn drop_delivered(&self, sink: &str, before: Timestamp, limit: u32) -> Result<u64> {
        let sink: Arc<str> = sink.into();
        self.write("tidies the outbox", move |log| {
            let alerts = &mut log.outboxes.alerts;
            let is_old = |alert: &Waiting| {
                *alert.sink == *sink && alert.delivered_at.is_some_and(|delivered| delivered < before)
            };
            let mut old: Vec<(Option<Timestamp>, i64)> = alerts
                .iter()
                .filter(|(_, alert)| is_old(alert))
                .map(|(number, alert)| (alert.delivered_at, *number))
                .collect();
            old.sort();
            old.truncate(limit as usize);
            old.iter().for_each(|(_, number)| drop(alerts.remove(number)));
            old.len() as u64
        })
        .await
    }

    async fn lease(&self, name: &str, holder: &str, lasts: Duration) -> Result<bool> {
        let (name, holder): (Arc<str>, Arc<str>) = (name.into(), holder.into());
        let (world, is_shared) = (self.process.world.clone(), self.mode() == Mode::Shared);
        let take = move |state: &mut State| {
            let now = world.driver.now() as i64;
            // A folder has one user: whoever has held a lease in it before is dead.
            let has_run_out_before = if is_shared { now } else { i64::MAX };
            let until = now + lasts.as_millis() as i64;
            Ok(state.store.log.write(move |log| log.outboxes.lease(&name, &holder, has_run_out_before, until)))
        };
        self.step("takes the lease", take, |state| state.store.log.sync()).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        let (name, holder): (Arc<str>, Arc<str>) = (name.into(), holder.into());
        self.write("gives the lease back", move |log| {
            let leases = &mut log.outboxes.leases;
            if leases.get(&*name).is_some_and(|(other, _)| **other == *holder) {
                leases.remove(&*name);
            }
        })
        .await
    }
}
