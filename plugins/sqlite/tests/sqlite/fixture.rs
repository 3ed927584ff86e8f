//! Files, sinks, owners and epochs as the engine would make them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::{
    BuiltSink, Commit, EpochRows, Make, Mark, Origins, Owner, Refused, Result, Rows, Sink, SinkContext, StageError,
};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection, ValueRef};
use tempfile::TempDir;

/// A folder with at most one database, `iot.db`.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path().join("iot.db"))
            .create_if_missing(true)
            .connect()
            .await
            .unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connect().await).await.unwrap();
    }

    /// The rows of a query, each value as text; NULL is `None`.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connect().await).await.unwrap();
        let value = |row: &sqlx::sqlite::SqliteRow, i: usize| {
            let is_null = row.try_get_raw(i).unwrap().is_null();
            (!is_null).then(|| row.try_get_unchecked::<String, _>(i).unwrap())
        };
        rows.iter().map(|row| (0..row.len()).map(|i| value(row, i)).collect()).collect()
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.query(sql).await[0][0].as_ref().unwrap().parse().unwrap()
    }

    pub fn try_sink(&self, options: Value, schema: SchemaRef) -> Result<Box<dyn Sink>> {
        let mut all = json!({ "path": "iot.db", "table": "t" });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let Make::Sink(make) = pipeline_sqlite::stages().remove(0).make else { panic!("not a sink") };
        let mut context = pipeline_testkit::stage_context();
        context.directory = self.path().into();
        match make(all, SinkContext { stage: context, schema, detector: None })? {
            BuiltSink::Epochs(sink) => Ok(sink),
            BuiltSink::Outbox(_) => panic!("not a sink of epochs"),
        }
    }

    pub fn sink(&self, options: Value, schema: SchemaRef) -> Box<dyn Sink> {
        self.try_sink(options, schema).unwrap()
    }

    /// A sink into table `t` that has claimed task `0` as its first owner.
    pub async fn claimed(&self, schema: SchemaRef) -> Box<dyn Sink> {
        let mut sink = self.sink(json!({}), schema);
        sink.claim(&owner("0", "life-1", 1)).await.unwrap();
        sink
    }
}

pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), array.is_nullable())).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

/// A batch of one integer column `n`.
pub fn numbers(numbers: &[i64]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(numbers.to_vec()))]).unwrap()
}

pub fn owner(task: &str, state_id: &str, generation: u64) -> Owner {
    Owner {
        pipeline: "iot".into(),
        sink: "history".into(),
        task: task.into(),
        state_id: state_id.into(),
        generation,
        stored: None,
        takes_over: false,
    }
}

pub fn mark(owner: &Owner, epoch: u64) -> Mark {
    Mark {
        pipeline: owner.pipeline.clone(),
        sink: owner.sink.clone(),
        task: owner.task.clone(),
        state_id: owner.state_id.clone(),
        generation: owner.generation,
        epoch,
        positions: format!(r#"{{"readings": {epoch}}}"#),
        detail: None,
    }
}

pub fn epoch(owner: &Owner, epoch: u64, batches: Vec<RecordBatch>) -> EpochRows {
    let rows = batches.into_iter().map(|batch| {
        let offsets = (0..batch.num_rows() as u64).collect::<Vec<_>>();
        Rows { origins: Origins::new("readings/0".into(), offsets.into()), batch }
    });
    EpochRows { mark: mark(owner, epoch), rows: rows.collect() }
}

/// Commits one epoch of task `0` of the first owner, and wants it done.
pub async fn commit(sink: &mut dyn Sink, number: u64, batches: Vec<RecordBatch>) {
    assert_done(sink.commit(&[epoch(&owner("0", "life-1", 1), number, batches)]).await, 1);
}

pub fn assert_done(commit: Result<Commit>, epochs: usize) {
    match commit {
        Ok(Commit::Done(details)) => assert_eq!(details, vec![None; epochs]),
        other => panic!("not done: {other:?}"),
    }
}

pub fn refused(commit: Result<Commit>) -> Vec<Refused> {
    match commit {
        Ok(Commit::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn failed<T>(result: Result<T>) -> StageError {
    result.err().expect("an error")
}
