//! What the sink has written is read back.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_services::{Database, Postgres, StopMode};
use pipeline_stage::{ErrorKind, History, Page, Result, Selection, SinkContext, Timestamp, row_to_json};
use pipeline_testkit::{HOSTILE_COLUMN, is_read_back, rows_to_read_back, schema_to_read_back, stage_context};
use serde_json::{Value, json};

use crate::fixture::{batch, commit, database, failed, owner, readings, schema, sink};

fn history_at(url: &str, options: Value, schema: SchemaRef) -> Result<Box<dyn History>> {
    let mut all = json!({ "url": url });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let stage = pipeline_postgres::stages().remove(0);
    let make = stage.history.unwrap();
    Ok(make(all, SinkContext { stage: stage_context(), schema })?.unwrap())
}

fn history(database: &Database, options: Value, schema: SchemaRef) -> Box<dyn History> {
    history_at(database.url(), options, schema).unwrap()
}

/// Has the sink write these rows, an epoch for each batch.
async fn write(database: &Database, options: &Value, batches: &[RecordBatch]) {
    let mut sink = sink(database, options.clone(), batches[0].schema());
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    for (number, batch) in (1..).zip(batches) {
        commit(sink.as_mut(), number, vec![batch.clone()]).await;
    }
}

fn newest(limit: u32) -> Page {
    Page { by: "timestamp".into(), descending: true, after: None, limit }
}

fn all() -> Selection {
    Selection::default()
}

/// The values of a column, as JSON.
fn values(rows: &RecordBatch, column: &str) -> Vec<Value> {
    (0..rows.num_rows()).map(|row| row_to_json(rows, row)[column].clone()).collect()
}

#[tokio::test]
async fn what_was_written_is_read_back_with_and_without_indexes() {
    for indexes in [
        json!([]),
        json!(["timestamp", ["sensor_id", "metric_type", "timestamp", "value"]]),
        json!(["value", "metric_type", "is_anomaly", ["metric_type", "is_anomaly", "sensor_id"], HOSTILE_COLUMN]),
    ] {
        let database = database().await;
        let options = json!({ "table": "t", "indexes": indexes });
        let rows = rows_to_read_back();
        write(&database, &options, &rows).await;
        is_read_back(history(&database, options, schema_to_read_back()).as_ref(), &rows).await;
    }
}

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
async fn a_table_that_is_not_there_yet_has_no_rows() {
    let database = database().await;
    let history = history(&database, json!({ "table": "t" }), schema());
    let names = ["sensor_id".to_owned()];
    let times = Selection { time: Some(("timestamp".into(), None, None)), ..all() };
    assert_eq!(history.page(&all(), &newest(10)).await.unwrap().num_rows(), 0);
    assert_eq!(history.count_by(&all(), &names, 10).await.unwrap().num_rows(), 0);
    assert_eq!(history.distinct(&names, "", None, 10).await.unwrap().num_rows(), 0);
    assert_eq!(history.summary(&times, "value", Timestamp(0), Timestamp(9), 3).await.unwrap().num_rows(), 0);
    assert_eq!(history.indexes().await.unwrap(), Vec::<Vec<String>>::new());
    assert_eq!(database.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 0);
    let unknown = Selection { only: Some("nothing".into()), ..all() };
    assert_eq!(failed(history.page(&unknown, &newest(10)).await).kind(), ErrorKind::Config);
    write(&database, &json!({ "table": "t", "indexes": [["sensor_id", "timestamp"]] }), &[readings(&["a", "b"])]).await;
    assert_eq!(history.page(&all(), &newest(10)).await.unwrap().num_rows(), 2);
    assert_eq!(history.indexes().await.unwrap(), [vec!["id"], vec!["sensor_id", "timestamp"]]);
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
async fn rows_that_come_meanwhile_move_none_of_a_page() {
    let database = database().await;
    let moment = |names: &[&str]| -> RecordBatch {
        let rows = readings(names);
        let times = TimestampMicrosecondArray::from(vec![5; names.len()]).with_timezone("UTC");
        let columns = rows.columns()[..3].iter().cloned().chain([Arc::new(times) as ArrayRef]);
        batch(rows.schema(), columns.collect())
    };
    let options = json!({ "table": "t", "indexes": ["timestamp"] });
    let mut sink = sink(&database, options.clone(), schema());
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    commit(sink.as_mut(), 1, vec![moment(&["a", "b", "c"])]).await;
    let history = history(&database, options, schema());
    for (descending, first_new) in [(true, "d"), (false, "e")] {
        let page = Page { descending, ..newest(2) };
        assert_eq!(values(&history.page(&all(), &page).await.unwrap(), "sensor_id"), ["a", "b"]);
        let number = if descending { 2 } else { 3 };
        commit(sink.as_mut(), number, vec![moment(&[first_new])]).await;
        let after = Page { after: Some((json!("1970-01-01T00:00:00.000005Z"), 2)), ..page };
        assert_eq!(values(&history.page(&all(), &after).await.unwrap(), "sensor_id"), ["c", "d"]);
    }
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_given_up_in_words() {
    let database = database().await;
    database.execute("CREATE TABLE t (n int8); INSERT INTO t VALUES (1)").await;
    // The table is locked by somebody who alters it and does not end.
    let locked = async {
        database.execute("BEGIN; LOCK TABLE t; SELECT pg_sleep(20)").await;
    };
    let question = async {
        while database.count("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'").await == 0 {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let schema = batch_of_numbers(&[1]).schema();
        let history = history(&database, json!({ "table": "t" }), schema);
        let error = failed(history.count_by(&all(), &["n".into()], 10).await);
        assert!(began.elapsed().as_secs() < 10, "it took {:?}", began.elapsed());
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.to_string().contains("needs more than 5 s for the answer"), "{error}");
    };
    tokio::select! {
        () = locked => panic!("the lock was given back"),
        () = question => {}
    }
}

fn batch_of_numbers(numbers: &[i64]) -> RecordBatch {
    crate::fixture::numbers(numbers)
}

#[tokio::test]
async fn a_server_that_was_away_is_asked_again_and_secrets_are_not_told() {
    let mut postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    write(&database, &json!({ "table": "t" }), &[readings(&["a"])]).await;
    let url = database.url().replacen("postgres@", "postgres:hush@", 1);
    assert_ne!(url, database.url());
    let history = history_at(&url, json!({ "table": "t" }), schema()).unwrap();
    assert_eq!(history.page(&all(), &newest(10)).await.unwrap().num_rows(), 1);
    postgres.stop(StopMode::Fast).await;
    let error = failed(history.page(&all(), &newest(10)).await);
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().starts_with("PostgreSQL does not answer (connection refused"), "{error}");
    assert!(!error.chain().contains("hush"), "{error}");
    postgres.start_again().await;
    assert_eq!(history.page(&all(), &newest(10)).await.unwrap().num_rows(), 1);
    // The connection that was kept is dead now, and nobody notices.
    postgres.stop(StopMode::Immediate).await;
    postgres.start_again().await;
    assert_eq!(history.page(&all(), &newest(10)).await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn the_owner_of_a_task_leaves_readers_alone_and_they_write_nothing() {
    let database = database().await;
    let options = json!({ "table": "t" });
    write(&database, &options, &[readings(&["a"])]).await;
    let history = history(&database, options, schema());
    let ask = async || history.page(&all(), &newest(10)).await.unwrap().num_rows();
    assert_eq!(tokio::join!(ask(), ask(), ask(), ask(), ask(), ask()), (1, 1, 1, 1, 1, 1));
    let names = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE 'pipeline%' AND datname = current_database()";
    let found = database.query(names).await;
    let found: Vec<&str> = found.iter().filter_map(|row| row[0].as_deref()).collect();
    assert_eq!(found, ["pipeline history iot/stage"]);
    let count = format!("SELECT count(*) FROM ({}) AS x", names.replace("DISTINCT ", ""));
    assert!((1..=3).contains(&database.count(&count).await), "more connections than allowed");
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
