//! What a run has done so far, for people and for the books.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ledger::{Books, Counts};
use super::view::RunView;

/// Shared by all tasks of a run. Counts what is committed, so that it never has to be taken back.
#[derive(Debug)]
pub struct Progress {
    books: Mutex<Books>,
    anomalies: AtomicU64,
    read: AtomicU64,
    /// By task: rows still to be read, and those there were when it started.
    lag: Mutex<BTreeMap<String, Lag>>,
    partitions: Mutex<Option<Partitions>>,
    replayed_rows: AtomicU64,
    slowest_commit_micros: AtomicU64,
    /// What can be seen beside the books.
    pub view: RunView,
}

/// How far a task is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Rows that are there and not read yet.
    pub left: u64,
    /// Rows there were to read when the task started.
    pub at_start: u64,
}

/// Partitions of a source whose partitions move between processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Partitions {
    /// Those of this process.
    pub owned: usize,
    /// How many it was given since it began.
    pub gained: usize,
    /// How many it has given up, or were taken from it.
    pub given_up: usize,
}

/// A picture of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// For each stage of the plan its books.
    pub stages: Vec<Counts>,
    /// For each stage, how many rows the tasks hold that run here.
    pub held: Vec<u64>,
    /// Rows that a detector called an anomaly.
    pub anomalies: u64,
    /// Rows read, committed or not.
    pub read: u64,
    /// Of all tasks together; none when no source can know.
    pub lag: Option<Lag>,
    /// None when the source has no partitions of its own.
    pub partitions: Option<Partitions>,
    /// Rows that were read again to restore state.
    pub replayed_rows: u64,
    /// The longest time from an epoch's end to its commit.
    pub slowest_commit: Duration,
}

impl Progress {
    /// Of a pipeline with so many stages.
    pub fn new(n_stages: usize) -> Self {
        Progress {
            books: Mutex::new(Books::new(n_stages)),
            anomalies: AtomicU64::new(0),
            read: AtomicU64::new(0),
            lag: Mutex::new(BTreeMap::new()),
            partitions: Mutex::new(None),
            replayed_rows: AtomicU64::new(0),
            slowest_commit_micros: AtomicU64::new(0),
            view: RunView::new(n_stages),
        }
    }

    /// Rows were read.
    pub fn read(&self, rows: u64) {
        self.read.fetch_add(rows, Ordering::Relaxed);
    }

    /// Rows were read again.
    pub fn replayed(&self, rows: u64) {
        self.replayed_rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// A task says how far it is behind.
    pub fn set_lag(&self, task: &str, left: Option<u64>) {
        let Some(left) = left else { return };
        let mut lag = self.lag.lock().expect("no holder of this lock panics");
        match lag.get_mut(task) {
            Some(lag) => lag.left = left,
            None => drop(lag.insert(task.into(), Lag { left, at_start: left })),
        }
    }

    /// So many partitions are owned, after so many were gained and given up.
    pub fn set_partitions(&self, owned: usize, (gained, given_up): (usize, usize)) {
        let mut partitions = self.partitions.lock().expect("no holder of this lock panics");
        let before = partitions.unwrap_or_default();
        *partitions = Some(Partitions { owned, gained: before.gained + gained, given_up: before.given_up + given_up });
    }

    /// A task reads new rows from here on. For each stage, how many rows it holds.
    pub fn live(&self, task: &str, held: Vec<u64>) {
        self.view.live(task);
        self.books.lock().expect("no holder of this lock panics").begin(task, held);
    }

    /// A task has ended: what it has not read is somebody else's.
    pub fn forget_task(&self, task: &str) {
        self.view.ended(task);
        self.books.lock().expect("no holder of this lock panics").end(task);
        self.lag.lock().expect("no holder of this lock panics").remove(task);
    }

    /// A task has committed an epoch.
    pub fn committed(&self, task: &str, counts: &[Counts], anomalies: u64, took: Duration) {
        self.books.lock().expect("no holder of this lock panics").committed(task, counts);
        self.anomalies.fetch_add(anomalies, Ordering::Relaxed);
        self.slowest_commit_micros.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// How far each task is behind, of those that can know.
    pub fn lags(&self) -> BTreeMap<String, Lag> {
        self.lag.lock().expect("no holder of this lock panics").clone()
    }

    /// As it is now.
    pub fn snapshot(&self) -> Snapshot {
        let lag = self.lag.lock().expect("no holder of this lock panics");
        let (mut stages, held) = {
            let books = self.books.lock().expect("no holder of this lock panics");
            (books.stages(), books.held())
        };
        // Their rows count as written when they are in the outbox.
        self.view.outboxes().iter().for_each(|outbox| stages[outbox.stage].bury(outbox.ends.refused));
        let sum = |sum: Lag, lag: &Lag| Lag { left: sum.left + lag.left, at_start: sum.at_start + lag.at_start };
        Snapshot {
            stages,
            held,
            anomalies: self.anomalies.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            lag: if lag.is_empty() { None } else { Some(lag.values().fold(Lag::default(), sum)) },
            partitions: *self.partitions.lock().expect("no holder of this lock panics"),
            replayed_rows: self.replayed_rows.load(Ordering::Relaxed),
            slowest_commit: Duration::from_micros(self.slowest_commit_micros.load(Ordering::Relaxed)),
        }
    }
}
