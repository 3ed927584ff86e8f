//! What the sink has written is read back.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::{ErrorKind, History, Page, Result, Selection, SinkContext, Timestamp, row_to_json};
use pipeline_testkit::{HOSTILE_COLUMN, is_read_back, rows_to_read_back, schema_to_read_back, stage_context};
use serde_json::{Value, json};

use crate::fixture::{Folder, commit, failed, numbers, owner};

fn history(folder: &Folder, options: Value, schema: SchemaRef) -> Box<dyn History> {
    try_history(folder, options, schema).unwrap()
}

fn try_history(folder: &Folder, options: Value, schema: SchemaRef) -> Result<Box<dyn History>> {
    let mut all = json!({ "path": "iot.db", "table": "t" });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let mut context = stage_context();
    context.directory = folder.path().into();
    let make = pipeline_sqlite::stages().remove(0).history.unwrap();
    Ok(make(all, SinkContext { stage: context, schema, detector: None })?.unwrap())
}

/// Has the sink write these rows, an epoch for each batch.
async fn write(folder: &Folder, options: &Value, batches: &[RecordBatch]) {
    let mut sink = folder.sink(options.clone(), batches[0].schema());
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
        let folder = Folder::new();
        let options = json!({ "indexes": indexes });
        let rows = rows_to_read_back();
        write(&folder, &options, &rows).await;
        is_read_back(history(&folder, options, schema_to_read_back()).as_ref(), &rows).await;
    }
}

#[tokio::test]
async fn tables_of_other_names_and_kinds_are_read_as_the_pipeline_calls_them() {
    for (table, indexes) in [
        (
            r#"(Number INTEGER PRIMARY KEY, "s""; --" TEXT, metric_type, value REAL, rowid BOOLEAN, n INT, "at" TEXT, extra)"#,
            vec![vec!["sensor_id", "timestamp", "extra"]],
        ),
        (
            r#"(number INT NOT NULL, "s""; --" TEXT, metric_type, value REAL, rowid BOOLEAN, n INT, "at" TEXT, extra, PRIMARY KEY ("s""; --", number)) WITHOUT ROWID"#,
            vec![vec!["sensor_id", "number"], vec!["sensor_id", "timestamp", "extra"]],
        ),
    ] {
        let folder = Folder::new();
        let name = r#"o'dd"; DROP TABLE x; --"#;
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        folder.execute(&format!("CREATE TABLE {quoted} {table}")).await;
        folder.execute(&format!(r#"CREATE INDEX one ON {quoted} ("s""; --", at, extra)"#)).await;
        folder.execute(&format!("CREATE INDEX partial ON {quoted} (at) WHERE value > 0")).await;
        folder.execute(&format!("CREATE INDEX computed ON {quoted} (value, value + 1)")).await;
        let names = json!({
            "number": "number", "sensor_id": "s\"; --", "metric_type": "metric_type", "value": "value",
            "is_anomaly": "rowid", HOSTILE_COLUMN: "n", "timestamp": "at",
        });
        let options = json!({ "table": name, "columns": names });
        let rows = rows_to_read_back();
        write(&folder, &options, &rows).await;
        let history = history(&folder, options, schema_to_read_back());
        is_read_back(history.as_ref(), &rows).await;
        assert_eq!(history.indexes().await.unwrap(), indexes);
    }
}

#[tokio::test]
async fn a_file_or_table_that_is_not_there_yet_has_no_rows_and_is_not_made() {
    let folder = Folder::new();
    let rows = rows_to_read_back();
    let history = history(&folder, json!({}), schema_to_read_back());
    let names = ["sensor_id".to_owned()];
    let times = Selection { time: Some(("timestamp".into(), None, None)), ..all() };
    for is_file_there in [false, true] {
        assert_eq!(history.page(&all(), &newest(10)).await.unwrap().num_rows(), 0);
        assert_eq!(history.count_by(&all(), &names, 10).await.unwrap().num_rows(), 0);
        assert_eq!(history.distinct(&names, "", None, 10).await.unwrap().num_rows(), 0);
        assert_eq!(history.summary(&times, "value", Timestamp(0), Timestamp(9), 3).await.unwrap().num_rows(), 0);
        assert_eq!(history.indexes().await.unwrap(), Vec::<Vec<String>>::new());
        assert_eq!(folder.path().join("iot.db").exists(), is_file_there);
        folder.execute("CREATE TABLE IF NOT EXISTS other (n)").await;
    }
    write(&folder, &json!({}), &rows).await;
    assert_eq!(history.page(&all(), &newest(1_000)).await.unwrap().num_rows(), 270);
    // The user begins anew.
    for file in ["iot.db", "iot.db-wal", "iot.db-shm"] {
        let _ = fs::remove_file(folder.path().join(file));
    }
    assert_eq!(history.page(&all(), &newest(1_000)).await.unwrap().num_rows(), 0);
    write(&folder, &json!({}), &rows[..1]).await;
    assert_eq!(history.page(&all(), &newest(1_000)).await.unwrap().num_rows(), 90);
}

#[tokio::test]
async fn columns_that_the_table_lacks_and_values_of_other_types_are_null() {
    let folder = Folder::new();
    folder
        .execute(
            "CREATE TABLE t (number, sensor_id, value, timestamp);
             INSERT INTO t VALUES ('x', 7, x'00', 'yesterday'), (1, 'a', 2, '2025-07-20T08:19:16Z')",
        )
        .await;
    let history = history(&folder, json!({}), schema_to_read_back());
    let rows = history.page(&all(), &Page { descending: false, ..newest(10) }).await.unwrap();
    assert_eq!(values(&rows, "number"), [json!(1), Value::Null]);
    assert_eq!(values(&rows, "sensor_id"), [json!("a"), Value::Null]);
    assert_eq!(values(&rows, "value"), [json!(2.0), Value::Null]);
    assert_eq!(values(&rows, "timestamp"), [json!("2025-07-20T08:19:16Z"), Value::Null]);
    assert_eq!(values(&rows, "is_anomaly"), [Value::Null, Value::Null]);
    let only = Selection { only: Some("is_anomaly".into()), ..all() };
    let error = failed(history.page(&only, &newest(10)).await);
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Config, "the table has no column `is_anomaly`"));
}

#[tokio::test]
async fn a_reader_holds_up_no_commit_and_sees_each() {
    let folder = Folder::new();
    let mut sink = folder.claimed(numbers(&[]).schema()).await;
    commit(sink.as_mut(), 1, vec![numbers(&[1])]).await;
    let history = history(&folder, json!({}), numbers(&[]).schema());
    let (every, page) = (all(), Page { by: "n".into(), ..newest(1_000) });
    for number in 2..100 {
        let (_, rows) = tokio::join!(commit(sink.as_mut(), number, vec![numbers(&[1])]), history.page(&every, &page));
        let n_rows = rows.unwrap().num_rows() as u64;
        assert!(n_rows == number - 1 || n_rows == number, "{n_rows} rows after {number} commits");
        assert_eq!(history.page(&every, &page).await.unwrap().num_rows() as u64, number);
    }
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_given_up_in_words() {
    let folder = Folder::new();
    // A column that is computed when it is read, from a hundred kilobytes for each row.
    folder
        .execute(
            "CREATE TABLE t (n INTEGER);
             WITH RECURSIVE g(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM g WHERE i < 200000) INSERT INTO t SELECT i FROM g;
             ALTER TABLE t ADD COLUMN m INTEGER AS (length(hex(zeroblob(n + 100000))))",
        )
        .await;
    let schema = Arc::new(Schema::new(vec![Field::new("m", DataType::Int64, true)]));
    let history = history(&folder, json!({}), schema);
    let began = Instant::now();
    let error = failed(history.count_by(&all(), &["m".into()], 10).await);
    assert!(began.elapsed().as_secs() < 10, "it took {:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("needs more than 5 s for the answer"), "{error}");
}

/// Eleven rows of a megabyte each, of which the last two have no number, and what comes of them page by page.
#[tokio::test]
async fn a_page_of_large_rows_ends_early_and_the_next_goes_on_there() {
    let folder = Folder::new();
    folder
        .execute(
            "CREATE TABLE t (n INTEGER, text TEXT);
             WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 11)
             INSERT INTO t SELECT CASE WHEN i < 10 THEN i END, replace(hex(zeroblob(524288)), '0', 'x') FROM g",
        )
        .await;
    let schema =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("text", DataType::Utf8, true)]));
    let history = history(&folder, json!({}), schema);
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
