//! The state store: epoch log, checkpoints, outboxes and dead letters of a pipeline.
//!
//! One trait, one implementation over sqlx for SQLite (a folder) and PostgreSQL (shared by several machines).

mod changes;
mod checkpoints;
mod connect;
mod entry;
mod errors;
mod evidence;
mod kept;
mod letters;
mod log;
mod merge;
mod outbox;
mod settings;
mod sql;
mod tables;
mod tasks;
pub mod tools;
mod values;

use async_trait::async_trait;
use pipeline_stage::{Alert, Mark, Position, Result, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use changes::PART_BYTES;
pub use changes::{Changes, StageChanges};
pub(crate) use connect::is_postgres;
pub use connect::{open, open_beside};
pub use entry::{Beside, EpochEntry, Segment, StoredRow};
pub use evidence::{
    EVIDENCE_AGE_MICROS, Evidence, EvidenceLine, Judge, Judged, JudgedColumn, MAX_EVIDENCE, NewEvidence,
    evidence_number, evidence_rows, series_of,
};
pub use kept::KeptBatch;
pub use outbox::{Digest, OutboxStore, Pending};

/// A row that could not be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The row, and the stage that could not.
    pub row: StoredRow,
    /// The task.
    pub task: String,
    /// The epoch it was read in.
    pub epoch: u64,
    /// Why, in words.
    pub reason: String,
    /// When that was.
    pub at: Timestamp,
}

/// What becomes durable in one step when an epoch ends.
#[derive(Debug, Clone)]
pub struct Append {
    /// The task.
    pub task: String,
    /// The writer; a task that another owner has taken over is refused.
    pub generation: u64,
    /// The epoch.
    pub entry: EpochEntry,
    /// Its dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that are processed again in this epoch: they are taken out.
    pub replayed: Vec<i64>,
    /// Rows for outboxes.
    pub alerts: Vec<NewAlert>,
    /// What its anomalies were judged by.
    pub evidence: Vec<NewEvidence>,
    /// Marks of sinks that cannot keep their own, of epochs before this one.
    pub marks: Vec<Mark>,
}

/// A row for an outbox.
#[derive(Debug, Clone)]
pub struct NewAlert {
    /// The sink's id.
    pub sink: String,
    /// What to deliver.
    pub alert: Alert,
    /// The outbox was full: it is delivered in a digest.
    pub is_excess: bool,
    /// Where its row was read: `source/partition`.
    pub place: String,
    /// The row's offset there.
    pub offset: u64,
    /// By which stages the row came.
    pub branch: u64,
}

/// All there is of a task when it is claimed.
#[derive(Debug)]
pub struct ClaimedTask {
    /// Made with the state.
    pub state_id: String,
    /// Of this owner.
    pub generation: u64,
    /// The state began after this epoch: another life of it, with output up to there, was given up.
    pub begun_above: Option<u64>,
    /// Epochs were logged, but neither they nor a checkpoint are there.
    pub is_lost: bool,
    /// The sinks that have had all epochs so far.
    pub sinks: Vec<String>,
    /// The pipeline's definition that wrote the log.
    pub definition: Option<String>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The epochs after it, in order.
    pub log: Vec<EpochEntry>,
    /// Marks of sinks that cannot keep their own.
    pub marks: Vec<Mark>,
}

/// All state of a task as of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Checkpoint {
    /// The last epoch it includes.
    pub epoch: u64,
    /// When that ended.
    pub ended_at: Option<Timestamp>,
    /// The watermark then.
    pub watermark: Option<Timestamp>,
    /// Where each source goes on: id and position.
    pub positions: Vec<(String, Position)>,
    /// The stages that may have state.
    pub stages: Vec<StageOf>,
}

/// What the state of a stage is of: a stage that is anything else does not find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct StageOf {
    /// The stage's id.
    pub id: String,
    /// Its kind and type: `detector.zscore`.
    pub of: String,
    /// The columns that make its series, if it has any.
    pub key: Option<Vec<String>>,
    /// The column it looks at, if it says so.
    pub value: Option<String>,
}

/// Keeps what a pipeline must not lose. Every call that returns has made its change durable.
///
/// Errors are `Transient` when the store may come back (the callers retry), `TakenOver` when another owner has the
/// task, `Fatal` otherwise.
#[async_trait]
pub trait StateStore: OutboxStore + Send + Sync {
    /// Where it is, for people; no secret.
    fn place(&self) -> String;

    /// What is stored under a name for the whole pipeline (`tasks`, `definition`).
    async fn setting(&self, name: &str) -> Result<Option<String>>;
    /// Stores it.
    async fn set_setting(&self, name: &str, value: &str) -> Result<()>;

    /// Becomes the owner of a task: raises its generation and reads what there is.
    async fn claim(&self, task: &str) -> Result<ClaimedTask>;
    /// Whether nobody has claimed the task since.
    async fn is_owner(&self, task: &str, generation: u64) -> Result<bool>;
    /// Begins the state of a task anew, after `claim`: another state id, no checkpoint, no log, the same generation. Its
    /// epochs are numbered on above those that any sink has.
    async fn begin_anew(&self, task: &str, generation: u64, above: Option<u64>) -> Result<String>;
    /// The tasks that have state.
    async fn tasks(&self) -> Result<Vec<String>>;
    /// Says which sinks have had all epochs, and which definition writes from here on.
    async fn set_sinks(&self, task: &str, generation: u64, sinks: &[String], definition: &str) -> Result<()>;

    /// The definitions under which epochs were logged that no checkpoint includes yet.
    async fn pending_definitions(&self) -> Result<Vec<String>>;

    /// Appends epochs of several tasks with one fsync. One answer for each: false when another owner has the task.
    async fn append(&self, appends: &[Append]) -> Result<Vec<bool>>;
    /// Stores marks of sinks that cannot keep their own; all of one task.
    async fn set_marks(&self, marks: &[Mark]) -> Result<()>;

    /// Writes a part of a checkpoint; it is not seen until `publish`. A part that is written again has the same changes.
    async fn write_changes(
        &self,
        task: &str,
        generation: u64,
        epoch: u64,
        part: u64,
        changes: &StageChanges,
    ) -> Result<()>;
    /// Makes a checkpoint the newest one.
    async fn publish(&self, task: &str, generation: u64, checkpoint: &Checkpoint) -> Result<()>;
    /// Drops the log up to a checkpoint that is published, what else it replaces, and evidence that is too old or too
    /// much. Of the stages in `whole` the checkpoint has all state: their older changes go, too.
    async fn drop_log(&self, task: &str, generation: u64, checkpoint: &Checkpoint, whole: &[String]) -> Result<()>;
    /// Gives stages other state in the newest checkpoint, which is `checkpoint` from then on, in one step.
    async fn replace_state(
        &self,
        task: &str,
        generation: u64,
        checkpoint: &Checkpoint,
        states: &[StageChanges],
    ) -> Result<()>;
    /// The state of a stage as of the newest checkpoint, sorted by key.
    async fn load(&self, task: &str, stage: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// The newest evidence, at most `MAX_EVIDENCE`, the newest first.
    async fn evidence_lines(&self) -> Result<Vec<EvidenceLine>>;
    /// The evidence of this number; none when it is not there any more.
    async fn evidence(&self, number: i64) -> Result<Option<Evidence>>;

    /// Stores dead letters; those that are there already stay as they are.
    async fn add_dead_letters(&self, letters: &[DeadLetter]) -> Result<()>;
    /// Dead letters by number, the oldest first, those after `after`.
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>>;
    /// Asks for these to be processed again (all, when none are named); returns how many.
    ///
    /// When one is not there, the error names it and nothing is asked for.
    async fn request_replay(&self, numbers: &[i64]) -> Result<u64>;
    /// Those of a task that somebody wants processed again, by number, those after `after`.
    async fn replay_requests(&self, task: &str, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>>;
    /// These cannot be processed again: withdraws the request and stores the new reason.
    async fn refuse_replay(&self, refused: &[(i64, String)]) -> Result<()>;
    /// The tasks that have such requests.
    async fn tasks_to_replay(&self) -> Result<Vec<String>>;
}
