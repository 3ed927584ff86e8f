//! What a sink has written is read back as it was given: every question of a [`History`], against answers that are
//! computed here, row by row.
//!
//! The test of a sink writes [`rows_to_read_back`] by the sink itself, then calls [`is_read_back`].

mod pages;
mod refusals;
mod rows;
mod series;

use arrow::array::RecordBatch;
use pipeline_stage::{History, Selection, Timestamp, row_to_json};
use serde_json::{Map, Value, json};

pub use rows::{HOSTILE_COLUMN, rows_to_read_back, schema_to_read_back};

/// A row as people see it.
type Row = Map<String, Value>;

/// Asks everything of a history whose table holds exactly these rows.
pub async fn is_read_back(history: &dyn History, written: &[RecordBatch]) {
    let rows = rows_of(written);
    let expected: Vec<_> =
        written[0].schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
    let found: Vec<_> = history.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
    assert_eq!(found, expected, "the schema");
    for selection in selections() {
        pages::check(history, &rows, &selection).await;
        series::check_counts(history, &rows, &selection).await;
        series::check_summary(history, &rows, &selection).await;
    }
    series::check_distinct(history, &rows).await;
    refusals::check(history).await;
}

fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| shown(batch, row))).collect()
}

/// As JSON, with texts for numbers that JSON cannot hold, which is how questions write them.
fn shown(batch: &RecordBatch, row: usize) -> Row {
    let mut shown = row_to_json(batch, row);
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if let pipeline_stage::Cell::Float(number) = pipeline_stage::Cell::of(column, row)
            && number.is_infinite()
        {
            let text = if 0.0 < number { "Infinity" } else { "-Infinity" };
            shown.insert(field.name().clone(), text.into());
        }
    }
    shown
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// Conditions of each kind, and some together.
fn selections() -> Vec<Selection> {
    let equal = |name: &str, value: Value| Selection { equal: vec![(name.into(), value)], ..Selection::default() };
    let between = |from: Option<i64>, until: Option<i64>| {
        Some(("timestamp".to_owned(), from.map(Timestamp), until.map(Timestamp)))
    };
    let mut selections = vec![
        Selection::default(),
        equal("metric_type", Value::Null),
        equal("value", json!(1.5)),
        equal("value", json!("Infinity")),
        equal(HOSTILE_COLUMN, json!(i64::MIN)),
        equal("is_anomaly", json!(false)),
        equal("timestamp", json!("1970-01-01T00:00:03Z")),
        Selection { only: Some("is_anomaly".into()), ..Selection::default() },
        Selection { time: between(Some(rows::SECOND), Some(3 * rows::SECOND)), ..Selection::default() },
        Selection { time: between(Some(3 * rows::SECOND), Some(3 * rows::SECOND + 1)), ..Selection::default() },
        Selection { time: between(None, Some(-1)), ..Selection::default() },
        Selection { time: between(Some(i64::MIN), Some(i64::MAX)), ..Selection::default() },
        Selection {
            equal: vec![("sensor_id".into(), json!("sensor-1")), ("metric_type".into(), json!("temperature"))],
            time: between(Some(-rows::SECOND), None),
            only: Some("is_anomaly".into()),
        },
    ];
    selections.extend(rows::SENSORS.iter().map(|sensor| equal("sensor_id", json!(sensor))));
    selections
}

/// Whether a row is meant, as the words of [`Selection`] say it.
fn is_meant(row: &Row, selection: &Selection) -> bool {
    let is_equal = selection.equal.iter().all(|(name, value)| match (number(&row[name]), number(value)) {
        (Some(one), Some(other)) if row[name].is_f64() || one.is_infinite() => one == other,
        _ => row[name] == *value,
    });
    let is_in_time = match &selection.time {
        Some((name, from, until)) => rows::time(&row[name])
            .is_some_and(|time| from.is_none_or(|from| from.0 <= time) && until.is_none_or(|until| time < until.0)),
        None => true,
    };
    is_equal && is_in_time && selection.only.as_ref().is_none_or(|name| row[name] == json!(true))
}
