//! The rows of a source, one by one, so that they can be compared.

use arrow::array::Array;
use arrow::util::display::array_value_to_string;
use pipeline_stage::{RawRows, SourceBatch, SourceRows};

use crate::broken::Broken;

/// A row with its offset; payloads and columns as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub offset: u64,
    text: String,
}

/// The rows of a batch.
///
/// # Errors
/// When offsets do not rise, or are not as many as the rows.
pub fn rows_of(batch: &SourceBatch) -> Result<Vec<Row>, Broken> {
    let n_rows = match &batch.rows {
        SourceRows::Raw(raw) => raw.payloads.len(),
        SourceRows::Columns(columns) => columns.num_rows(),
    };
    if n_rows != batch.offsets.len() {
        return Err(Broken::new(format!("a batch has {n_rows} rows and {} offsets", batch.offsets.len())));
    }
    if let Some(pair) = batch.offsets.windows(2).find(|pair| pair[1] <= pair[0]) {
        return Err(Broken::new(format!("offsets must rise, {} comes after {}", pair[1], pair[0])));
    }
    let rows = batch.offsets.iter().enumerate();
    Ok(rows.map(|(row, offset)| Row { offset: *offset, text: text_of(&batch.rows, row) }).collect())
}

fn text_of(rows: &SourceRows, row: usize) -> String {
    match rows {
        SourceRows::Raw(raw) => text_of_payload(raw, row),
        SourceRows::Columns(columns) => {
            let text = |column: &dyn Array| match column.is_null(row) {
                true => "null".to_owned(),
                false => format!("`{}`", array_value_to_string(column, row).unwrap_or_default()),
            };
            columns.columns().iter().map(|column| text(column)).collect::<Vec<_>>().join(" ")
        }
    }
}

fn text_of_payload(raw: &RawRows, row: usize) -> String {
    let bytes = |array: &arrow::array::BinaryArray| match array.is_null(row) {
        true => "null".to_owned(),
        false => format!("`{}`", array.value(row).escape_ascii()),
    };
    let key = raw.keys.as_ref().map(|keys| format!(" with key {}", bytes(keys))).unwrap_or_default();
    let time = raw.times.as_ref().filter(|times| times.is_valid(row)).map(|times| format!(" at {}", times.value(row)));
    format!("{}{key}{}", bytes(&raw.payloads), time.unwrap_or_default())
}

/// The first difference from what the rows must be, in words.
pub fn difference(found: &[Row], expected: &[Row]) -> Option<String> {
    for (found, expected) in found.iter().zip(expected) {
        if found.offset != expected.offset {
            return Some(format!("a row at {} was given, it must be the one at {}", found.offset, expected.offset));
        }
        if found.text != expected.text {
            return Some(format!("the row at {} is {}, it must be {}", found.offset, found.text, expected.text));
        }
    }
    match (found.get(expected.len()), expected.get(found.len())) {
        (Some(row), _) => Some(format!("a row at {} was given, there must be none any more", row.offset)),
        (_, Some(row)) => Some(format!("the row at {} is missing", row.offset)),
        (None, None) => None,
    }
}
