//! The books: for every stage, what came in must have gone somewhere.

use pipeline_stage::{Result, StageError};
use serde::{Deserialize, Serialize};

/// Rows of one stage over some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Held when the time began.
    pub held_before: u64,
    /// Came in.
    pub rows_in: u64,
    /// Made by the stage itself.
    pub created: u64,
    /// Went on; for a sink, were written.
    pub out: u64,
    /// Left out on purpose, by `when:` or by the stage.
    pub filtered: u64,
    /// Became dead letters.
    pub dead: u64,
    /// Came after the watermark had passed them.
    pub late: u64,
    /// Held when the time ended.
    pub held: u64,
}

impl Counts {
    /// Adds what happened in the time after.
    pub fn add(&mut self, next: &Counts) {
        self.rows_in += next.rows_in;
        self.created += next.created;
        self.out += next.out;
        self.filtered += next.filtered;
        self.dead += next.dead;
        self.late += next.late;
        self.held = next.held;
    }

    /// Rows that were taken for written have become dead letters. Those of an earlier run are in its books.
    pub fn bury(&mut self, rows: u64) {
        let rows = rows.min(self.out);
        self.out -= rows;
        self.dead += rows;
    }

    /// Whether nothing is missing and nothing too much.
    pub fn is_balanced(&self) -> bool {
        self.held_before + self.rows_in + self.created == self.out + self.filtered + self.dead + self.late + self.held
    }

    /// # Errors
    /// `Fatal` when they do not balance: a stage or the engine has lost or invented rows.
    pub fn check(&self, stage: &str) -> Result<()> {
        if self.is_balanced() {
            return Ok(());
        }
        Err(StageError::fatal(format!("the books of `{stage}` do not balance: {self:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_row_is_noticed() {
        let right = Counts { held_before: 1, rows_in: 10, out: 6, filtered: 2, dead: 1, late: 1, held: 1, created: 0 };
        assert!(right.check("s").is_ok());
        let error = Counts { out: 5, ..right }.check("s").unwrap_err();
        assert!(error.to_string().starts_with("the books of `s` do not balance"));
    }

    #[test]
    fn what_is_buried_later_leaves_the_books_balanced() {
        let mut counts = Counts { rows_in: 10, out: 7, filtered: 3, ..Counts::default() };
        counts.bury(2);
        assert_eq!((counts.out, counts.dead, counts.is_balanced()), (5, 2, true));
        counts.bury(9);
        assert_eq!((counts.out, counts.dead, counts.is_balanced()), (0, 7, true), "the others are in earlier books");
    }

    #[test]
    fn times_add_up() {
        let first = Counts { rows_in: 5, out: 3, held: 2, ..Counts::default() };
        let next = Counts { held_before: 2, rows_in: 1, out: 3, ..Counts::default() };
        let mut sum = first;
        sum.add(&next);
        assert_eq!(sum, Counts { rows_in: 6, out: 6, ..Counts::default() });
        assert!(sum.is_balanced());
    }
}
