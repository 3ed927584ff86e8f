//! What a test with kills has seen, and whether it was enough to say anything.

use std::fmt;
use std::time::Duration;

use crate::killed::world::Kind;

/// What is promised for a restart on a machine that has time for it.
pub const FIRST_ROW_WITHIN: Duration = Duration::from_secs(5);

/// On a machine that is busy with other things all restarts are slow; one may take this many times the median.
const BUSY: u32 = 5;

/// What has been seen.
#[derive(Default)]
pub struct Tally {
    pub kills: usize,
    /// With rows left to read.
    pub in_mid_work: usize,
    pub before_first_row: usize,
    /// Runs that had epochs to compute again.
    pub replayed: usize,
    pub database_crashes: usize,
    pub broker_freezes: usize,
    pub broker_crashes: usize,
    /// From the start of the process to its first new row in the table; the services answer all the time.
    pub first_rows: Vec<Duration>,
}

impl Tally {
    /// Everything that a test with kills is about has happened, and each restart was fast.
    pub fn assert_that_it_was_a_test(&self, kills: usize, kind: Kind) {
        assert_eq!(self.kills, kills);
        // The last kills may find that a fast machine has read everything.
        assert!(kills * 7 / 10 <= self.in_mid_work, "{} of {kills} kills came in mid-work", self.in_mid_work);
        assert!(0 < self.before_first_row, "no kill came before the first row");
        assert!(0 < self.replayed, "no run had anything to compute again");
        assert!(0 < self.database_crashes || kind == Kind::Sqlite, "PostgreSQL was not restarted");
        assert!(0 < self.broker_freezes && 0 < self.broker_crashes, "the broker was not frozen and killed");
        // Without its partitions a process waits for a session of 10 s.
        assert!(self.median() <= FIRST_ROW_WITHIN, "first rows after {:.1?}", self.first_rows);
        let within = FIRST_ROW_WITHIN.max(BUSY * self.median());
        assert!(self.slowest() <= within, "first rows after {:.1?}", self.first_rows);
    }

    fn slowest(&self) -> Duration {
        self.first_rows.iter().max().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        let mut sorted = self.first_rows.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills ({} in mid-work, {} before the first row), {} runs computed epochs again, PostgreSQL crashed {} \
             times, the broker froze {} times and crashed {} times, first row after {:.1?} (median) to {:.1?} (longest)",
            self.kills,
            self.in_mid_work,
            self.before_first_row,
            self.replayed,
            self.database_crashes,
            self.broker_freezes,
            self.broker_crashes,
            self.median(),
            self.slowest()
        )
    }
}
