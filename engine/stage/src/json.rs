//! Rows as JSON: what files, topics, webhooks and the console print of a row.
//!
//! One object for each row, its members in the order of the columns. Timestamps are RFC 3339 text in UTC
//! (`2025-07-20T08:19:16.412Z`); numbers that JSON cannot hold (infinities, NaN) are `null`, as is null itself.

use arrow_array::RecordBatch;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cell::Cell;

/// A row as a JSON object. The row must be there.
pub fn row_to_json(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema_ref();
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.zip(batch.columns().iter().map(|column| Cell::of(column, row).into())).collect()
}

/// Appends a row as a JSON object, the same as [`row_to_json`] gives, on one line and without the line feed.
///
/// The row must be there.
pub fn write_json_row(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    write_json_members(batch, row, out);
    out.push(b'}');
}

/// Appends what stands between the braces, for those who put members of their own in front.
///
/// The row must be there.
pub fn write_json_members(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    for (idx, (field, column)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write_json(field.name().as_str(), out);
        out.push(b':');
        write_cell(Cell::of(column, row), out);
    }
}

/// The largest whole number up to which all are different in a browser, which has floats only.
const LAST_EXACT: u64 = (1 << 53) - 1;

/// A value for a browser: a whole number that it could not tell from its neighbours is text. Questions of a
/// [`History`](crate::History) take such text for the number.
pub fn exact_in_browsers(value: Value) -> Value {
    match value.as_i64() {
        Some(number) if LAST_EXACT < number.unsigned_abs() => number.to_string().into(),
        _ => value,
    }
}

/// A row as [`row_to_json`] gives it, for a browser: see [`exact_in_browsers`].
pub fn row_for_browsers(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    row_to_json(batch, row).into_iter().map(|(name, value)| (name, exact_in_browsers(value))).collect()
}

fn write_cell(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Text(text) => write_json(text, out),
        Cell::Integer(number) => write_json(&number, out),
        // serde_json writes null for what is not finite.
        Cell::Float(number) => write_json(&number, out),
        Cell::Boolean(is_true) => write_json(&is_true, out),
        Cell::Time(time) => write_json(&time.to_rfc3339(), out),
        Cell::Other(text) => write_json(&text, out),
    }
}

fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("text, numbers and booleans are always JSON, and memory takes them");
}

impl From<Cell<'_>> for Value {
    fn from(cell: Cell<'_>) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Text(text) => text.into(),
            Cell::Integer(number) => number.into(),
            // Null for what is not finite.
            Cell::Float(number) => number.into(),
            Cell::Boolean(is_true) => is_true.into(),
            Cell::Time(time) => time.to_rfc3339().into(),
            Cell::Other(text) => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, NullArray, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    fn rows() -> RecordBatch {
        let times = [Some(1_752_999_556_412_000), Some(i64::MAX), Some(-62_167_219_200_000_000), None];
        let columns: [(&str, ArrayRef); 7] = [
            ("sensor \"id\"", Arc::new(StringArray::from(vec![Some("a\"\\\n\0\u{1b}é😀"), Some(""), None, Some("x")]))),
            ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None, Some(0)]))),
            (
                "value",
                Arc::new(Float64Array::from(vec![Some(71.32), Some(f64::NAN), Some(f64::NEG_INFINITY), Some(-0.0)])),
            ),
            ("is_anomaly", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))),
            ("small", Arc::new(Int32Array::from(vec![Some(7), None, None, None]))),
            ("nothing", Arc::new(NullArray::new(4))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn a_row_is_an_object_with_its_columns_in_order() {
        let expected = [
            r#"{"sensor \"id\"":"a\"\\\n\u0000\u001bé😀","count":-9223372036854775808,"value":71.32,"is_anomaly":true,"at":"2025-07-20T08:19:16.412Z","small":"7","nothing":null}"#,
            r#"{"sensor \"id\"":"","count":9223372036854775807,"value":null,"is_anomaly":false,"at":"9223372036854775807","small":null,"nothing":null}"#,
            r#"{"sensor \"id\"":null,"count":null,"value":null,"is_anomaly":null,"at":"0000-01-01T00:00:00Z","small":null,"nothing":null}"#,
            r#"{"sensor \"id\"":"x","count":0,"value":-0.0,"is_anomaly":true,"at":null,"small":null,"nothing":null}"#,
        ];
        for (row, line) in expected.into_iter().enumerate() {
            let mut written = Vec::new();
            write_json_row(&rows(), row, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), line);
        }
    }

    #[test]
    fn whole_numbers_that_browsers_cannot_tell_apart_are_text() {
        let last = 9_007_199_254_740_991_i64;
        for number in [0, last, -last] {
            assert_eq!(exact_in_browsers(number.into()), Value::from(number));
        }
        for number in [last + 1, -last - 1, i64::MIN, i64::MAX] {
            assert_eq!(exact_in_browsers(number.into()), Value::from(number.to_string()));
        }
        assert_eq!(row_for_browsers(&rows(), 1)["count"], "9223372036854775807");
        assert_eq!(exact_in_browsers(1e300.into()), Value::from(1e300));
    }

    #[test]
    fn both_forms_are_the_same() {
        for row in 0..rows().num_rows() {
            let mut written = Vec::new();
            write_json_row(&rows(), row, &mut written);
            let object = row_to_json(&rows(), row);
            assert_eq!(String::from_utf8(written.clone()).unwrap(), serde_json::to_string(&object).unwrap());
            assert_eq!(serde_json::from_slice::<Map<String, Value>>(&written).unwrap(), object);
        }
    }

    #[test]
    fn a_row_without_columns_is_an_empty_object() {
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(Arc::new(arrow_schema::Schema::empty()), vec![], &options);
        let mut written = Vec::new();
        write_json_row(&batch.unwrap(), 0, &mut written);
        assert_eq!(written, b"{}");
    }
}
