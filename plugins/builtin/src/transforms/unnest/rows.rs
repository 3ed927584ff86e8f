//! Rows in the making: a document gives all of its rows or none.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use pipeline_stage::{MAX_BATCH_ROWS, Origin, Output, Result};

use super::cell::{Cell, Column};
use super::path::Key;
use crate::formats::building::Building;
use crate::formats::value::Value;

/// The most that the rows of one document take, in bytes: a short document whose one long text stands in each of its
/// rows must not fill the memory. Far above what documents with readings make.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// The rows of some documents.
pub(super) struct Rows {
    columns: Vec<Building>,
    /// Of each row, the row of its document.
    origins: Vec<u32>,
    /// About what they take.
    bytes: usize,
    /// Where the rows of the document begin that is read now.
    first: usize,
    first_byte: usize,
    /// Where texts are put together.
    text: String,
}

impl Rows {
    pub fn new(columns: &[Column]) -> Self {
        Rows {
            columns: columns.iter().map(|column| Building::new(column.column_type, 0, 0)).collect(),
            origins: Vec::new(),
            bytes: 0,
            first: 0,
            first_byte: 0,
            text: String::new(),
        }
    }

    /// Begins with the next document.
    pub fn begin(&mut self) {
        (self.first, self.first_byte) = (self.origins.len(), self.bytes);
    }

    /// Adds a row of the document at row `origin`, which has so many bytes beside its document.
    ///
    /// # Errors
    /// In words, when the document does not have what the row needs. Then the document is to be taken back.
    pub fn add<'a>(
        &mut self,
        columns: &'a [Column],
        cells: &'a [Cell],
        document: &'a serde_json::Value,
        stars: &[Key<'a>],
        origin: (usize, usize),
    ) -> Result<(), String> {
        let (row, bytes_beside) = origin;
        self.bytes += bytes_beside;
        for ((column, cell), building) in columns.iter().zip(cells).zip(&mut self.columns) {
            let value = cell.value(column, document, stars, &mut self.text)?;
            self.bytes += match value {
                Value::Text(text) => text.len(),
                _ => size_of::<u64>(),
            };
            building.push(value);
        }
        self.origins.push(row as u32);
        match self.bytes - self.first_byte <= MAX_DOCUMENT_BYTES {
            true => Ok(()),
            false => Err(format!("its rows would take more than {} MiB", MAX_DOCUMENT_BYTES >> 20)),
        }
    }

    /// How many rows the document has so far.
    pub fn of_document(&self) -> usize {
        self.origins.len() - self.first
    }

    /// Takes the rows of the document back.
    pub fn take_back(&mut self) {
        self.columns.iter_mut().for_each(|column| column.truncate(self.first));
        self.origins.truncate(self.first);
        self.bytes = self.first_byte;
    }

    /// Whether they are enough for a batch.
    pub fn are_enough(&self) -> bool {
        MAX_BATCH_ROWS <= self.origins.len() || MAX_DOCUMENT_BYTES <= self.bytes
    }

    /// Gives them to the stages below, with the columns of their documents that are `kept`.
    pub fn emit(self, schema: &SchemaRef, given: &RecordBatch, kept: &[usize], out: &mut Output) -> Result<()> {
        let rows = UInt32Array::from(self.origins.clone());
        let beside = kept.iter().map(|column| Ok(take(given.column(*column), &rows, None)?));
        let own = self.columns.into_iter().map(Building::finish);
        let columns: Vec<ArrayRef> = beside.chain(own).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        for (number, origins) in self.origins.chunks(MAX_BATCH_ROWS).enumerate() {
            let part = batch.slice(number * MAX_BATCH_ROWS, origins.len());
            out.emit(part, Origin::Rows(origins.to_vec()));
        }
        Ok(())
    }
}

/// About how many bytes a row has in these columns.
pub(super) fn bytes_of(given: &RecordBatch, columns: &[usize], row: usize) -> usize {
    let sizes = columns.iter().map(|column| match given.column(*column).data_type() {
        DataType::Utf8 => given.column(*column).as_string::<i32>().value_length(row) as usize,
        _ => size_of::<u64>(),
    });
    sizes.sum()
}
