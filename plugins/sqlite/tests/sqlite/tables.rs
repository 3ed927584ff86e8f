//! Files and tables that are missing, fit, or do not.

use std::fs;
use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use pipeline_stage::{Claim, ErrorKind};
use serde_json::json;

use crate::fixture::{Folder, batch, commit, epoch, failed, numbers, owner};

fn readings() -> RecordBatch {
    batch(vec![
        ("sensor_id", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("count", Arc::new(Int64Array::from(vec![7, 8]))),
        ("value", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
        ("is_on", Arc::new(BooleanArray::from(vec![true, false]))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC"))),
    ])
}

#[test]
fn says_what_it_is_and_builds_its_example() {
    pipeline_testkit::checks_out(&pipeline_sqlite::stages()[0]);
}

#[tokio::test]
async fn makes_missing_folders_file_and_table() {
    let folder = Folder::new();
    let options = json!({ "path": "data/deep/iot.db", "table": "sensor_data", "indexes": ["timestamp", ["sensor_id", "timestamp"]] });
    let mut sink = folder.sink(options, readings().schema());
    assert!(sink.check().await.is_empty());
    assert!(!folder.path().join("data").exists(), "a check made a folder");
    assert_eq!(sink.claim(&owner("0", "life-1", 1)).await.unwrap(), Claim::New);
    commit(sink.as_mut(), 1, vec![readings()]).await;
    assert!(sink.check().await.is_empty());
    fs::rename(folder.path().join("data/deep/iot.db"), folder.path().join("iot.db")).unwrap();
    fs::rename(folder.path().join("data/deep/iot.db-wal"), folder.path().join("iot.db-wal")).unwrap();
    let made = folder.query("SELECT sql FROM sqlite_schema WHERE tbl_name = 'sensor_data' ORDER BY rowid").await;
    let made: Vec<String> = made.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(
        made,
        [
            r#"CREATE TABLE "sensor_data" ("id" INTEGER PRIMARY KEY, "sensor_id" TEXT NOT NULL, "count" INTEGER NOT NULL, "value" REAL, "is_on" BOOLEAN NOT NULL, "timestamp" TIMESTAMP NOT NULL)"#,
            r#"CREATE INDEX "sensor_data_timestamp_idx" ON "sensor_data" ("timestamp")"#,
            r#"CREATE INDEX "sensor_data_sensor_id_timestamp_idx" ON "sensor_data" ("sensor_id", "timestamp")"#,
        ]
    );
    assert_eq!(folder.count("SELECT max(id) FROM sensor_data").await, 2);
}

#[tokio::test]
async fn takes_the_types_that_keep_values_as_they_are() {
    for columns in [
        "(id INTEGER PRIMARY KEY, sensor_id VARCHAR(20), count BIGINT, value DOUBLE, is_on INT, timestamp DATETIME)",
        "(sensor_id, count, value, is_on, timestamp, site TEXT NOT NULL DEFAULT 'x')",
        "(Sensor_ID BLOB, COUNT NUMERIC, value FLOAT, is_on BOOLEAN, timestamp TEXT, twice AS (count * 2))",
        "(id INTEGER PRIMARY KEY, sensor_id TEXT NOT NULL, count INT, value REAL, is_on INTEGER, timestamp TEXT) STRICT",
    ] {
        let folder = Folder::new();
        folder.execute(&format!("CREATE TABLE t {columns}")).await;
        let mut sink = folder.sink(json!({ "create": "never" }), readings().schema());
        assert_eq!(sink.check().await.iter().map(|error| error.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
        sink.claim(&owner("0", "life-1", 1)).await.unwrap();
        commit(sink.as_mut(), 1, vec![readings()]).await;
        let found = folder.query("SELECT sensor_id, count, value, is_on, timestamp FROM t LIMIT 1").await;
        assert_eq!(found, [["a", "7", "0.5", "1", "1970-01-01 00:00:00.000000"].map(|text| Some(text.to_owned()))]);
    }
}

#[tokio::test]
async fn says_all_that_is_wrong_with_a_table_at_once() {
    let folder = Folder::new();
    folder.execute("CREATE TABLE t (sensor_id STRING, count REAL, is_on AS (count > 0), timestamp INTEGER, site TEXT NOT NULL)").await;
    let mut sink = folder.sink(json!({}), readings().schema());
    let problems = [
        "column `sensor_id` is STRING, in which SQLite would change or refuse a value of type string, expected TEXT; make the table anew",
        "column `count` is REAL, in which SQLite would change or refuse a value of type integer, expected INTEGER; make the table anew",
        r#"there is no column `value`; ALTER TABLE "t" ADD COLUMN "value" REAL"#,
        "column `is_on` is computed by SQLite and cannot be written; leave it out of `columns`",
        "column `timestamp` is INTEGER, in which SQLite would change or refuse a value of type timestamp, expected TIMESTAMP; make the table anew",
        "column `site` must have a value and nothing is written into it; write it, or make the table anew without NOT NULL",
    ];
    let found: Vec<String> = sink.check().await.iter().map(|error| error.to_string()).collect();
    assert_eq!(found, problems.map(|problem| format!("table `t`: {problem}")));
    let error = failed(sink.claim(&owner("0", "life-1", 1)).await);
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Fatal, format!("table `t` does not fit: {}", problems.join("; ")))
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_in_words() {
    let folder = Folder::new();
    fs::write(folder.path().join("notes.txt"), "these are only my notes about the sensors ".repeat(100)).unwrap();
    folder.execute("CREATE VIEW a_view AS SELECT 1 AS n").await;
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (options, message) in [
        (
            json!({ "path": "notes.txt" }),
            format!("`{}` is not a SQLite database; name another file", path("notes.txt")),
        ),
        (
            json!({ "path": "notes.txt/iot.db" }),
            format!("`{}` cannot be made: `{}` is not a folder", path("notes.txt/iot.db"), path("notes.txt")),
        ),
        (json!({ "path": "." }), format!("`{}` is a folder; name a file in it", path("."))),
        (json!({ "table": "a_view" }), "`a_view` is not a table but a view; rows go into tables only".into()),
        (json!({ "create": "never" }), "table `t` does not exist; make it, or leave `create` at `if_missing`".into()),
    ] {
        let mut sink = folder.sink(options.clone(), numbers(&[]).schema());
        let found: Vec<String> = sink.check().await.iter().map(|error| error.to_string()).collect();
        assert_eq!(found, [message], "{options}");
        assert_eq!(failed(sink.claim(&owner("0", "life-1", 1)).await).kind(), ErrorKind::Fatal, "{options}");
    }
    folder.execute("DROP TABLE IF EXISTS pipeline_marks; CREATE TABLE pipeline_marks (pipeline TEXT)").await;
    let error = failed(folder.sink(json!({}), numbers(&[]).schema()).claim(&owner("0", "life-1", 1)).await);
    assert_eq!(
        error.to_string(),
        "table `pipeline_marks` has no column `sink`: it is not the pipeline's own; rename it"
    );
}

#[tokio::test]
async fn names_are_only_names() {
    let folder = Folder::new();
    let table = r#"t"; DROP TABLE x; --"#;
    folder.execute("CREATE TABLE x (n)").await;
    let mut sink = folder.sink(
        json!({ "table": table, "columns": { "n": "a \" ? b" }, "indexes": ["a \" ? b"] }),
        numbers(&[]).schema(),
    );
    let me = owner("0", "life-1", 1);
    sink.claim(&me).await.unwrap();
    crate::fixture::assert_done(sink.commit(&[epoch(&me, 1, vec![numbers(&[1])])]).await, 1);
    assert_eq!(folder.count(r#"SELECT sum("a "" ? b") FROM "t""; DROP TABLE x; --""#).await, 1);
    assert_eq!(folder.count("SELECT count(*) FROM x").await, 0);
}

#[tokio::test]
async fn indexes_whose_columns_read_the_same_have_names_of_their_own() {
    let folder = Folder::new();
    let column = |name: &'static str| -> (&str, arrow::array::ArrayRef) { (name, Arc::new(Int64Array::from(vec![1]))) };
    let rows = batch(vec![column("a"), column("b"), column("a_b"), column("b_c"), column("c")]);
    let options = json!({ "indexes": [["a", "b_c"], ["a_b", "c"], ["a", "b", "c"]] });
    let mut sink = folder.sink(options, rows.schema());
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    let names =
        folder.query("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 't' ORDER BY name").await;
    let names: Vec<String> = names.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(names, ["t_a_b_c_idx", "t_a_b_c_idx1", "t_a_b_c_idx2"]);
}

#[test]
fn refuses_bad_options() {
    let folder = Folder::new();
    for (options, option, message) in [
        (json!({ "path": ":memory:" }), "path", "`:memory:` is no file, it would be like `iot.db` or `data/iot.db`"),
        (json!({ "path": "" }), "path", "`` is no file"),
        (json!({ "table": "" }), "table", "`` is no name of a table: it is empty"),
        (
            json!({ "table": "SQLite_x" }),
            "table",
            "`SQLite_x` is no name of a table: names with `sqlite_` are SQLite's own",
        ),
        (json!({ "columns": ["valeu"] }), "columns.0", "there is no column `valeu`"),
        (
            json!({ "columns": { "value": "x", "count": "X" } }),
            "columns",
            "column `x` of the table would be written twice",
        ),
        (json!({ "indexes": ["id"] }), "indexes.0", "column `id` is not written into the table"),
        (json!({ "indexes": ["count", ["value", "id"]] }), "indexes.1.1", "column `id` is not written into the table"),
    ] {
        let error = failed(folder.try_sink(options.clone(), readings().schema()));
        assert_eq!((error.kind(), error.option()), (ErrorKind::Config, Some(option)), "{error}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
