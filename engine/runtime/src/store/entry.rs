//! An entry of the epoch log, and the rows that it holds.

use pipeline_stage::{Position, Timestamp};
use serde::{Deserialize, Serialize};

use super::KeptBatch;

/// What the epoch log holds of one epoch: enough to compute it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochEntry {
    /// Its number; 0 is the entry that holds the resolved start.
    pub epoch: u64,
    /// When it ended; never earlier than the one before.
    pub ended_at: Timestamp,
    /// What was read, in the order it was read.
    pub segments: Vec<Segment>,
    /// The number of rows read.
    pub rows: u64,
    /// A hash of their positions.
    pub hash: u64,
    /// Dead letters that were processed again, as they were: they come before the segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<StoredRow>,
}

impl EpochEntry {
    /// Whether it holds nothing but where sources begin.
    pub fn is_start(&self) -> bool {
        !self.segments.is_empty() && self.rows == 0 && self.stored.is_empty()
    }

    /// About how many bytes of rows it keeps, because their sources cannot be read again.
    pub fn kept_bytes(&self) -> usize {
        self.segments.iter().flat_map(|segment| &segment.kept).map(KeptBatch::bytes).sum()
    }

    /// The same without what it holds of rows: all that is needed of it once it is logged.
    pub fn without_rows(&self) -> Self {
        EpochEntry { segments: Vec::new(), stored: Vec::new(), ..*self }
    }
}

/// Consecutive rows of one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The source's id.
    pub source: String,
    /// Where the next row of this source begins.
    pub until: Position,
    /// The number of rows.
    pub rows: u64,
    /// The rows themselves, when their source cannot be read again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptBatch>,
}

/// A row kept with its bytes, to enter the pipeline at a stage. Stage, place, offset and branch name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRow {
    /// Where it enters: a source's id for a payload to be decoded, any other stage's for a row as JSON.
    pub stage: String,
    /// By which of the stage's inputs, in the order of `inputs:`; 0 for a source, and for a sink, whose inputs are alike.
    pub edge: u32,
    /// Where it was read first, `source/partition`; see [`Origins`](pipeline_stage::Origins).
    pub place: String,
    /// Its offset there.
    pub offset: u64,
    /// By which stages it came.
    pub branch: u64,
    /// The payload, or the row as JSON; none for a tombstone.
    pub bytes: Option<Vec<u8>>,
    /// What stood beside a payload; none for a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
}

/// What a source knows of a payload but for its offset; see [`RawRows`](pipeline_stage::RawRows).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The topic or file.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// The header line of its file.
    pub header: Option<Vec<u8>>,
}
