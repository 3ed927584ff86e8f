//! Rows into rows.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::error::Result;
use crate::keyed::{KeyCache, KeyColumns, Keys};
use crate::position::Timestamp;
use crate::state::StateWriter;

/// Turns rows into rows. Pure: no I/O, clock or randomness; how rows are cut into batches must not matter.
///
/// The engine owns it from one task and calls it from one thread at a time.
pub trait Transform: Send {
    /// The columns it gives; fixed for its life.
    fn schema(&self) -> SchemaRef;

    /// Takes the next rows. `input` numbers the edge they come by, in the order of `inputs:`.
    ///
    /// An error of kind `Data` makes dead letters of the whole batch; for single rows there is [`Output::reject`].
    fn process(&mut self, input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()>;

    /// The end of an epoch: its recorded time, and the watermark, which moves only then.
    fn tick(&mut self, _at: Times, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Writes what has changed in its state since the last call, as puts and deletes by key.
    fn save(&mut self, _changes: &mut dyn StateWriter) -> Result<()> {
        Ok(())
    }

    /// Begins to save in parts, for state so large that writing it would hold up the rows: from here on [`save_part`]
    /// writes what has changed since the last save, or all, as it is here, whatever is processed meanwhile. False: it cannot,
    /// and is asked for all of it at once by `save`.
    ///
    /// [`save_part`]: Transform::save_part
    fn begin_save(&mut self) -> bool {
        false
    }

    /// Writes the next part of a save that `begin_save` has begun, of about `keys` keys. True when it was the last one.
    fn save_part(&mut self, _keys: usize, changes: &mut dyn StateWriter) -> Result<bool> {
        self.save(changes).map(|()| true)
    }

    /// Roughly what one series costs in memory, in bytes, for `validate` to tell; none when it keeps no series.
    fn bytes_per_series(&self) -> Option<usize> {
        None
    }

    /// How many series it keeps; none when it keeps none.
    fn series(&self) -> Option<u64> {
        None
    }

    /// The readings that a series remembers, by its key as state has it, the oldest first; none when it keeps none.
    fn window(&self, _key: &[u8]) -> Option<Vec<f64>> {
        None
    }

    /// Of a detector: how many readings of a series before one suffice to score it; none when that is not known, or when
    /// it depends on all of them. By it the dashboard knows from where on a detector must read to judge as it did then.
    fn looks_back(&self) -> Option<u64> {
        None
    }

    /// Rows it has taken and neither given, rejected nor dropped yet. They stand in the ledger as `held`.
    fn held(&self) -> u64 {
        0
    }
}

/// The times of an epoch's end, as the epoch log has recorded them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the epoch ended; never earlier than the one before.
    pub now: Timestamp,
    /// The latest event time seen; none as long as there was no row with a time.
    pub watermark: Option<Timestamp>,
}

/// Which input row each row of an emitted batch came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Row *i* came from row *i* of the batch that was given.
    Same,
    /// Row *i* came from that row of the batch that was given.
    Rows(Vec<u32>),
    /// Made by [`Transform::tick`], or of rows taken earlier.
    Created,
}

/// What a transform says about the rows it was given. Each must be emitted, rejected, late, filtered or held.
#[derive(Debug, Default)]
pub struct Output {
    emitted: Vec<(RecordBatch, Origin)>,
    rejected: Vec<(u32, String)>,
    late: Vec<u32>,
    filtered: u64,
    created: u64,
    evidence: Vec<Evidence>,
    /// How much more of it is wanted.
    evidence_room: usize,
    keys: KeyCache,
}

/// What a row was judged by, so that its score can be computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The row of the batch that was given, and of the one batch that was emitted for it.
    pub row: u32,
    /// The key of its series, as state has it.
    pub key: Vec<u8>,
    /// The series before the row, as a checkpoint would hold it; or why that cannot be shown, in words.
    pub before: std::result::Result<Vec<u8>, String>,
}

impl Output {
    /// For a call of which so much evidence is wanted.
    pub fn with_evidence(room: usize) -> Self {
        Output { evidence_room: room, ..Output::default() }
    }

    /// For a call that comes after another one in the same task: what was found out about the batch goes along.
    pub fn after(self, other: &mut Output) -> Self {
        Output { keys: std::mem::take(&mut other.keys), ..self }
    }

    /// For the next batch, of which nothing is known yet; for the engine. Memory that the one before needed is used again.
    pub fn next_batch(&mut self) {
        self.keys.clear();
    }

    /// The keys of the rows of a batch.
    pub(crate) fn keys(&mut self, columns: &KeyColumns, rows: &RecordBatch) -> Arc<Keys> {
        self.keys.keys(columns, rows)
    }

    /// Whether evidence is wanted: for a limited number of rows only.
    pub fn wants_evidence(&self) -> bool {
        self.evidence.len() < self.evidence_room
    }

    /// Keeps what a row was judged by. What is not wanted any more is left out.
    pub fn evidence(&mut self, evidence: Evidence) {
        if self.wants_evidence() {
            self.evidence.push(evidence);
        }
    }

    /// Gives rows to the stages below.
    pub fn emit(&mut self, batch: RecordBatch, origin: Origin) {
        if batch.num_rows() > 0 {
            self.emitted.push((batch, origin));
        }
    }

    /// Makes a dead letter of a row of the batch that was given, with the reason in words.
    pub fn reject(&mut self, row: usize, why: impl Into<String>) {
        self.rejected.push((row as u32, why.into()));
    }

    /// Drops a row of the batch that was given because the watermark has passed it.
    pub fn late(&mut self, row: usize) {
        self.late.push(row as u32);
    }

    /// Counts rows that were left out on purpose.
    pub fn filtered(&mut self, rows: u64) {
        self.filtered += rows;
    }

    /// Counts rows that are given without having come in.
    pub fn created(&mut self, rows: u64) {
        self.created += rows;
    }

    /// Takes everything out; for the engine.
    pub fn take(&mut self) -> Outcome {
        let keys = std::mem::take(&mut self.keys);
        let Output { emitted, rejected, late, filtered, created, evidence, .. } =
            std::mem::replace(self, Output { keys, ..Output::default() });
        Outcome { emitted, rejected, late, filtered, created, evidence }
    }
}

/// What was said to an [`Output`]; for the engine.
#[derive(Debug)]
pub struct Outcome {
    /// The batches, in the order of `emit`.
    pub emitted: Vec<(RecordBatch, Origin)>,
    /// Rows with the reason.
    pub rejected: Vec<(u32, String)>,
    /// Rows the watermark had passed.
    pub late: Vec<u32>,
    /// Rows left out on purpose.
    pub filtered: u64,
    /// Rows given without having come in.
    pub created: u64,
    /// What rows were judged by.
    pub evidence: Vec<Evidence>,
}
