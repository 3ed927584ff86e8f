//! Where rows go.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Result, StageError};
use crate::position::Origins;
use crate::rows::Rows;

/// The two forms of a sink. The engine does the rest.
pub enum BuiltSink {
    /// Takes whole epochs, with a mark.
    Epochs(Box<dyn Sink>),
    /// Delivers single rows to a slow or failing other side, from an outbox in the state store.
    Outbox(Box<dyn OutboxSink>),
}

/// What a sink promises about the rows it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Rows and mark in one transaction: exactly once.
    Transactional,
    /// No transaction, but a restart cuts back to [`Mark::detail`] (a file's length): exactly once.
    Truncating,
    /// Neither: a restart may repeat the last epoch.
    AtLeastOnce,
}

/// Takes the rows of whole epochs. One instance serves all tasks of a process.
///
/// Built without I/O: it connects in `claim`. One thread of control calls it.
#[async_trait]
pub trait Sink: Send {
    /// What it promises.
    fn delivery(&self) -> Delivery;

    /// Looks, for `validate --connect`, whether what the options name is there and fits. Each problem is one error.
    async fn check(&mut self) -> Vec<StageError> {
        Vec::new()
    }

    /// Becomes the owner of a task's output: raises the generation, shuts older owners out, says how far they got.
    ///
    /// Called before the first commit of a task and again after every `Transient` error of `commit`.
    /// Transactional sinks read their own mark; the others return `owner.stored` and cut back to it.
    /// A mark of a higher generation and the same state id is a `Lost` error: somebody else owns the task.
    async fn claim(&mut self, owner: &Owner) -> Result<Claim>;

    /// Writes the rows of these epochs and their marks, atomically, and returns once they are durable.
    ///
    /// The epochs are of several tasks, in rising order for each. A transactional sink updates the mark last,
    /// where `generation = mine and epoch < e`; no row updated is a `Lost` error and nothing is written.
    /// When there are rows that can never be taken it writes nothing and returns them all: the engine makes dead
    /// letters of them and calls again without them.
    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit>;
}

/// Who writes: one task of one run of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The pipeline's name.
    pub pipeline: String,
    /// The sink's id in the file.
    pub sink: String,
    /// The task's name.
    pub task: String,
    /// Random, made with the task's state: tells one life of the state from another.
    pub state_id: String,
    /// Which owner of the task this is; rises with each.
    pub generation: u64,
    /// The last mark that the engine keeps for sinks that cannot.
    pub stored: Option<Mark>,
    /// `--cold-start`: a mark of another state id is taken over (set to this owner, epoch kept).
    pub takes_over: bool,
}

impl Owner {
    /// What `claim` answers in a sink that keeps no mark of its own: the one that the engine keeps.
    ///
    /// # Errors
    /// Of kind `Lost` when the mark says that a later owner has written.
    pub fn stored_claim(&self) -> Result<Claim> {
        match &self.stored {
            None => Ok(Claim::New),
            Some(mark) if mark.state_id == self.state_id && self.generation < mark.generation => {
                Err(StageError::lost(format!("task `{}` has a later owner, generation {}", self.task, mark.generation)))
            }
            Some(mark) => Ok(Claim::At(mark.clone())),
        }
    }
}

/// How far the output of a task has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The pipeline's name.
    pub pipeline: String,
    /// The sink's id in the file.
    pub sink: String,
    /// The task's name.
    pub task: String,
    /// Of the state it belongs to.
    pub state_id: String,
    /// Of the owner that wrote it.
    pub generation: u64,
    /// The last epoch whose rows are there.
    pub epoch: u64,
    /// Where that epoch ended, as JSON: source → position. For people; the engine does not read it.
    pub positions: String,
    /// What the sink wants to know after a restart (a file's length).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What `claim` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nothing was ever written for this task.
    New,
    /// This is what the last owner left (as it was before the generation was raised).
    At(Mark),
}

/// The rows of one epoch for one sink.
#[derive(Debug, Clone)]
pub struct EpochRows {
    /// What the mark says once they are written.
    pub mark: Mark,
    /// The rows, in order; may be none.
    pub rows: Vec<Rows>,
}

/// What became of a commit.
#[derive(Debug)]
pub enum Commit {
    /// All is durable. The details go into the marks, one for each epoch given; empty when there are none.
    Done(Vec<Option<String>>),
    /// Nothing was written, because these rows can never be.
    Refused(Vec<Refused>),
}

/// A row that a sink can never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Index into the epochs given.
    pub epoch: usize,
    /// Index into that epoch's `rows`.
    pub batch: usize,
    /// The row of that batch.
    pub row: usize,
    /// Why, in words.
    pub why: String,
}

/// Delivers rows one by one. The engine keeps them in the outbox, in order, and retries.
#[async_trait]
pub trait OutboxSink: Send {
    /// How fast and how many.
    fn pace(&self) -> Pace;

    /// Looks, for `validate --connect`, whether what the options name is well formed. Each problem is one error.
    async fn check(&mut self) -> Vec<StageError> {
        Vec::new()
    }

    /// Delivers one alert and returns once the other side has taken it.
    ///
    /// `Transient` is tried again (after `retry_after` if given), for ever; `Data` makes a dead letter of it.
    /// Dropped when it takes longer than [`Pace::timeout`].
    async fn deliver(&mut self, alert: &Alert) -> Result<()>;
}

/// How an outbox is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The least time between two deliveries.
    pub at_most_every: Duration,
    /// The longest a delivery may take.
    pub timeout: Duration,
    /// How many alerts may wait.
    pub max_pending: u64,
    /// What happens to those above.
    pub when_full: WhenFull,
}

/// What happens when an outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Replaces the excess by one counted summary; its rows stay listed in the state store.
    #[default]
    Digest,
    /// Makes the pipeline wait.
    Wait,
}

/// One row to be delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Made from the row's source position and the stages it came by: the same at every delivery of the same row.
    pub id: String,
    /// The columns in their order; timestamps as RFC 3339 text in UTC. Of a digest, those of its last row.
    pub row: Map<String, Value>,
    /// How many rows this alert stands for, when it is a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_of: Option<u64>,
}

impl EpochRows {
    /// Rows with their batch's origins, for sinks that write row by row.
    pub fn batches(&self) -> impl Iterator<Item = (&arrow_array::RecordBatch, &Origins)> {
        self.rows.iter().map(|rows| (&rows.batch, &rows.origins))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.iter().map(|rows| rows.batch.num_rows()).sum()
    }

    /// True when there is no row: only the mark is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
