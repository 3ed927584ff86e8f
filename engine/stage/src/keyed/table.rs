//! All series of one detector in one task: found by key, limited in number, saved by what has changed.

use std::slice;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ahead::NOWHERE;
use super::index::Index;
use super::keys::{hash_of, is_same};
use crate::error::{Result, StageError};
use crate::position::Timestamp;
use crate::processor::prefetch;
use crate::state::{SavedState, StateWriter, decode, encode};

/// One series. It begins with a line of memory, so that it takes no more of them than it must.
#[repr(align(64))]
pub(super) struct Slot<S> {
    key: Box<[u8]>,
    pub series: S,
    /// When its last reading was, in event time.
    pub last_at: Option<Timestamp>,
    /// The number of its last reading among all readings: who was read longest ago.
    last_reading: u64,
    /// Before which save it has changed last, by the number of the save; 0 once that has written it.
    changed_before: u32,
}

/// The series, each in a slot that does not move while there is room.
pub(super) struct Table<S> {
    index: Index,
    slots: Vec<Slot<S>>,
    max_series: usize,
    readings: u64,
    /// The number of the next save.
    next_save: u32,
    /// The slots that have changed before it.
    changed: Vec<u32>,
    /// Keys whose series was forgotten since the last save began.
    forgotten: Vec<Box<[u8]>>,
    n_forgotten: u64,
    version: u16,
    saving: Saving,
}

/// A save in parts: what it has still to write.
#[derive(Default)]
struct Saving {
    forgotten: Vec<Box<[u8]>>,
    /// Series that were read or forgotten before their turn came: as they were when the save began.
    early: Vec<KeyAndValue>,
    /// Where a series is written first.
    buffer: Vec<u8>,
    /// The slots that had changed; some of them are among the early ones.
    unsaved: Vec<u32>,
    /// All series are in it.
    is_whole: bool,
    /// What went wrong when one was written early.
    failure: Option<StageError>,
}

/// Of a series, as it is saved.
type KeyAndValue = (Box<[u8]>, Box<[u8]>);

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

/// When three of four series have changed, a save writes all of them: that is less work than to merge it with the ones
/// before, which the store would have to do soon.
const WHOLE_FROM: (usize, usize) = (3, 4);

/// To mark more series than these as changed would hold up the rows: then only what has changed is written, unless that is
/// all.
const MOST_MARKED: usize = 1 << 16;

impl<S: Serialize> Table<S> {
    /// The table as it was saved; `adopt` sees each series in its saved form.
    pub fn restore<T: DeserializeOwned>(
        saved: &SavedState,
        version: u16,
        max_series: usize,
        mut adopt: impl FnMut(T) -> Result<S>,
    ) -> Result<Self> {
        let mut table = Table {
            index: Index::with_capacity(saved.entries.len()),
            slots: Vec::with_capacity(saved.entries.len()),
            max_series,
            readings: 0,
            next_save: 2,
            changed: Vec::new(),
            forgotten: Vec::new(),
            n_forgotten: 0,
            version,
            saving: Saving::default(),
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
        let saved: Saved<T> = match decode::<Saved<T>>(value) {
            Ok(saved) if saved.version == self.version => saved,
            // Another version may look like anything.
            read => match decode::<SavedVersion>(value)?.version {
                found if found != self.version => {
                    return Err(StageError::fatal(format!(
                        "the saved state has version {found}, this detector reads version {}",
                        self.version
                    )));
                }
                _ => read?,
            },
        };
        self.readings = self.readings.max(saved.reading + 1);
        self.insert(hash_of(key), key, adopt(saved.series)?);
        let slot = self.slots.last_mut().expect("just inserted");
        (slot.last_at, slot.last_reading) = (saved.at, saved.reading);
        Ok(())
    }

    /// Where the series of a key most likely stands: one of the same hash.
    #[inline]
    pub fn near(&self, hash: u64) -> u32 {
        self.index.find(hash, |_| true).unwrap_or(NOWHERE)
    }

    /// Asks for what tells where the series of a key stands.
    #[inline]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for a slot: it has the series, and where the rest of it is.
    #[inline]
    pub fn prefetch_slot(&self, near: u32) {
        if let Some(slot) = self.slots.get(near as usize) {
            prefetch(slice::from_ref(slot));
        }
    }

    /// Asks for what is elsewhere: the key, and what `rest` asks for.
    #[inline]
    pub fn prefetch_rest(&self, near: u32, rest: impl Fn(&S)) {
        if let Some(slot) = self.slots.get(near as usize) {
            prefetch(&slot.key);
            rest(&slot.series);
        }
    }

    /// Does something with each of the series there.
    pub fn each_near(&mut self, near: &[u32], mut then: impl FnMut(&mut S)) {
        for &number in near {
            if let Some(slot) = self.slots.get_mut(number as usize) {
                then(&mut slot.series);
            }
        }
    }

    /// The series of a key, made by `start` if there is none, and counted as read now. When that takes the place of
    /// others, `forget` is given them. `hash` is that of the key, `near` where it may stand, or [`NOWHERE`].
    #[inline]
    pub fn touch(
        &mut self,
        (key, hash, near): (&[u8], u64, u32),
        start: impl FnOnce() -> S,
        forget: impl FnMut(S),
    ) -> &mut Slot<S> {
        let is_there = self.slots.get(near as usize).is_some_and(|slot| is_same(&slot.key, key));
        let number = if is_there { near } else { self.find_or_insert(key, hash, start, forget) };
        let slot = &mut self.slots[number as usize];
        if slot.changed_before != self.next_save {
            self.saving.keep(slot, self.next_save, self.version);
            slot.changed_before = self.next_save;
            self.changed.push(number);
        }
        slot.last_reading = self.readings;
        self.readings += 1;
        slot
    }

    fn find_or_insert(&mut self, key: &[u8], hash: u64, start: impl FnOnce() -> S, forget: impl FnMut(S)) -> u32 {
        if let Some(number) = self.index.find(hash, |slot| *self.slots[slot as usize].key == *key) {
            return number;
        }
        if self.slots.len() >= self.max_series {
            self.forget_oldest((self.max_series / FORGET_PART).max(1), forget);
        }
        self.insert(hash, key, start());
        (self.slots.len() - 1) as u32
    }

    fn insert(&mut self, hash: u64, key: &[u8], series: S) {
        self.index.insert(hash, self.slots.len() as u32);
        self.slots.push(Slot { key: key.into(), series, last_at: None, last_reading: 0, changed_before: 0 });
    }

    /// Forgets the `count` series that were read longest ago.
    fn forget_oldest(&mut self, count: usize, mut forget: impl FnMut(S)) {
        let mut ages: Vec<u64> = self.slots.iter().map(|slot| slot.last_reading).collect();
        let (_, &mut limit, _) = ages.select_nth_unstable(count - 1);
        let (old, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.slots).into_iter().partition(|slot| slot.last_reading <= limit);
        self.n_forgotten += old.len() as u64;
        for slot in old {
            self.saving.keep(&slot, self.next_save, self.version);
            self.forgotten.push(slot.key);
            forget(slot.series);
        }
        self.index.clear();
        self.changed.clear();
        let is_saving = self.saving.unsaved.drain(..).next().is_some();
        for slot in kept {
            let (number, changed_before) = (self.slots.len() as u32, slot.changed_before);
            self.index.insert(hash_of(&slot.key), number);
            self.slots.push(slot);
            if changed_before == self.next_save {
                self.changed.push(number);
            } else if is_saving && changed_before + 1 == self.next_save {
                self.saving.unsaved.push(number);
            }
        }
    }

    /// The series that have changed since the last save, in the order in which `save` will write them.
    pub fn changed(&self) -> impl Iterator<Item = &S> {
        self.changed.iter().map(|&number| &self.slots[number as usize].series)
    }

    /// The series of a key, if there is one.
    pub fn get(&self, key: &[u8]) -> Option<&S> {
        let found = self.index.find(hash_of(key), |slot| *self.slots[slot as usize].key == *key)?;
        Some(&self.slots[found as usize].series)
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// All series there are.
    pub fn all(&self) -> impl Iterator<Item = &S> {
        self.slots.iter().map(|slot| &slot.series)
    }

    /// Writes what has changed since the last save, each series in the form that `saved` gives it.
    pub fn save<'a, T: Serialize + 'a>(
        &'a mut self,
        changes: &mut dyn StateWriter,
        mut saved: impl FnMut(&'a S) -> T,
    ) -> Result<()> {
        let Table { slots, changed, forgotten, version, next_save, .. } = self;
        *next_save += 1;
        // A key may have been forgotten and then read again: its put comes after its delete.
        for key in forgotten.drain(..) {
            changes.delete(&key);
        }
        let mut buffer = Vec::new();
        for number in changed.drain(..) {
            let slot = &slots[number as usize];
            write_slot(slot, *version, saved(&slot.series), &mut buffer)?;
            changes.put(&slot.key, &buffer);
        }
        Ok(())
    }

    /// Begins a save in parts: `save_part` writes what has changed up to here, or all, as it is here.
    pub fn begin_save(&mut self) {
        debug_assert!(self.saving.is_done(), "one save at a time");
        let (n_changed, n_slots) = (self.changed.len(), self.slots.len());
        let are_most = n_slots * WHOLE_FROM.0 <= n_changed * WHOLE_FROM.1 && n_slots <= MOST_MARKED;
        self.saving.is_whole = 0 < n_slots && (n_changed == n_slots || are_most);
        if self.saving.is_whole && n_changed < n_slots {
            self.slots.iter_mut().for_each(|slot| slot.changed_before = self.next_save);
            self.changed = (0..n_slots as u32).collect();
        }
        self.saving.forgotten = std::mem::take(&mut self.forgotten);
        self.saving.unsaved = std::mem::take(&mut self.changed);
        self.next_save += 1;
    }

    /// Writes the next part of a save, of at most `keys` series. True when that was the last one.
    pub fn save_part(&mut self, keys: usize, changes: &mut dyn StateWriter) -> Result<bool> {
        let Table { slots, saving, version, next_save, .. } = self;
        if let Some(failure) = saving.failure.take() {
            return Err(failure);
        }
        if std::mem::take(&mut saving.is_whole) {
            changes.is_whole();
        }
        for key in saving.forgotten.drain(..) {
            changes.delete(&key);
        }
        let early = saving.early.split_off(saving.early.len().saturating_sub(keys));
        let keys = keys - early.len();
        for (key, value) in early {
            changes.put(&key, &value);
        }
        for number in saving.unsaved.split_off(saving.unsaved.len().saturating_sub(keys)) {
            let slot = &mut slots[number as usize];
            if slot.changed_before + 1 == *next_save {
                slot.changed_before = 0;
                write_slot(slot, *version, &slot.series, &mut saving.buffer)?;
                changes.put(&slot.key, &saving.buffer);
            }
        }
        let is_done = saving.is_done();
        if is_done {
            // The room for a million series goes, too.
            *saving = Saving::default();
        }
        Ok(is_done)
    }
}

impl Saving {
    fn is_done(&self) -> bool {
        self.unsaved.is_empty() && self.early.is_empty() && self.forgotten.is_empty()
    }

    /// Keeps a series as it is, before it changes, if the save has still to write it.
    fn keep<S: Serialize>(&mut self, slot: &Slot<S>, next_save: u32, version: u16) {
        if self.unsaved.is_empty() || slot.changed_before + 1 != next_save {
            return;
        }
        match write_slot(slot, version, &slot.series, &mut self.buffer) {
            Ok(()) => self.early.push((slot.key.clone(), self.buffer.as_slice().into())),
            Err(error) => self.failure = Some(error),
        }
    }
}

/// One series as the table saves it, for those who keep a copy of it.
pub(super) fn saved_series(version: u16, at: Option<Timestamp>, series: &impl Serialize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    encode(&Saved { version, at, reading: 0, series }, &mut buffer)?;
    Ok(buffer)
}

fn write_slot<S>(slot: &Slot<S>, version: u16, series: impl Serialize, buffer: &mut Vec<u8>) -> Result<()> {
    encode(&Saved { version, at: slot.last_at, reading: slot.last_reading, series }, buffer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What was saved; and how often that was said to be all there is.
    #[derive(Default)]
    struct Store(BTreeMap<Vec<u8>, Vec<u8>>, usize);

    impl StateWriter for Store {
        fn put(&mut self, key: &[u8], value: &[u8]) {
            self.0.insert(key.into(), value.into());
        }
        fn delete(&mut self, key: &[u8]) {
            self.0.remove(key);
        }
        // Nothing is dropped: that would hide what was forgotten and not deleted.
        fn is_whole(&mut self) {
            self.1 += 1;
        }
    }

    impl Table<u32> {
        fn touch_key(&mut self, key: &[u8], start: impl FnOnce() -> u32, forget: impl FnMut(u32)) -> &mut Slot<u32> {
            self.touch((key, hash_of(key), NOWHERE), start, forget)
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
            table.touch_key(key, || 0, drop).series += 1;
        }
        assert_eq!(table.n_forgotten, 1);
        assert_eq!(table.touch_key(b"a", || 0, drop).series, 2);
        assert_eq!(table.touch_key(b"b", || 77, drop).series, 77, "b was forgotten");
    }

    #[test]
    fn saves_what_has_changed_and_nothing_else() {
        let (mut store, mut table) = (Store::default(), restore(&Store::default(), 2));
        table.touch_key(b"a", || 1, drop);
        table.touch_key(b"b", || 2, drop);
        table.save(&mut store, |series| series).unwrap();
        let mut second = Store::default();
        table.touch_key(b"b", || 0, drop).series = 5;
        table.save(&mut second, |series| series).unwrap();
        assert_eq!(second.0.len(), 1);
        table.touch_key(b"c", || 3, drop);
        table.save(&mut store, |series| series).unwrap();
        assert_eq!(store.0.keys().collect::<Vec<_>>(), [b"b", b"c"]);
    }

    #[test]
    fn a_save_in_parts_writes_what_there_was_when_it_began() {
        for parts in [1, 2, 9] {
            let (mut store, mut table) = (Store::default(), restore(&Store::default(), 4));
            for key in [b"a", b"b", b"c", b"d"] {
                table.touch_key(key, || 1, drop);
            }
            table.begin_save();
            assert!(!table.save_part(1, &mut store).unwrap());
            table.touch_key(b"a", || 0, drop).series = 7;
            // `e` and `f` take the places of `b` and `c`, which have still to be written.
            table.touch_key(b"e", || 5, drop);
            table.touch_key(b"d", || 0, drop).series = 8;
            table.touch_key(b"f", || 6, drop);
            while !table.save_part(parts, &mut store).unwrap() {}
            let keys: Vec<_> = store.0.keys().map(|key| key[0] as char).collect();
            assert_eq!((keys, restore(&store, 4).touch_key(b"a", || 0, drop).series), (vec!['a', 'b', 'c', 'd'], 1));
            table.begin_save();
            while !table.save_part(parts, &mut store).unwrap() {}
            let (mut restored, keys) = (restore(&store, 4), [b"a", b"d", b"e", b"f"]);
            assert_eq!(store.0.len(), keys.len());
            assert_eq!(keys.map(|key| restored.touch_key(key, || 0, drop).series), [7, 8, 5, 6]);
        }
    }

    #[test]
    fn a_save_writes_all_series_when_most_have_changed() {
        let (mut store, mut table) = (Store::default(), restore(&Store::default(), 4));
        let mut saved = |keys: &[&[u8]]| {
            keys.iter().for_each(|key| table.touch_key(key, || 0, drop).series += 1);
            let mut written = Store::default();
            table.begin_save();
            assert!(!table.save_part(1, &mut written).unwrap());
            // It is in this save as it was, and in the next one as it is.
            table.touch_key(b"a", || 0, drop).series += 10;
            while !table.save_part(1, &mut written).unwrap() {}
            let (n_written, n_whole) = (written.0.len(), written.1);
            store.0.extend(written.0);
            (n_written, n_whole, restore(&store, 4).get(b"a").copied().unwrap())
        };
        assert_eq!(saved(&[b"a", b"b", b"c", b"d"]), (4, 1, 1));
        assert_eq!(saved(&[b"b", b"c"]), (4, 1, 11), "three of four have changed");
        assert_eq!(saved(&[b"b"]), (2, 0, 21), "two of four");
        assert_eq!(saved(&[b"b", b"c", b"d"]), (4, 1, 31));
        let (mut nothing, mut written) = (restore(&Store::default(), 4), Store::default());
        nothing.begin_save();
        assert!(nothing.save_part(1, &mut written).unwrap());
        assert_eq!(written.1, 0, "there is nothing that takes the place of anything");
    }

    #[test]
    fn the_order_of_forgetting_survives_a_restart() {
        let mut store = Store::default();
        let mut table = restore(&store, 3);
        for key in [b"c", b"b", b"a"] {
            table.touch_key(key, || 1, drop);
        }
        table.save(&mut store, |series| series).unwrap();
        let mut table = restore(&store, 2);
        assert_eq!(table.n_forgotten, 1, "there is room for two only");
        assert_eq!(table.touch_key(b"b", || 9, drop).series, 1);
        assert_eq!(table.touch_key(b"c", || 9, drop).series, 9);
    }

    #[test]
    fn refuses_state_of_another_version() {
        let (mut store, mut table) = (Store::default(), restore(&Store::default(), 2));
        table.touch_key(b"a", || 1, drop);
        table.save(&mut store, |series| series).unwrap();
        let saved = SavedState { entries: store.0.into_iter().collect() };
        let error = Table::<u32>::restore::<u32>(&saved, 2, 2, Ok).err().unwrap().to_string();
        assert_eq!(error, "the saved state has version 1, this detector reads version 2");
    }
}
