//! How payloads become rows of declared columns.

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use std::sync::Arc;

use crate::error::Result;
use crate::rows::{ColumnType, RawRows};

/// A column as the pipeline file declares it under a source's `schema:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What it is called in the pipeline.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether a row may lack it.
    pub nullable: bool,
    /// Where its value stands.
    pub from: ColumnFrom,
}

/// Where the value of a column stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnFrom {
    /// In the payload: names from the outside in (`data.value` is two).
    Field(Vec<String>),
    /// Beside the payload.
    Meta(Meta),
    /// In a text beside the payload, which has parts with slashes between them: which text, and which part; 1 is the
    /// first.
    Part(Meta, usize),
}

/// What a source knows about a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meta {
    /// The topic or file (string).
    Topic,
    /// The partition's number (integer).
    Partition,
    /// The row's offset (integer).
    Offset,
    /// The message's key (string).
    Key,
    /// When it was written (timestamp).
    Time,
}

/// The Arrow schema of declared columns.
pub fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> =
        columns.iter().map(|column| Field::new(&column.name, column.column_type.arrow(), column.nullable)).collect();
    Arc::new(Schema::new(fields))
}

/// How a stream of bytes is cut into payloads; only sources of bytes (files) need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// At each line feed; a carriage return before it is dropped; empty lines are skipped.
    Lines,
    /// CSV records: a line feed inside quotes does not end one.
    Csv {
        /// What stands between two fields: a quote counts at the start of a field only.
        delimiter: u8,
        /// The quote character.
        quote: u8,
        /// The first record is the header; it comes with every batch as [`RawRows::header`].
        has_header: bool,
    },
}

/// Decodes payloads. Pure, like a transform; stateless between calls but for what speeds it up.
pub trait Format: Send {
    /// How a file is cut for it.
    fn framing(&self) -> Framing;

    /// Decodes the payloads that it can into a batch of the declared columns, in order; the others are rejected with
    /// the reason. `offsets` has one entry for each payload.
    fn decode(&mut self, raw: &RawRows, offsets: &[u64]) -> Result<Decoded>;

    /// Payloads that decode to these rows, which have the declared columns; none when it can only read. For benchmarks.
    fn encode(&self, _rows: &RecordBatch) -> Result<Option<RawRows>> {
        Ok(None)
    }
}

/// What `decode` made of a batch of payloads.
#[derive(Debug)]
pub struct Decoded {
    /// The good rows.
    pub batch: RecordBatch,
    /// The payload each good row came from; none when all were good.
    pub rows: Option<Vec<u32>>,
    /// The others, with the reason in words.
    pub rejected: Vec<(u32, String)>,
}
