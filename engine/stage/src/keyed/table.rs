//! All series of one detector in one task: found by key, limited in number, saved by what has changed.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StageError};
use crate::position::Timestamp;
use crate::state::{SavedState, StateWriter, decode, encode};

/// One series.
pub(super) struct Slot<S> {
    key: Box<[u8]>,
    pub series: S,
    /// When its last reading was, in event time.
    pub last_at: Option<Timestamp>,
    /// The number of its last reading among all readings: who was read longest ago.
    last_reading: u64,
    is_changed: bool,
}

/// The series, each in a slot that does not move while there is room.
pub(super) struct Table<S> {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Slot<S>>,
    max_series: usize,
    readings: u64,
    changed: Vec<u32>,
    /// Keys whose series was forgotten since the last save.
    forgotten: Vec<Box<[u8]>>,
    n_forgotten: u64,
    version: u16,
}

/// One series as it is saved.
#[derive(Serialize, Deserialize)]
struct Saved<S> {
    version: u16,
    at: Option<Timestamp>,
    reading: u64,
    series: S,
}

/// Of a saved series just its version, to tell words from nonsense before the rest is read.
#[derive(Deserialize)]
struct SavedVersion {
    version: u16,
}

/// When the table is full, one of this many series is forgotten at once: finding the oldest costs a pass over all.
const FORGET_PART: usize = 16;

impl<S> Table<S> {
    /// The table as it was saved; `adopt` sees each series in its saved form.
    pub fn restore<T: DeserializeOwned>(
        saved: &SavedState,
        version: u16,
        max_series: usize,
        mut adopt: impl FnMut(T) -> Result<S>,
    ) -> Result<Self> {
        let mut table = Table {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::with_capacity(saved.entries.len()),
            max_series,
            readings: 0,
            changed: Vec::new(),
            forgotten: Vec::new(),
            n_forgotten: 0,
            version,
        };
        for (key, value) in &saved.entries {
            table.restore_one(key, value, &mut adopt)?;
        }
        while table.slots.len() > table.max_series {
            table.forget_oldest(table.slots.len() - table.max_series, drop);
        }
        Ok(table)
    }

    fn restore_one<T: DeserializeOwned>(
        &mut self,
        key: &[u8],
        value: &[u8],
        adopt: &mut impl FnMut(T) -> Result<S>,
    ) -> Result<()> {
        let found = decode::<SavedVersion>(value)?.version;
        if found != self.version {
            return Err(StageError::fatal(format!(
                "the saved state has version {found}, this detector reads version {}",
                self.version
            )));
        }
        let saved: Saved<T> = decode(value)?;
        self.readings = self.readings.max(saved.reading + 1);
        let hash = self.hasher.hash_one(key);
        self.insert(hash, key, adopt(saved.series)?);
        let slot = self.slots.last_mut().expect("just inserted");
        (slot.last_at, slot.last_reading, slot.is_changed) = (saved.at, saved.reading, false);
        Ok(())
    }

    /// The series of a key, made by `start` if there is none, and counted as read now. When that takes the place of
    /// others, `forget` is given them.
    pub fn touch(&mut self, key: &[u8], start: impl FnOnce() -> S, forget: impl FnMut(S)) -> &mut Slot<S> {
        let hash = self.hasher.hash_one(key);
        let found = self.index.find(hash, |&slot| *self.slots[slot as usize].key == *key).copied();
        let number = match found {
            Some(number) => number,
            None => {
                if self.slots.len() >= self.max_series {
                    self.forget_oldest((self.max_series / FORGET_PART).max(1), forget);
                }
                self.insert(hash, key, start());
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[number as usize];
        slot.last_reading = self.readings;
        self.readings += 1;
        if !slot.is_changed {
            slot.is_changed = true;
            self.changed.push(number);
        }
        slot
    }

    fn insert(&mut self, hash: u64, key: &[u8], series: S) {
        let number = self.slots.len() as u32;
        self.slots.push(Slot { key: key.into(), series, last_at: None, last_reading: 0, is_changed: false });
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, number, |&slot| hasher.hash_one(&*slots[slot as usize].key));
    }

    /// Forgets the `count` series that were read longest ago.
    fn forget_oldest(&mut self, count: usize, mut forget: impl FnMut(S)) {
        let mut ages: Vec<u64> = self.slots.iter().map(|slot| slot.last_reading).collect();
        let (_, &mut limit, _) = ages.select_nth_unstable(count - 1);
        let (old, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.slots).into_iter().partition(|slot| slot.last_reading <= limit);
        self.n_forgotten += old.len() as u64;
        for slot in old {
            self.forgotten.push(slot.key);
            forget(slot.series);
        }
        self.index.clear();
        self.changed.clear();
        for slot in kept {
            let (hash, is_changed) = (self.hasher.hash_one(&*slot.key), slot.is_changed);
            let number = self.slots.len() as u32;
            self.slots.push(slot);
            let (slots, hasher) = (&self.slots, &self.hasher);
            self.index.insert_unique(hash, number, |&slot| hasher.hash_one(&*slots[slot as usize].key));
            if is_changed {
                self.changed.push(number);
            }
        }
    }

    /// The series that have changed since the last save, in the order in which `save` will write them.
    pub fn changed(&self) -> impl Iterator<Item = &S> {
        self.changed.iter().map(|&number| &self.slots[number as usize].series)
    }

    /// All series there are.
    pub fn all(&self) -> impl Iterator<Item = &S> {
        self.slots.iter().map(|slot| &slot.series)
    }

    /// Writes what has changed since the last call, each series in the form that `saved` gives it.
    pub fn save<'a, T: Serialize + 'a>(
        &'a mut self,
        changes: &mut dyn StateWriter,
        mut saved: impl FnMut(&'a S) -> T,
    ) -> Result<()> {
        let Table { slots, changed, forgotten, version, .. } = self;
        // A key may have been forgotten and then read again: its put comes after its delete.
        for key in forgotten.drain(..) {
            changes.delete(&key);
        }
        changed.iter().for_each(|&number| slots[number as usize].is_changed = false);
        let slots: &'a [Slot<S>] = slots;
        let mut buffer = Vec::new();
        for number in changed.drain(..) {
            let slot = &slots[number as usize];
            let saved =
                Saved { version: *version, at: slot.last_at, reading: slot.last_reading, series: saved(&slot.series) };
            encode(&saved, &mut buffer)?;
            changes.put(&slot.key, &buffer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

    impl StateWriter for Store {
        fn put(&mut self, key: &[u8], value: &[u8]) {
            self.0.insert(key.into(), value.into());
        }
        fn delete(&mut self, key: &[u8]) {
            self.0.remove(key);
        }
    }

    fn restore(store: &Store, max_series: usize) -> Table<u32> {
        let saved = SavedState { entries: store.0.clone().into_iter().collect() };
        Table::restore(&saved, 1, max_series, Ok::<u32, _>).unwrap()
    }

    #[test]
    fn forgets_those_that_were_read_longest_ago() {
        let mut table = restore(&Store::default(), 3);
        for key in [b"a", b"b", b"c", b"a", b"d"] {
            table.touch(key, || 0, drop).series += 1;
        }
        assert_eq!(table.n_forgotten, 1);
        assert_eq!(table.touch(b"a", || 0, drop).series, 2);
        assert_eq!(table.touch(b"b", || 77, drop).series, 77, "b was forgotten");
    }

    #[test]
    fn saves_what_has_changed_and_nothing_else() {
        let (mut store, mut table) = (Store::default(), restore(&Store::default(), 2));
        table.touch(b"a", || 1, drop);
        table.touch(b"b", || 2, drop);
        table.save(&mut store, |series| series).unwrap();
        let mut second = Store::default();
        table.touch(b"b", || 0, drop).series = 5;
        table.save(&mut second, |series| series).unwrap();
        assert_eq!(second.0.len(), 1);
        table.touch(b"c", || 3, drop);
        table.save(&mut store, |series| series).unwrap();
        assert_eq!(store.0.keys().collect::<Vec<_>>(), [b"b", b"c"]);
    }

    #[test]
    fn the_order_of_forgetting_survives_a_restart() {
        let mut store = Store::default();
        let mut table = restore(&store, 3);
        for key in [b"c", b"b", b"a"] {
            table.touch(key, || 1, drop);
        }
        table.save(&mut store, |series| series).unwrap();
        let mut table = restore(&store, 2);
        assert_eq!(table.n_forgotten, 1, "there is room for two only");
        assert_eq!(table.touch(b"b", || 9, drop).series, 1);
        assert_eq!(table.touch(b"c", || 9, drop).series, 9);
    }

    #[test]
    fn refuses_state_of_another_version() {
        let (mut store, mut table) = (Store::default(), restore(&Store::default(), 2));
        table.touch(b"a", || 1, drop);
        table.save(&mut store, |series| series).unwrap();
        let saved = SavedState { entries: store.0.into_iter().collect() };
        let error = Table::<u32>::restore::<u32>(&saved, 2, 2, Ok).err().unwrap().to_string();
        assert_eq!(error, "the saved state has version 1, this detector reads version 2");
    }
}
