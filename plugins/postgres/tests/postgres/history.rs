//! What the sink has written is read back.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_services::{Database, Postgres, StopMode};
use pipeline_stage::{ErrorKind, History, Page, Result, Selection, SinkContext, Timestamp, row_to_json};
use pipeline_testkit::{HOSTILE_COLUMN, is_read_back, rows_to_read_back, schema_to_read_back, stage_context};
use serde_json::{Value, json};

use crate::fixture::{batch, commit, database, failed, numbers, owner, readings, schema, sink};

fn history_at(url: &str, options: Value, schema: SchemaRef) -> Result<Box<dyn History>> {
    let mut all = json!({ "url": url });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let stage = pipeline_postgres::stages().remove(0);
    let make = stage.history.unwrap();
    Ok(make(all, SinkContext { stage: stage_context(), schema, detector: None })?.unwrap())
}

pub fn history(database: &Database, options: Value, schema: SchemaRef) -> Box<dyn History> {
    history_at(database.url(), options, schema).unwrap()
}

/// Has the sink write these rows, an epoch for each batch.
pub async fn write(database: &Database, options: &Value, batches: &[RecordBatch]) {
    let mut sink = sink(database, options.clone(), batches[0].schema());
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    for (number, batch) in (1..).zip(batches) {
        commit(sink.as_mut(), number, vec![batch.clone()]).await;
    }
}

pub fn newest(limit: u32) -> Page {
    Page { by: "timestamp".into(), descending: true, after: None, limit }
}

pub fn all() -> Selection {
    Selection::default()
}

/// The values of a column, as JSON.
pub fn values(rows: &RecordBatch, column: &str) -> Vec<Value> {
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
        let schema = numbers(&[1]).schema();
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

/// Eleven rows of a megabyte each, of which the last two have no number, and what comes of them page by page.
#[tokio::test]
async fn a_page_of_large_rows_ends_early_and_the_next_goes_on_there() {
    let database = database().await;
    let large =
        "INSERT INTO t SELECT CASE WHEN i < 10 THEN i END, repeat('x', 1 << 20) FROM generate_series(1, 11) AS g (i)";
    database.execute(&format!("CREATE TABLE t (n int8, text text); {large}")).await;
    let schema =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("text", DataType::Utf8, true)]));
    let history = history(&database, json!({ "table": "t" }), schema);
    let mut page = Page { by: "n".into(), ..newest(1_000) };
    let mut found = Vec::new();
    let sizes = [4, 4, 3].map(|size: usize| (size, size < 4));
    for (size, is_last) in sizes {
        let rows = history.page(&all(), &page).await.unwrap();
        assert_eq!((rows.num_rows(), page.is_last(&rows)), (size, is_last));
        found.extend(values(&rows, "n"));
        page.after =
            found.last().map(|last| (last.clone(), found.iter().filter(|value| *value == last).count() as u64));
    }
    let expected: Vec<Value> = (1..=9).rev().map(Value::from).chain([Value::Null, Value::Null]).collect();
    assert_eq!(found, expected);
    // A connection on which an answer was not read to its end is not used again.
    assert_eq!(history.count_by(&all(), &["n".into()], 1).await.unwrap().num_rows(), 1);
}
