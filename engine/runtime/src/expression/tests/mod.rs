//! What the language means, what is said about mistakes, and what holds for any batch.

mod errors;
mod laws;
mod values;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use chrono::{DateTime, SecondsFormat};

use super::Expression;

/// Four rows; the third is null in all columns that may be.
fn readings() -> RecordBatch {
    let timestamps = [Some("2025-07-20T08:19:16.5Z"), Some("2024-02-29T23:59:59Z"), None, Some("1969-12-31T23:59:59Z")];
    let micros = timestamps.map(|text| Some(DateTime::parse_from_rfc3339(text?).ok()?.timestamp_micros()));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("sensor_id", Arc::new(StringArray::from(vec!["sensor-01", "sensor-02", "Sensor-03", "äöü°"])), false),
        ("metric", Arc::new(StringArray::from(vec![Some("temperature"), Some("humidity"), None, Some("")])), true),
        ("value", Arc::new(Float64Array::from(vec![Some(71.5), Some(-0.0), None, Some(20.25)])), true),
        ("count", Arc::new(Int64Array::from(vec![Some(7), Some(0), None, Some(i64::MAX)])), true),
        ("is_anomaly", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])), true),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC")), true),
        ("°C", Arc::new(Float64Array::from(vec![f64::NAN, 0.0, 1.0, f64::INFINITY])), false),
        ("a.b", Arc::new(Int64Array::from(vec![1, 2, 3, 4])), false),
        ("user", Arc::new(StringArray::from(vec!["u", "v", "w", "x"])), false),
    ];
    let fields =
        columns.iter().map(|(name, array, is_nullable)| Field::new(*name, array.data_type().clone(), *is_nullable));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array, _)| array).collect()).unwrap()
}

fn schema() -> Schema {
    readings().schema().as_ref().clone()
}

/// Compiles what must be right.
fn compile(text: &str, schema: &Schema) -> Expression {
    Expression::compile(text, schema).unwrap_or_else(|errors| panic!("`{text}`: {errors:?}"))
}

/// The results for a batch, in words, separated by blanks.
fn evaluate(text: &str, batch: &RecordBatch) -> String {
    let expression = compile(text, &batch.schema());
    let array = expression.evaluate(batch).unwrap();
    assert_eq!(array.len(), batch.num_rows(), "`{text}`");
    assert_eq!(array.data_type(), expression.data_type(), "`{text}`");
    assert!(expression.is_nullable() || array.null_count() == 0, "`{text}` has nulls, but says it has none");
    (0..array.len()).map(|row| cell(&array, row)).collect::<Vec<_>>().join(" ")
}

/// One value as it is printed: floats with a point, times in RFC 3339.
fn cell(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        _ => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true)
        }
    }
}
