//! Tasks that another process has taken over, while the source has not said that their partitions have moved.
//!
//! Mostly the source says so a moment later: this process was stopped, its group has given its partitions to others, and
//! its consumer is about to find out. But the other process may have been the one that came late, with a claim from
//! before it was stopped: then the source says nothing, and the task is claimed again, once. Two processes that take a
//! task from each other more often share a state without sharing a group.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline_stage::{Assignment, ErrorKind, Partition, Result, StageError};
use tokio::time::Instant;

use super::shared::Shared;

/// Within that a consumer whose partitions were given to others has found out: it asks its group every second or so.
/// Nobody reads the partition meanwhile if the source does not say that it has moved, so it is not long.
const SOURCE_SAYS_WITHIN: Duration = Duration::from_secs(10);
/// A task that is taken over again so soon is one that two processes fight for.
const FIGHT_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The tasks that were taken over.
#[derive(Debug, Default)]
pub struct Taken {
    tasks: BTreeMap<Partition, Since>,
    /// The source says nothing any more: nobody moves its partitions.
    is_final: bool,
}

#[derive(Debug, Clone, Copy)]
enum Since {
    /// The source has not said anything yet.
    Dropped(Instant),
    /// It has not, and the task was claimed again.
    Claimed(Instant),
}

impl Taken {
    /// A task was dropped, because another process has it.
    ///
    /// # Errors
    /// `Fatal` when this process has claimed it again before, or the source will say nothing.
    pub fn add(&mut self, partition: &Partition, place: &str) -> Result<()> {
        match self.tasks.insert(partition.clone(), Since::Dropped(Instant::now())) {
            _ if self.is_final => Err(two_groups(partition, place)),
            Some(Since::Claimed(at)) if at.elapsed() < FIGHT_WITHIN => Err(two_groups(partition, place)),
            _ => Ok(()),
        }
    }

    /// The source has said whose some partitions are.
    pub fn said(&mut self, change: &Assignment) {
        match change {
            Assignment::Gained(moved) | Assignment::Revoked(moved) | Assignment::Lost(moved) => {
                self.tasks.retain(|partition, _| !moved.contains(partition));
            }
            Assignment::Final => self.is_final = true,
        }
    }

    /// When the next task is to be claimed again.
    pub fn next(&self) -> Option<Instant> {
        self.tasks.values().filter_map(Since::is_due_at).min()
    }

    /// The tasks that are to be claimed again, because the source has said nothing.
    pub fn claim_again(&mut self) -> Vec<Partition> {
        let now = Instant::now();
        let due = self.tasks.iter_mut().filter(|(_, since)| since.is_due_at().is_some_and(|at| at <= now));
        due.map(|(partition, since)| {
            *since = Since::Claimed(now);
            partition.clone()
        })
        .collect()
    }

    /// True while the source may still say something.
    pub fn is_waiting(&self) -> bool {
        self.next().is_some()
    }
}

impl Since {
    fn is_due_at(&self) -> Option<Instant> {
        match self {
            Since::Dropped(at) => Some(*at + SOURCE_SAYS_WITHIN),
            Since::Claimed(_) => None,
        }
    }
}

/// Two processes have the same state, and no group tells them whose a partition is.
fn two_groups(partition: &Partition, place: &str) -> StageError {
    StageError::fatal(format!(
        "another process has taken over task `{partition}`, though its partition is this one's: processes that share the \
         state in {place} must read with the same `group`, and a source without a group has one process"
    ))
}

/// What the failure of a task means: one that another process has taken over meanwhile may find whatever it likes.
pub async fn unless_taken(shared: &Shared, task: &str, generation: u64, error: StageError) -> StageError {
    if error.kind() != ErrorKind::Fatal {
        return error;
    }
    match shared.store.is_owner(task, generation).await {
        Ok(false) => StageError::taken_over(format!(
            "another process has taken over task `{task}`, which ended here with: {}",
            error.chain()
        )),
        // A store that is down says nothing about the task.
        Ok(true) | Err(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_is_claimed_again_once_when_the_source_says_nothing() {
        let (mut taken, partition) = (Taken::default(), Partition::numbered(3));
        taken.add(&partition, "PostgreSQL").unwrap();
        assert!(taken.is_waiting());
        assert_eq!(taken.claim_again(), []);
        tokio::time::advance(SOURCE_SAYS_WITHIN).await;
        assert_eq!(taken.claim_again(), std::slice::from_ref(&partition));
        assert_eq!((taken.claim_again(), taken.is_waiting()), (vec![], false));

        let words = taken.add(&partition, "PostgreSQL").unwrap_err().to_string();
        assert!(words.contains("must read with the same `group`"), "{words}");
        tokio::time::advance(FIGHT_WITHIN).await;
        taken.add(&partition, "PostgreSQL").unwrap();
    }

    #[tokio::test]
    async fn without_a_group_two_processes_cannot_take_turns() {
        let mut taken = Taken::default();
        taken.said(&Assignment::Final);
        taken.add(&Partition::numbered(0), "PostgreSQL").unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_has_moved_is_a_new_one_when_it_comes_back() {
        let (mut taken, partition) = (Taken::default(), Partition::numbered(3));
        taken.add(&partition, "PostgreSQL").unwrap();
        tokio::time::advance(SOURCE_SAYS_WITHIN).await;
        assert_eq!(taken.claim_again(), std::slice::from_ref(&partition));
        taken.said(&Assignment::Gained(vec![partition.clone()]));
        taken.add(&partition, "PostgreSQL").unwrap();
    }
}
