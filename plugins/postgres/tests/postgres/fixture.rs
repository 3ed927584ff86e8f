//! Sinks, owners and epochs as the engine would make them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_services::{Database, Postgres};
use pipeline_stage::{
    BuiltSink, Commit, EpochRows, Make, Mark, Origins, Owner, Refused, Result, Rows, Sink, SinkContext, StageError,
    timestamp_type,
};
use serde_json::{Value, json};

pub async fn database() -> Database {
    Postgres::shared().await.create_database().await
}

/// The columns of a reading: `sensor_id`, `metric_type`, `value` (may be null), `timestamp`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("sensor_id", DataType::Utf8, false),
        Field::new("metric_type", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("timestamp", timestamp_type(), false),
    ]))
}

/// Readings of these sensors, a second apart.
pub fn readings(sensors: &[&str]) -> RecordBatch {
    let times = (0..sensors.len() as i64).map(|i| 1_752_999_556_412_001 + i * 1_000_000);
    batch(
        schema(),
        vec![
            Arc::new(StringArray::from(sensors.to_vec())),
            Arc::new(StringArray::from(vec!["temperature"; sensors.len()])),
            Arc::new(Float64Array::from_iter_values((0..sensors.len()).map(|i| i as f64 + 0.5))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        ],
    )
}

pub fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema, columns).unwrap()
}

/// A batch of one integer column `n`.
pub fn numbers(numbers: &[i64]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    batch(schema, vec![Arc::new(Int64Array::from(numbers.to_vec()))])
}

pub fn try_sink(url: &str, options: Value, schema: SchemaRef) -> Result<Box<dyn Sink>> {
    let mut all = json!({ "url": url });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let stage = pipeline_postgres::stages().remove(0);
    let Make::Sink(make) = stage.make else { panic!("not a sink") };
    let mut context = pipeline_testkit::stage_context();
    context.id = "history".into();
    match make(all, SinkContext { stage: context, schema, detector: None })? {
        BuiltSink::Epochs(sink) => Ok(sink),
        BuiltSink::Outbox(_) => panic!("not a sink of epochs"),
    }
}

pub fn sink(database: &Database, options: Value, schema: SchemaRef) -> Box<dyn Sink> {
    try_sink(database.url(), options, schema).unwrap()
}

/// A sink into table `t` that has claimed task `0` as its first owner.
pub async fn claimed(database: &Database, schema: SchemaRef) -> Box<dyn Sink> {
    let mut sink = sink(database, json!({ "table": "t" }), schema);
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    sink
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
    let rows = [epoch(&owner("0", "life-1", 1), number, batches)];
    assert_done(sink.commit(&rows).await, 1);
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
