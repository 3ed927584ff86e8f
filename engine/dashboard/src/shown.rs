//! Rows as people are shown them: long texts by their beginnings, because a sensor may send megabytes.

use arrow::array::RecordBatch;
use pipeline_stage::row_for_browsers;
use serde_json::Value;
use serde_json::value::RawValue;

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
    let mut row = row_for_browsers(batch, row);
    let lengths = row.values().map(|value| value.as_str().map_or(0, str::len));
    let mut shortened = 0;
    if MAX_ROW_BYTES < lengths.sum::<usize>() {
        row.values_mut().for_each(|value| shorten(value, &mut shortened));
    }
    let row = RawValue::from_string(serde_json::to_string(&row).ok()?).ok()?;
    Some(Shown { row, shortened })
}

/// As [`shown`], for those who do not count.
pub fn json(batch: &RecordBatch, row: usize) -> Option<Box<RawValue>> {
    shown(batch, row).map(|shown| shown.row)
}

fn shorten(value: &mut Value, shortened: &mut u64) {
    let Value::String(text) = value else { return };
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARACTERS) {
        *shortened += 1;
        *text = format!("{}… ({} bytes, shortened)", &text[..end], text.len());
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
