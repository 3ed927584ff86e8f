//! Rows as people are shown them: long texts by their beginnings, because a sensor may send megabytes.

use arrow::array::RecordBatch;
use pipeline_stage::{Cell, write_json_row};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A row whose texts are longer than this together is shortened: to so many characters of each.
const MAX_ROW_BYTES: usize = 4_096;
const SHOWN_CHARACTERS: usize = 200;

/// A row as JSON.
pub struct Shown {
    /// It.
    pub row: Box<RawValue>,
    /// How many of its texts are shortened.
    pub shortened: u64,
}

/// A row as JSON; a text that is shortened says so at its end.
pub fn shown(batch: &RecordBatch, row: usize) -> Option<Shown> {
    let lengths = batch.columns().iter().map(|column| match Cell::of(column, row) {
        Cell::Text(text) => text.len(),
        Cell::Other(text) => text.len(),
        _ => 0,
    });
    let mut shortened = 0;
    let text = match lengths.sum::<usize>() <= MAX_ROW_BYTES {
        true => {
            let mut text = Vec::new();
            write_json_row(batch, row, &mut text);
            text
        }
        false => {
            let names = batch.schema_ref().fields().iter().map(|field| field.name().clone());
            let values = batch.columns().iter().map(|column| match Cell::of(column, row) {
                Cell::Text(text) => beginning(text, &mut shortened),
                Cell::Other(text) => beginning(&text, &mut shortened),
                cell => cell.into(),
            });
            serde_json::to_vec(&names.zip(values).collect::<Map<String, Value>>()).ok()?
        }
    };
    let row = RawValue::from_string(String::from_utf8(text).ok()?).ok()?;
    Some(Shown { row, shortened })
}

/// As [`shown`], for those who do not count.
pub fn json(batch: &RecordBatch, row: usize) -> Option<Box<RawValue>> {
    shown(batch, row).map(|shown| shown.row)
}

fn beginning(text: &str, shortened: &mut u64) -> Value {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => {
            *shortened += 1;
            format!("{}… ({} bytes, shortened)", &text[..end], text.len()).into()
        }
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_text_of_megabytes_is_shown_by_its_beginning_and_says_so() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["ä".repeat(1_000_000), "short".into()]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("sensor", texts), ("n", numbers)]).unwrap();
        let long = shown(&batch, 0).unwrap();
        let row: Value = serde_json::from_str(long.row.get()).unwrap();
        let expected = format!("{}… (2000000 bytes, shortened)", "ä".repeat(SHOWN_CHARACTERS));
        assert_eq!((long.shortened, row["sensor"].as_str(), &row["n"]), (1, Some(expected.as_str()), &1.into()));
        let short = shown(&batch, 1).unwrap();
        assert_eq!((short.shortened, short.row.get()), (0, r#"{"sensor":"short","n":2}"#));
    }
}
