//! Rows on their way through a task.

use std::sync::Arc;

use arrow_array::{Array, BinaryArray, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, TimeUnit};

use crate::position::Origins;

/// The most rows a batch has: compute on it stays near a millisecond.
pub const MAX_BATCH_ROWS: usize = 8_192;

/// A batch with the origin of each of its rows.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The rows.
    pub batch: RecordBatch,
    /// Where each came from; as many as there are rows.
    pub origins: Origins,
}

/// What a source reads that does not know about columns: payloads, to be decoded by a format.
#[derive(Debug, Clone)]
pub struct RawRows {
    /// One row each; null is a Kafka tombstone.
    pub payloads: BinaryArray,
    /// Kafka's keys; none when the source has none, or no row of the batch has one.
    pub keys: Option<BinaryArray>,
    /// When the broker or the producer says they were written; none when the source does not know.
    pub times: Option<TimestampMicrosecondArray>,
    /// The header line of the file, for a format that wants one.
    pub header: Option<Arc<[u8]>>,
    /// The topic or file.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: u32,
}

impl RawRows {
    /// Payloads alone, from nowhere.
    pub fn of_payloads<P: AsRef<[u8]>>(payloads: Vec<P>) -> Self {
        RawRows {
            payloads: BinaryArray::from_iter_values(payloads),
            keys: None,
            times: None,
            header: None,
            topic: "".into(),
            partition: 0,
        }
    }
}

/// What a reader hands over: at most [`MAX_BATCH_ROWS`] rows in the order of their offsets.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// The rows.
    pub rows: SourceRows,
    /// One offset for each row, rising.
    pub offsets: Vec<u64>,
}

/// Either form a source may give its rows; always the one its `output` promised.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one for each batch of thousands of rows")]
pub enum SourceRows {
    /// To be decoded.
    Raw(RawRows),
    /// Columns of the schema that [`Source::output`](crate::Source::output) named.
    Columns(RecordBatch),
}

impl SourceBatch {
    /// One without rows, which says that what had failed works again.
    pub fn empty() -> Self {
        SourceBatch { rows: SourceRows::Raw(RawRows::of_payloads(Vec::<&[u8]>::new())), offsets: Vec::new() }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The size of the rows in bytes, not counting memory that is only kept ready.
    pub fn bytes(&self) -> usize {
        match &self.rows {
            SourceRows::Raw(raw) => size_of_part(&raw.payloads),
            SourceRows::Columns(batch) => bytes_of(batch),
        }
    }
}

/// The size of what is in a batch: of a slice, only its own part.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| size_of_part(column)).sum()
}

fn size_of_part(array: &dyn Array) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_default()
}

/// The types a declared column may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Text (Arrow `Utf8`).
    String,
    /// A whole number of 64 bits (Arrow `Int64`).
    Integer,
    /// A number of 64 bits; always finite (Arrow `Float64`).
    Float,
    /// true or false.
    Boolean,
    /// A moment, in microseconds (Arrow `Timestamp(Microsecond, UTC)`): RFC 3339 text with or without a zone, or seconds or milliseconds since 1970.
    Timestamp,
}

impl ColumnType {
    /// The Arrow type of such a column.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::String => DataType::Utf8,
            ColumnType::Integer => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Timestamp => timestamp_type(),
        }
    }

    /// The name users write, for a type of Arrow; none for types that no column has.
    pub fn of(arrow: &DataType) -> Option<Self> {
        match arrow {
            DataType::Utf8 => Some(ColumnType::String),
            DataType::Int64 => Some(ColumnType::Integer),
            DataType::Float64 => Some(ColumnType::Float),
            DataType::Boolean => Some(ColumnType::Boolean),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Some(ColumnType::Timestamp),
            _ => None,
        }
    }

    /// As it is written in a pipeline file.
    pub fn name(self) -> &'static str {
        match self {
            ColumnType::String => "string",
            ColumnType::Integer => "integer",
            ColumnType::Float => "float",
            ColumnType::Boolean => "boolean",
            ColumnType::Timestamp => "timestamp",
        }
    }
}

/// The Arrow type of every timestamp in a pipeline.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
