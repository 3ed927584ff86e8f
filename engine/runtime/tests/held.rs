//! A stage that holds rows back: its books balance over several tasks, and over restarts.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, SchemaRef, TimestampMicrosecondType};
use engine::{once, registry, rows, run_all, run_for};
use pipeline_runtime::plan::Plan;
use pipeline_runtime::run::Counts;
use pipeline_services::unique_name;
use pipeline_stage::{
    Origin, Output, Registry, Result, SavedState, StageContext, StageOptions, StageType, StateWriter, Transform,
    TransformOptions, decode, encode, timestamp_type,
};
use pipeline_testkit::faulty::table;
use schemars::JsonSchema;
use serde::Deserialize;

/// Holds each row until the next one comes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BehindOptions {}

impl StageOptions for BehindOptions {
    const NAME: &'static str = "behind";
    const EXAMPLE: &'static str = "slow:\n  type: behind\n  inputs: [readings]\n";
}

impl TransformOptions for BehindOptions {
    fn build(self, _: &StageContext, inputs: &[SchemaRef], state: SavedState) -> Result<Box<dyn Transform>> {
        let held = state.entries.first().map(|(_, held)| {
            let (series, value, time): (String, f64, i64) = decode(held).unwrap();
            let time = TimestampMicrosecondArray::from(vec![time]).with_data_type(timestamp_type());
            let columns: [ArrayRef; 3] =
                [Arc::new(StringArray::from(vec![series])), Arc::new(Float64Array::from(vec![value])), Arc::new(time)];
            RecordBatch::try_new(inputs[0].clone(), columns.into()).unwrap()
        });
        Ok(Box::new(Behind { schema: inputs[0].clone(), held }))
    }
}

struct Behind {
    schema: SchemaRef,
    held: Option<RecordBatch>,
}

impl Transform for Behind {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let Some(last) = rows.num_rows().checked_sub(1) else { return Ok(()) };
        if let Some(before) = self.held.replace(rows.slice(last, 1)) {
            out.emit(before, Origin::Created);
        }
        out.emit(rows.slice(0, last), Origin::Rows((0..last as u32).collect()));
        Ok(())
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let series = held.column(0).as_string::<i32>().value(0);
        let value = held.column(1).as_primitive::<Float64Type>().value(0);
        let time = held.column(2).as_primitive::<TimestampMicrosecondType>().value(0);
        let mut buffer = Vec::new();
        encode(&(series, value, time), &mut buffer)?;
        changes.put(b"held", &buffer);
        Ok(())
    }

    fn held(&self) -> u64 {
        self.held.iter().map(|held| held.num_rows() as u64).sum()
    }
}

/// Two tasks, each with a stage that holds one row.
fn plan(name: &str, folder: &Path, rows: u64) -> Arc<Plan> {
    let text = format!(
        "
name: test
key: [series]
state: {}
commit_every: 4ms
checkpoint_every: 25ms
sources:
  readings: {{ type: numbers, partitions: 2, rows: {rows} }}
transforms:
  slow: {{ type: behind, inputs: readings }}
sinks:
  history: {{ type: memory, inputs: slow, table: {name} }}
",
        folder.join("state").display()
    );
    let mut registry: Registry = Arc::into_inner(registry()).unwrap();
    registry.add(StageType::transform::<BehindOptions>()).unwrap();
    engine::plan_with(&text, folder, &Arc::new(registry))
}

fn books(plan: &Plan, stages: &[Counts]) -> Counts {
    stages[plan.stages.iter().position(|stage| stage.id == "slow").unwrap()]
}

#[test]
fn rows_that_are_held_stay_in_the_books_over_tasks_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("held");
    let first = plan(&name, folder.path(), 300);
    let summary = run_all(&first, false).unwrap();
    let expected = Counts { rows_in: 600, out: 598, held: 2, ..Counts::default() };
    assert_eq!(books(&first, &summary.progress.stages), expected);

    let more = plan(&name, folder.path(), 500);
    let summary = run_all(&more, false).unwrap();
    let expected = Counts { held_before: 2, rows_in: 400, out: 400, held: 2, ..Counts::default() };
    assert_eq!(books(&more, &summary.progress.stages), expected);
    assert_eq!(rows(&table(&name)).len(), 998);
}

#[test]
fn a_crash_keeps_them_too() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("held");
    let plan = plan(&name, folder.path(), 3_000);
    let mut crashes = 0;
    for pause in [40, 80, 120, 160] {
        crashes += u32::from(run_for(&plan, once(), Duration::from_millis(pause)).is_none());
    }
    assert!(0 < crashes, "it was never dropped in the middle");
    let summary = run_for(&plan, once(), Duration::from_secs(60)).unwrap().unwrap();
    let books = books(&plan, &summary.progress.stages);
    assert!(books.is_balanced() && books.held == 2, "{books:?}");
    assert_eq!(rows(&table(&name)).len(), 5_998);
}
