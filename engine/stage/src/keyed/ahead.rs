//! Finds the series of rows before it is their turn, and asks for what they have in memory: three steps, as each needs
//! the address that the one before has brought. A step is taken for one row whenever one is scored, because the processor
//! can wait for a few pieces of memory at a time only.

use serde::Serialize;

use super::keys::Keys;
use super::table::Table;

/// How many rows there are between two steps: enough to hide the wait for memory behind the work on those, few enough for
/// what has come to stay near the processor.
pub(super) const AHEAD: usize = 32;

/// The number of no slot.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Where the series of some rows most likely stand; [`NOWHERE`] for those that are new.
pub(super) type Near = [u32; AHEAD];

/// What is known of the rows that come next.
pub(super) struct Ahead<'k> {
    keys: &'k Keys,
    /// Of the rows that are being scored, of those after them, whose slots are there, and of those after these, whose slots
    /// are asked for.
    near: [Near; 3],
    /// The first of the rows behind all these, of which it is asked where they stand.
    row: usize,
}

impl<'k> Ahead<'k> {
    /// Begins with the first rows; `rest` asks for what a series has elsewhere.
    pub fn new<S: Serialize>(keys: &'k Keys, table: &Table<S>, rest: impl Fn(&S)) -> Self {
        let mut ahead = Ahead { keys, near: [[NOWHERE; AHEAD]; 3], row: 0 };
        for _ in 0..3 {
            (0..AHEAD).for_each(|place| ahead.ask(place, table, &rest));
            ahead.advance();
        }
        ahead
    }

    /// Of the next [`AHEAD`] rows, which are scored now.
    pub fn near(&self) -> Near {
        self.near[0]
    }

    /// Asks for what the rows of this place have in memory, one for each step.
    #[inline]
    pub fn ask<S: Serialize>(&mut self, place: usize, table: &Table<S>, rest: impl Fn(&S)) {
        let (row, n_rows) = (self.row + place, self.keys.len());
        if row < n_rows {
            table.prefetch_index(self.keys.hash(row));
        }
        let found = match row.checked_sub(AHEAD) {
            Some(row) if row < n_rows => table.near(self.keys.hash(row)),
            _ => NOWHERE,
        };
        table.prefetch_slot(found);
        self.near[2][place] = found;
        table.prefetch_rest(self.near[1][place], rest);
    }

    /// All of these rows have been scored.
    pub fn advance(&mut self) {
        self.near.rotate_left(1);
        self.row += AHEAD;
    }
}
