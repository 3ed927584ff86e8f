//! Tables that others have made are read back.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use pipeline_stage::{ErrorKind, Page, Selection, Timestamp, row_to_json};
use pipeline_testkit::{HOSTILE_COLUMN, is_read_back, rows_to_read_back, schema_to_read_back};
use serde_json::{Value, json};

use crate::fixture::{batch, database, failed, schema};
use crate::history::{all, history, newest, values, write};

#[tokio::test]
async fn a_table_with_other_names_and_types_is_read_as_the_pipeline_calls_it() {
    let database = database().await;
    database
        .execute(
            r#"CREATE SCHEMA plant; CREATE TABLE plant."Odd; ""name""" (
                number numeric, "s""; --" varchar(30), metric_type citext_like, value numeric, "On" bool,
                n int8, at timestamp, id serial)"#
                .replace("citext_like", "json")
                .as_str(),
        )
        .await;
    let names = json!({
        "number": "number", "sensor_id": "s\"; --", "metric_type": "metric_type", "value": "value",
        "is_anomaly": "On", HOSTILE_COLUMN: "n", "timestamp": "at",
    });
    let options = json!({ "table": r#"plant.Odd; "name""#, "columns": names });
    // JSON's texts are in quotes, numeric knows no infinity: both columns are read, and neither is written here.
    let without = ["metric_type", "value"];
    let rows: Vec<RecordBatch> = rows_to_read_back().iter().map(|rows| with_nulls(rows, &without)).collect();
    write(&database, &options, &rows).await;
    is_read_back(history(&database, options.clone(), schema_to_read_back()).as_ref(), &rows).await;
    database
        .execute(r#"CREATE INDEX ON plant."Odd; ""name""" ("s""; --", at, id); CREATE INDEX ON plant."Odd; ""name""" (value)"#)
        .await;
    let history = history(&database, options, schema_to_read_back());
    is_read_back(history.as_ref(), &rows).await;
    assert_eq!(history.indexes().await.unwrap(), [vec!["sensor_id", "timestamp", "id"], vec!["value"]]);
}

/// The rows with no value in some columns.
fn with_nulls(rows: &RecordBatch, without: &[&str]) -> RecordBatch {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let is_null = without.contains(&field.name().as_str());
        if is_null { arrow::array::new_null_array(field.data_type(), rows.num_rows()) } else { column.clone() }
    });
    batch(schema.clone(), columns.collect::<Vec<ArrayRef>>())
}

#[tokio::test]
async fn narrow_types_are_read_and_compared_as_those_of_the_pipeline() {
    let database = database().await;
    database
        .execute(
            "CREATE TYPE mood AS ENUM ('calm', 'hot'); CREATE TABLE t (code char(8), mood mood, doc jsonb, small int2,
             short real, exact numeric, whole float8, at timestamp); CREATE INDEX ON t (code, at)",
        )
        .await;
    database
        .execute(
            "INSERT INTO t VALUES ('a', 'hot', '{\"b\": 1}', -7, 0.1, 12.5, 3, '1970-01-01 00:00:01'),
             ('b', 'calm', '[]', 8, 0.5, -1, 4, '1970-01-01 00:00:02'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'infinity')",
        )
        .await;
    let field = |name, column_type| Field::new(name, column_type, true);
    let schema = Arc::new(Schema::new(vec![
        field("code", DataType::Utf8),
        field("mood", DataType::Utf8),
        field("doc", DataType::Utf8),
        field("small", DataType::Int64),
        field("short", DataType::Float64),
        field("exact", DataType::Float64),
        field("whole", DataType::Int64),
        field("at", pipeline_stage::timestamp_type()),
    ]));
    let history = history(&database, json!({ "table": "t" }), schema);
    let page = Page { by: "at".into(), ..newest(10) };
    let rows = history.page(&all(), &page).await.unwrap();
    let row = Value::from(row_to_json(&rows, 2));
    let short = f64::from(0.1f32);
    let expected = json!({ "code": "a", "mood": "hot", "doc": "{\"b\": 1}", "small": -7, "short": short, "exact": 12.5,
        "whole": 3, "at": "1970-01-01T00:00:01Z" });
    assert_eq!(row, expected);
    for (name, value) in expected.as_object().unwrap() {
        let equal = Selection { equal: vec![(name.clone(), value.clone())], ..all() };
        let found = history.page(&equal, &page).await.unwrap();
        assert_eq!(values(&found, "code"), [json!("a")], "{name}");
        for descending in [true, false] {
            let after = Page { by: name.clone(), descending, after: Some((value.clone(), 1)), limit: 10 };
            let rest = history.page(&all(), &after).await.unwrap();
            let from_first = Page { after: None, ..after };
            let whole = history.page(&all(), &from_first).await.unwrap();
            let place = values(&whole, "code").iter().position(|code| code == "a").unwrap();
            assert_eq!(values(&rest, "code"), values(&whole, "code")[place + 1..], "{name}, {descending}");
        }
        let combinations = history.distinct(std::slice::from_ref(name), "", None, 10).await.unwrap();
        assert_eq!(combinations.num_rows(), if name == "at" { 3 } else { 2 }, "{name}");
    }
    let absent = Selection { equal: vec![("mood".into(), json!("furious"))], ..all() };
    assert_eq!(history.page(&absent, &page).await.unwrap().num_rows(), 0);
    let times = Selection { time: Some(("at".into(), None, None)), ..all() };
    for (value, mean) in [("small", -7.0), ("short", short), ("exact", 12.5), ("whole", 3.0)] {
        let points = history.summary(&times, value, Timestamp(0), Timestamp(1_500_000), 10).await.unwrap();
        assert_eq!(values(&points, "mean"), [json!(mean)], "{value}");
    }
}

#[tokio::test]
async fn columns_that_the_table_lacks_have_no_values() {
    let database = database().await;
    database.execute("CREATE TABLE t (sensor_id text, timestamp timestamptz); INSERT INTO t VALUES ('a', now())").await;
    let history = history(&database, json!({ "table": "t" }), schema());
    let rows = history.page(&all(), &newest(10)).await.unwrap();
    assert_eq!((values(&rows, "sensor_id"), values(&rows, "value")), (vec![json!("a")], vec![Value::Null]));
    for error in [
        failed(history.page(&all(), &Page { by: "value".into(), ..newest(10) }).await),
        failed(history.count_by(&all(), &["metric_type".into(), "value".into()], 10).await),
        failed(history.distinct(&["value".into()], "", None, 10).await),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("the table has no column `"), "{error}");
    }
}

#[tokio::test]
async fn a_partitioned_table_is_read_like_any_other() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE t (sensor_id text NOT NULL, flag bool, n int8, timestamp timestamptz NOT NULL) PARTITION BY HASH (sensor_id);
             CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             CREATE INDEX ON t (timestamp); CREATE INDEX ON t (sensor_id, timestamp)",
        )
        .await;
    let sensors: Vec<String> = (0..40).map(|i| format!("sensor-{}", i % 4)).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("sensor_id", DataType::Utf8, false),
        Field::new("flag", DataType::Boolean, true),
        Field::new("n", DataType::Int64, true),
        Field::new("timestamp", pipeline_stage::timestamp_type(), false),
    ]));
    let rows = batch(
        schema.clone(),
        vec![
            Arc::new(StringArray::from(sensors)),
            Arc::new(BooleanArray::from(vec![true; 40])),
            Arc::new(Int64Array::from_iter_values(0..40)),
            // All of one moment: rows of the same place in two tables are told apart.
            Arc::new(TimestampMicrosecondArray::from(vec![5; 40]).with_timezone("UTC")),
        ],
    );
    write(&database, &json!({ "table": "t" }), &[rows]).await;
    let history = history(&database, json!({ "table": "t" }), schema);
    let mut found = Vec::new();
    for given in (0..40).step_by(8) {
        let after = Some((json!("1970-01-01T00:00:00.000005Z"), given));
        found.extend(values(&history.page(&all(), &Page { after, ..newest(8) }).await.unwrap(), "n"));
    }
    found.sort_by_key(Value::as_i64);
    assert_eq!(found, (0..40).map(Value::from).collect::<Vec<_>>());
    let sensors = history.distinct(&["sensor_id".into()], "", None, 10).await.unwrap();
    assert_eq!(values(&sensors, "sensor_id"), ["sensor-0", "sensor-1", "sensor-2", "sensor-3"]);
}
