//! The partitions that this process owns, for people: a line in the log for each change, and a line in the books.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline_stage::{Assignment, Partition};
use tracing::info;

use super::progress::Progress;

/// A line with thousands of names helps nobody.
const MAX_NAMES: usize = 20;

/// What the source has said so far.
pub struct Owned {
    partitions: BTreeSet<Partition>,
    progress: Arc<Progress>,
}

impl Owned {
    /// Nothing yet.
    pub fn new(progress: Arc<Progress>) -> Self {
        Owned { partitions: BTreeSet::new(), progress }
    }

    /// The source has said something.
    pub fn change(&mut self, change: &Assignment) {
        let before = self.partitions.len();
        let (verb, moved) = match change {
            Assignment::Gained(gained) => {
                self.partitions.extend(gained.iter().cloned());
                ("gained", self.partitions.len() - before)
            }
            Assignment::Revoked(gone) => ("gives up", self.remove(gone)),
            Assignment::Lost(gone) => ("lost", self.remove(gone)),
            Assignment::Final => return,
        };
        let is_gained = verb == "gained";
        self.progress.set_partitions(self.partitions.len(), if is_gained { (moved, 0) } else { (0, moved) });
        info!("{verb} {moved} partitions, owns {}", self.list());
    }

    fn remove(&mut self, gone: &[Partition]) -> usize {
        gone.iter().filter(|partition| self.partitions.remove(partition)).count()
    }

    /// `2: readings/0, readings/7`.
    fn list(&self) -> String {
        let names: Vec<&str> = self.partitions.iter().take(MAX_NAMES).map(|partition| &*partition.name).collect();
        let n_partitions = self.partitions.len();
        match n_partitions.saturating_sub(MAX_NAMES) {
            _ if names.is_empty() => "none".to_owned(),
            0 => format!("{n_partitions}: {}", names.join(", ")),
            more => format!("{n_partitions}: {} and {more} more", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Partitions;
    use super::*;

    #[test]
    fn counts_what_comes_and_goes() {
        let progress = Arc::new(Progress::new(0));
        let mut owned = Owned::new(progress.clone());
        assert_eq!(progress.snapshot().partitions, None);
        let all = |numbers: std::ops::Range<u32>| numbers.map(Partition::numbered).collect::<Vec<_>>();
        owned.change(&Assignment::Gained(all(0..25)));
        assert!(owned.list().ends_with(" and 5 more"), "{}", owned.list());
        owned.change(&Assignment::Revoked(all(2..24)));
        assert_eq!(owned.list(), "3: 0, 1, 24");
        owned.change(&Assignment::Lost(all(0..25)));
        assert_eq!(owned.list(), "none");
        assert_eq!(progress.snapshot().partitions, Some(Partitions { owned: 0, gained: 25, given_up: 25 }));
    }
}
