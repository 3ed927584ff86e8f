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
    n_stages: usize,
    /// Of each task that was here, also if it is elsewhere now: it may come back.
    tasks: BTreeMap<String, Task>,
}

#[derive(Debug)]
struct Task {
    /// For each stage.
    stages: Vec<Counts>,
    is_here: bool,
}

impl Books {
    /// Of so many stages.
    pub fn new(n_stages: usize) -> Self {
        Books { n_stages, tasks: BTreeMap::new() }
    }

    /// A task begins: for each stage how many rows it holds.
    pub fn begin(&mut self, task: &str, held: Vec<u64>) {
        let known = self.tasks.entry(task.into()).or_insert_with(|| {
            let stages = held.iter().map(|held| Counts { held_before: *held, held: *held, ..Counts::default() });
            Task { stages: stages.collect(), is_here: true }
        });
        known.is_here = true;
        for (stage, held) in known.stages.iter_mut().zip(held) {
            // What it holds now and did not hold when it went came from another owner, who also gave what is missing.
            stage.held_before += held.saturating_sub(stage.held);
            stage.out += stage.held.saturating_sub(held);
            stage.held = held;
        }
    }

    /// A task has committed an epoch: for each stage its counts.
    pub fn committed(&mut self, task: &str, epoch: &[Counts]) {
        let stages = self.tasks.get_mut(task).map(|task| &mut task.stages).into_iter().flatten();
        stages.zip(epoch).for_each(|(stage, next)| stage.go_on(next));
    }

    /// A task has ended here.
    pub fn end(&mut self, task: &str) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.is_here = false;
        }
    }

    /// For each stage, of all tasks together. What a task held when it ended is held still.
    pub fn stages(&self) -> Vec<Counts> {
        self.sum(|_| true)
    }

    /// For each stage, how many rows the tasks hold that are here.
    pub fn held(&self) -> Vec<u64> {
        self.sum(|task| task.is_here).iter().map(|stage| stage.held).collect()
    }

    fn sum(&self, counts: impl Fn(&Task) -> bool) -> Vec<Counts> {
        let mut sum = vec![Counts::default(); self.n_stages];
        for task in self.tasks.values().filter(|task| counts(task)) {
            sum.iter_mut().zip(&task.stages).for_each(|(stage, counts)| stage.add(counts));
        }
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
        assert_eq!(books.held(), [6], "it holds nothing here");
        books.committed("0", &epoch(3, 0, 1, 2));
        assert_eq!(books.stages(), epoch(5, 13, 10, 8), "the last commit may be told after the end");
        books.begin("0", vec![5]);
        assert_eq!(books.stages(), epoch(8, 13, 10, 11), "another owner took more rows");
        books.committed("0", &epoch(5, 1, 3, 3));
        books.end("0");
        books.begin("0", vec![1]);
        assert_eq!(
            (books.stages(), books.held()),
            (epoch(8, 14, 15, 7).to_vec(), vec![7]),
            "another owner gave two rows"
        );
        assert!(books.stages()[0].is_balanced());
    }
}
