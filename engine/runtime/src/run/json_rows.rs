//! Rows that are kept as JSON, dead letters and evidence, and become rows again.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use pipeline_stage::{ColumnType, Result, StageError, printable, write_json_row};
use serde_json::{Map, Value};

/// Of a value that does not fit, this many characters are shown: enough to know it again in a line of a log.
const MAX_SHOWN: usize = 60;

/// About what a column takes in a row as JSON.
const BYTES_OF_COLUMN: usize = 40;

/// A row as JSON: [`rows_of_json`] reads it.
pub fn json_of(batch: &RecordBatch, row: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(batch.num_columns() * BYTES_OF_COLUMN);
    write_json_row(batch, row, &mut json);
    json
}

/// Reads what [`json_of`] wrote, as a batch of one row.
///
/// # Errors
/// `Fatal` when a column has another type than the pipeline has now, or a value that is not nullable is missing.
pub fn rows_of_json(schema: &SchemaRef, bytes: &[u8]) -> Result<RecordBatch> {
    let unreadable = |error| StageError::fatal("it is no row").because(error);
    let row: Map<String, Value> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let columns = schema.fields().iter().map(|field| column(field, row.get(field.name()).unwrap_or(&Value::Null)));
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|error| misfit(schema, &error.to_string()))
}

fn column(field: &Field, value: &Value) -> Result<ArrayRef> {
    let wrong = || {
        let is = ColumnType::of(field.data_type()).map_or("of another type", ColumnType::name);
        let value = printable(&value.to_string(), MAX_SHOWN);
        StageError::fatal(format!("it has `{value}` in column `{}`, which is {is} now", field.name()))
    };
    if !value.is_null() && !is_of(field, value) {
        return Err(wrong());
    }
    Ok(match ColumnType::of(field.data_type()).ok_or_else(wrong)? {
        ColumnType::String => Arc::new(StringArray::from(vec![value.as_str()])),
        ColumnType::Integer => Arc::new(Int64Array::from(vec![value.as_i64()])),
        ColumnType::Float => Arc::new(Float64Array::from(vec![value.as_f64()])),
        ColumnType::Boolean => Arc::new(BooleanArray::from(vec![value.as_bool()])),
        ColumnType::Timestamp => {
            let time = value.as_str().map(micros).transpose()?;
            Arc::new(TimestampMicrosecondArray::from(vec![time]).with_timezone("UTC"))
        }
    })
}

fn is_of(field: &Field, value: &Value) -> bool {
    match ColumnType::of(field.data_type()) {
        Some(ColumnType::String | ColumnType::Timestamp) => value.is_string(),
        Some(ColumnType::Integer) => value.is_i64(),
        Some(ColumnType::Float) => value.is_number(),
        Some(ColumnType::Boolean) => value.is_boolean(),
        None => false,
    }
}

fn micros(text: &str) -> Result<i64> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros())
        .map_err(|error| StageError::fatal(format!("it has the time `{}`", printable(text, MAX_SHOWN))).because(error))
}

fn misfit(schema: &Schema, error: &str) -> StageError {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    StageError::fatal(format!("it does not fit the columns {}", names.join(", "))).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use pipeline_stage::{row_to_json, timestamp_type};

    use super::*;
    use arrow::datatypes::DataType;

    #[test]
    fn a_row_survives_the_way_through_json() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("text", DataType::Utf8, false),
            Field::new("whole", DataType::Int64, true),
            Field::new("number", DataType::Float64, true),
            Field::new("flag", DataType::Boolean, true),
            Field::new("time", timestamp_type(), true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a\0\"<"])),
            Arc::new(Int64Array::from(vec![i64::MIN])),
            Arc::new(Float64Array::from(vec![0.1 + 0.2])),
            Arc::new(BooleanArray::from(vec![None])),
            Arc::new(TimestampMicrosecondArray::from(vec![1_752_999_556_412_001]).with_timezone("UTC")),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let json = serde_json::to_vec(&row_to_json(&batch, 0)).unwrap();
        assert_eq!(rows_of_json(&schema, &json).unwrap(), batch);
    }

    #[test]
    fn says_what_does_not_fit() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        for (json, part) in [
            ("{\"n\":\"x\"}", "it has `\"x\"` in column `n`, which is integer now"),
            ("{}", "does not fit the columns n"),
        ] {
            let error = rows_of_json(&schema, json.as_bytes()).unwrap_err().chain();
            assert!(error.contains(part), "{error}");
        }
    }
}
