//! Finds the series of rows before it is their turn, and asks for what they have in memory: three steps, as each needs
//! the address that the one before has brought.

use std::ops::Range;

use serde::Serialize;

use super::keys::Keys;
use super::table::Table;

/// How many rows a step is for: enough to hide the wait for memory behind the work on the step before, few enough for
/// two steps to stay near the processor.
pub(super) const AHEAD: usize = 32;

/// The number of no slot.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Where the series of some rows most likely stand; [`NOWHERE`] for those that are new.
pub(super) type Near = [u32; AHEAD];

/// What is known of the rows that come next.
pub(super) struct Ahead<'k> {
    keys: &'k Keys,
    /// The next rows, whose series are on their way.
    first: Near,
    /// Those after them, whose slots are on their way.
    second: Near,
    /// The first row of those after these.
    row: usize,
}

impl<'k> Ahead<'k> {
    /// Begins with the first row; `rest` asks for what a series has elsewhere.
    pub fn new<S: Serialize>(keys: &'k Keys, table: &Table<S>, rest: impl Fn(&S)) -> Self {
        let mut ahead = Ahead { keys, first: [NOWHERE; AHEAD], second: [NOWHERE; AHEAD], row: 0 };
        table.prefetch_index(keys, ahead.rows(0));
        for _ in 0..2 {
            ahead.next(table, &rest);
        }
        ahead
    }

    /// Of the next [`AHEAD`] rows, and asks for those behind.
    pub fn next<S: Serialize>(&mut self, table: &Table<S>, rest: impl Fn(&S)) -> Near {
        table.prefetch_index(self.keys, self.rows(1));
        let found = table.near(self.keys, self.rows(0));
        table.prefetch_slots(&found);
        table.prefetch_rest(&self.second, rest);
        self.row += AHEAD;
        std::mem::replace(&mut self.first, std::mem::replace(&mut self.second, found))
    }

    /// The rows of this step, or of one so many steps behind it.
    fn rows(&self, steps: usize) -> Range<usize> {
        let start = self.row + steps * AHEAD;
        start.min(self.keys.len())..(start + AHEAD).min(self.keys.len())
    }
}
