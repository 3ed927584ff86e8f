//! The books: for every stage, what came in must have gone somewhere.

use std::collections::BTreeMap;

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
    /// Adds what happened in the time after, which began with what is held here.
    fn go_on(&mut self, next: &Counts) {
        let (held_before, held) = (self.held_before, next.held);
        self.add(next);
        (self.held_before, self.held) = (held_before, held);
    }

    /// Adds what happened elsewhere.
    fn add(&mut self, other: &Counts) {
        self.held_before += other.held_before;
        self.rows_in += other.rows_in;
        self.created += other.created;
        self.out += other.out;
        self.filtered += other.filtered;
        self.dead += other.dead;
        self.late += other.late;
        self.held += other.held;
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

/// The books of all stages of a process, since it began.
#[derive(Debug)]
pub struct Books {
    /// Of the tasks that run.
    tasks: BTreeMap<String, Vec<Counts>>,
    /// For each stage, of the tasks that have ended: what they held is held by whoever has them now.
    ended: Vec<Counts>,
}

impl Books {
    /// Of so many stages.
    pub fn new(n_stages: usize) -> Self {
        Books { tasks: BTreeMap::new(), ended: vec![Counts::default(); n_stages] }
    }

    /// A task begins: for each stage how many rows it holds.
    pub fn begin(&mut self, task: &str, held: Vec<u64>) {
        let stages = held.into_iter().map(|held| Counts { held_before: held, held, ..Counts::default() });
        self.tasks.insert(task.into(), stages.collect());
    }

    /// A task has committed an epoch: for each stage its counts.
    pub fn committed(&mut self, task: &str, epoch: &[Counts]) {
        let stages = self.tasks.get_mut(task).into_iter().flatten();
        stages.zip(epoch).for_each(|(stage, next)| stage.go_on(next));
    }

    /// A task has ended. If it comes back, it begins with what it holds then.
    pub fn end(&mut self, task: &str) {
        let stages = self.tasks.remove(task).unwrap_or_default();
        self.ended.iter_mut().zip(&stages).for_each(|(stage, counts)| stage.add(counts));
    }

    /// For each stage, of all tasks together.
    pub fn stages(&self) -> Vec<Counts> {
        let mut sum = self.ended.clone();
        self.tasks.values().for_each(|task| sum.iter_mut().zip(task).for_each(|(stage, counts)| stage.add(counts)));
        sum
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

    fn epoch(held_before: u64, rows_in: u64, out: u64, held: u64) -> [Counts; 1] {
        [Counts { held_before, rows_in, out, held, ..Counts::default() }]
    }

    #[test]
    fn epochs_of_a_task_follow_each_other() {
        let mut books = Books::new(1);
        books.begin("0", vec![0]);
        books.committed("0", &epoch(0, 5, 3, 2));
        books.committed("0", &epoch(2, 1, 2, 1));
        assert_eq!(books.stages(), epoch(0, 6, 5, 1));
        assert!(books.stages()[0].is_balanced());
    }

    #[test]
    fn what_several_tasks_hold_is_added_up_also_when_they_end_and_come_back() {
        let mut books = Books::new(1);
        books.begin("0", vec![4]);
        books.begin("1", vec![0]);
        books.begin("2", vec![1]);
        books.committed("0", &epoch(4, 5, 3, 6));
        books.committed("1", &epoch(0, 7, 2, 5));
        books.committed("0", &epoch(6, 1, 4, 3));
        assert_eq!(books.stages(), epoch(5, 13, 9, 9), "also what a task without epochs holds");
        books.end("0");
        assert_eq!(books.stages(), epoch(5, 13, 9, 9), "they are known after it has ended");
        books.begin("0", vec![2]);
        books.committed("0", &epoch(2, 1, 3, 0));
        assert_eq!(books.stages(), epoch(7, 14, 12, 9));
        assert!(books.stages()[0].is_balanced());
    }
}
