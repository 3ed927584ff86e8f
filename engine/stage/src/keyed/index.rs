//! Finds slots by the hash of their keys: open addressing with linear probing, one word for each slot.

use std::slice;

use crate::processor::prefetch;

/// Numbers of slots by hash. It does not know the keys: several slots may come into question.
pub(super) struct Index {
    /// The lower half of a hash and the number of a slot plus one; 0 is empty. A power of two of them.
    entries: Vec<u64>,
    len: usize,
}

/// The size of an index without slots.
const SMALLEST: usize = 16;

impl Index {
    /// One that is empty, with room for so many.
    pub fn with_capacity(slots: usize) -> Self {
        // At most two thirds full: a search that finds nothing ends after some three entries.
        Index { entries: vec![0; (slots + slots / 2).next_power_of_two().max(SMALLEST)], len: 0 }
    }

    /// Adds a slot.
    pub fn insert(&mut self, hash: u64, slot: u32) {
        if self.entries.len() * 2 < (self.len + 1) * 3 {
            let larger = vec![0; self.entries.len() * 2];
            let entries = std::mem::replace(&mut self.entries, larger);
            entries.into_iter().filter(|entry| *entry != 0).for_each(|entry| self.place(entry));
        }
        self.place(word(hash) << 32 | (u64::from(slot) + 1));
        self.len += 1;
    }

    fn place(&mut self, entry: u64) {
        let mut at = self.first(entry >> 32);
        while self.entries[at] != 0 {
            at = (at + 1) & (self.entries.len() - 1);
        }
        self.entries[at] = entry;
    }

    /// The slot of this hash that `is_it`; none when there is none.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = word(hash);
        let mut at = self.first(hash);
        loop {
            let entry = self.entries[at];
            if entry == 0 {
                return None;
            }
            let slot = (entry as u32) - 1;
            if entry >> 32 == hash && is_it(slot) {
                return Some(slot);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
    }

    /// Asks for the place where a search begins.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(slice::from_ref(&self.entries[self.first(word(hash))]));
    }

    /// Forgets all slots.
    pub fn clear(&mut self) {
        self.entries.fill(0);
        self.len = 0;
    }

    #[inline]
    fn first(&self, hash: u64) -> usize {
        hash as usize & (self.entries.len() - 1)
    }
}

/// The half of a hash that is kept.
fn word(hash: u64) -> u64 {
    hash & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_also_among_equal_hashes() {
        let mut index = Index::with_capacity(0);
        for slot in 0..10_000 {
            index.insert(u64::from(slot / 3), slot);
        }
        for slot in 0..10_000 {
            assert_eq!(index.find(u64::from(slot / 3), |found| found == slot), Some(slot));
        }
        assert_eq!(index.find(7, |_| false), None);
        assert_eq!(index.find(123_456, |_| true), None);
        index.clear();
        assert_eq!(index.find(0, |_| true), None);
    }
}
