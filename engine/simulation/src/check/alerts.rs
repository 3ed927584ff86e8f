//! Alerts: each in the outbox once and delivered, alone or in a digest of the right count.

use std::collections::BTreeMap;

use super::Differences;
use crate::store::Waiting;

impl Differences<'_> {
    /// Every alert is in the outbox once and was delivered at least once.
    pub(super) fn alerts(&mut self) {
        let waiting: Vec<&Waiting> = self.state.store.log.seen().outboxes.alerts.values().collect();
        let mut by_id: BTreeMap<&str, Vec<&Waiting>> = BTreeMap::new();
        for one in &waiting {
            by_id.entry(&one.pending.alert.id).or_default().push(one);
        }
        for (id, row) in &self.expected.alerts {
            let found = by_id.get(id.as_str()).map_or(&[][..], Vec::as_slice);
            let plain = |one: &&&Waiting| {
                let mut columns = one.pending.alert.row.clone();
                columns.shift_remove("version");
                let mut expected = row.clone();
                expected.shift_remove("version");
                columns == expected
            };
            // One that could not be delivered and was processed again is there once more.
            if found.is_empty() || found.iter().filter(plain).count() != found.len() {
                self.say(format!("alert {id} is {} times in the outbox, or with other columns", found.len()));
            }
            if 1 < found.len() && !self.was_asked_again() {
                self.say(format!("alert {id} is {} times in the outbox", found.len()));
            }
        }
        for id in by_id.keys().filter(|id| !self.expected.alerts.contains_key(**id)).map(|id| id.to_string()) {
            self.say(format!("alert {id} would not be there"));
        }
        self.deliveries(&waiting);
    }

    fn was_asked_again(&self) -> bool {
        self.state.counts.contains_key("letters processed again")
    }

    fn deliveries(&mut self, waiting: &[&Waiting]) {
        let mut digests: BTreeMap<i64, Vec<&Waiting>> = BTreeMap::new();
        for one in waiting {
            let id = &one.pending.alert.id;
            if one.delivered_at.is_none() {
                self.say(format!("alert {id} waits still"));
            }
            match one.pending.digest {
                Some(digest) => digests.entry(digest).or_default().push(one),
                None if self.is_buried(one) => {}
                None => self.came(id, None),
            }
        }
        digests.retain(|_, members| !members.iter().any(|one| self.is_buried(one)));
        for members in digests.values() {
            self.came(&members[0].pending.alert.id, Some(members.len() as u64));
        }
    }

    /// Whether it could not be delivered: then it is a dead letter, or was one.
    fn is_buried(&self, one: &Waiting) -> bool {
        let letters = self.state.store.log.seen().letters.values();
        let mut letters = letters.filter(|letter| letter.letter.row.stage == one.sink);
        self.was_asked_again() || letters.any(|letter| letter.letter.row.offset == one.pending.offset)
    }

    fn came(&mut self, id: &str, digest_of: Option<u64>) {
        match self.state.mailbox.delivered.get(id) {
            Some(delivered) if delivered.digest_of == digest_of => {}
            Some(delivered) => {
                let found = delivered.digest_of;
                self.say(format!("alert {id} stood for {found:?} rows, it would for {digest_of:?}"));
            }
            None => self.say(format!("alert {id} was never delivered")),
        }
    }
}
