//! Dead letters: one for each dead row, and another try for them that never stops a run.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_runtime::file::LoadOptions;
use pipeline_runtime::plan::{Plan, RunSettings, load_text};
use pipeline_runtime::run::{Counts, Run, Summary};
use pipeline_runtime::store::{DeadLetter, StateStore, open};
use pipeline_stage::{
    Origin, Output, Registry, Result, SavedState, StageContext, StageOptions, StageType, Times, Transform,
    TransformOptions, timestamp_type,
};
use pipeline_testkit::Random;
use pipeline_testkit::faulty::{MemoryOptions, NumbersOptions, table};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Gives each row several times, with the number of the input it came by; rejects a series; makes a row at each tick.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CopyOptions {
    /// How often each row is given.
    #[serde(default = "one")]
    times: usize,
    /// Rows of this series are rejected.
    #[serde(default)]
    reject: Option<String>,
    /// Whether each epoch's end makes two rows of the series `made`.
    #[serde(default)]
    makes: bool,
}

fn one() -> usize {
    1
}

impl StageOptions for CopyOptions {
    const NAME: &'static str = "copy";
    const EXAMPLE: &'static str = "copies:\n  type: copy\n  inputs: [readings]\n";
}

impl TransformOptions for CopyOptions {
    fn build(self, _: &StageContext, _: &[SchemaRef], _: SavedState) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Copy { options: self }))
    }
}

struct Copy {
    options: CopyOptions,
}

impl Transform for Copy {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("series", DataType::Utf8, false),
            Field::new("value", DataType::Float64, false),
            Field::new("time", timestamp_type(), false),
            Field::new("input", DataType::Int64, false),
        ]))
    }

    fn process(&mut self, input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let series = rows.column(0).as_string::<i32>();
        let (rejected, good): (Vec<u32>, Vec<u32>) = (0..rows.num_rows() as u32)
            .partition(|row| self.options.reject.as_deref() == Some(series.value(*row as usize)));
        rejected.iter().for_each(|row| out.reject(*row as usize, "rejected"));
        let rows_of: Vec<u32> = good.iter().flat_map(|row| std::iter::repeat_n(*row, self.options.times)).collect();
        out.created((rows_of.len() - good.len()) as u64);
        let given = take_record_batch(&rows.project(&[0, 1, 2])?, &UInt32Array::from(rows_of.clone()))?;
        let inputs: ArrayRef = Arc::new(Int64Array::from(vec![input as i64; rows_of.len()]));
        let columns = given.columns().iter().cloned().chain([inputs]).collect();
        let batch = RecordBatch::try_new(self.schema(), columns)?;
        // In two parts: how rows are given does not matter.
        let half = batch.num_rows() / 2;
        out.emit(batch.slice(0, half), Origin::Rows(rows_of[..half].to_vec()));
        out.emit(batch.slice(half, batch.num_rows() - half), Origin::Rows(rows_of[half..].to_vec()));
        Ok(())
    }

    fn tick(&mut self, _: Times, out: &mut Output) -> Result<()> {
        if self.options.makes {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec!["made"])),
                Arc::new(Float64Array::from(vec![1.0])),
                Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")),
                Arc::new(Int64Array::from(vec![9])),
            ];
            let row = RecordBatch::try_new(self.schema(), columns)?;
            out.created(2);
            out.emit(interleave_record_batch(&[&row], &[(0, 0), (0, 0)])?, Origin::Created);
        }
        Ok(())
    }
}

fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    let own = [
        StageType::source::<NumbersOptions>(),
        StageType::transform::<CopyOptions>(),
        StageType::sink::<MemoryOptions>(),
    ];
    for stage in own.into_iter().chain(pipeline_builtin::stages()) {
        registry.add(stage).unwrap();
    }
    Arc::new(registry)
}

fn plan(folder: &Path, stages: &str) -> Arc<Plan> {
    let text = format!(
        "name: test\nkey: [series]\nstate: {}\ncommit_every: 4ms\ncheckpoint_every: 25ms\n{stages}",
        folder.join("state").display()
    );
    let loaded = load_text("test.yaml", &text, folder, &LoadOptions::default(), &registry());
    Arc::new(loaded.map_err(|report| report.render(false)).unwrap().0)
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn run(plan: Arc<Plan>) -> Result<Summary> {
    let settings = RunSettings { once: true, ..RunSettings::default() };
    let (_stop, stopped) = watch::channel(false);
    Run::prepare(plan, settings).await?.run(stopped).await
}

/// Runs in a runtime of its own for so long; `None` when it was dropped in the middle.
fn run_for(plan: &Arc<Plan>, time: Duration) -> Option<Summary> {
    let runtime = runtime();
    let ended = runtime.block_on(async { tokio::time::timeout(time, run(plan.clone())).await.ok() });
    runtime.shutdown_timeout(Duration::from_secs(5));
    ended.map(Result::unwrap)
}

fn run_all(plan: &Arc<Plan>) -> Summary {
    run_for(plan, Duration::from_secs(60)).unwrap()
}

fn with_store<T>(plan: &Plan, act: impl AsyncFnOnce(Arc<dyn StateStore>) -> T) -> T {
    runtime().block_on(async { act(open(&plan.state_location(), "test").await.unwrap()).await })
}

fn letters(plan: &Plan) -> Vec<(i64, DeadLetter)> {
    with_store(plan, async |store| store.dead_letters(0, 100_000).await.unwrap())
}

fn request_all(plan: &Plan) -> u64 {
    with_store(plan, async |store| store.request_replay(&[]).await.unwrap())
}

fn rows(name: &str) -> Vec<String> {
    let mut rows = table(name).lock().unwrap().rows.clone();
    rows.sort();
    rows
}

/// The ids of a table's rows; each row has another.
fn ids(name: &str) -> BTreeSet<String> {
    let rows = rows(name);
    let ids: BTreeSet<String> = rows.iter().map(|row| row[..row.find('{').unwrap()].to_string()).collect();
    assert_eq!(ids.len(), rows.len(), "two rows of {name} have one id");
    ids
}

fn books<'a>(plan: &Plan, summary: &'a Summary, stage: &str) -> &'a Counts {
    let number = plan.stages.iter().position(|found| found.id == stage).unwrap();
    let counts = &summary.progress.stages[number];
    assert!(counts.is_balanced(), "{stage}: {counts:?}");
    counts
}

fn two_detectors(name: &str, refuse: &str) -> String {
    format!(
        "
sources:
  readings: {{ type: numbers, partitions: 2, rows: 1500 }}
transforms:
  copies: {{ type: copy, inputs: readings, times: 3, makes: true }}
detectors:
  short: {{ type: zscore, inputs: readings, value: value, time: time, window: 5 }}
  long: {{ type: zscore, inputs: readings, value: value, time: time, window: 20 }}
sinks:
  both: {{ type: memory, inputs: [short, long], table: {name}-both{refuse} }}
  short_only: {{ type: memory, inputs: short, table: {name}-short }}
  copied: {{ type: memory, inputs: copies, table: {name}-copied{refuse} }}
  made: {{ type: memory, inputs: copies, when: \"series = 'made'\", table: {name}-made{} }}
",
        refuse.replace("p1-3", "made")
    )
}

#[test]
fn there_is_a_letter_for_each_dead_row_and_each_can_be_processed_again() {
    let folder = tempfile::tempdir().unwrap();
    let name = pipeline_services::unique_name("letters");
    let refusing = plan(folder.path(), &two_detectors(&name, ", refuse: p1-3"));
    let summary = run_all(&refusing);
    let dead = letters(&refusing);
    let of_stage = |stage: &str| dead.iter().filter(|(_, letter)| letter.row.stage == stage).count() as u64;
    for (stage, at_least) in [("both", 300), ("copied", 450), ("made", 2)] {
        assert_eq!(of_stage(stage), books(&refusing, &summary, stage).dead, "{stage}");
        assert!(at_least <= of_stage(stage), "{stage}: {} dead", of_stage(stage));
    }

    let taking = plan(folder.path(), &two_detectors(&name, ""));
    assert_eq!(request_all(&taking), dead.len() as u64);
    let summary = run_all(&taking);
    assert_eq!(letters(&taking), []);
    let both = books(&taking, &summary, "both");
    assert_eq!((both.rows_in, both.out, both.dead), (of_stage("both"), of_stage("both"), 0));
    assert_eq!(ids(&format!("{name}-both")).len(), 6_000);
    assert!(ids(&format!("{name}-both")).is_superset(&ids(&format!("{name}-short"))), "one row, one id in all sinks");
    assert!(9_000 < ids(&format!("{name}-copied")).len());
}

#[test]
fn rows_keep_their_ids_over_crashes() {
    let stages = |name: &str| {
        format!(
            "
sources:
  readings: {{ type: numbers, partitions: 2, rows: 500 }}
transforms:
  copies: {{ type: copy, inputs: readings, times: 3 }}
sinks:
  copied: {{ type: memory, inputs: copies, table: {name} }}
"
        )
    };
    let (folder, undisturbed) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("undisturbed"));
    run_all(&plan(folder.path(), &stages(&undisturbed)));
    assert_eq!(ids(&undisturbed).len(), 3_000);
    let (mut crashed, mut random) = (0, Random::new(1));
    for _ in 0..4 {
        let (folder, name) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("crash"));
        let plan = plan(folder.path(), &stages(&name));
        let mut patience = Duration::from_millis(10);
        while run_for(&plan, patience + Duration::from_micros(random.below(40_000) as u64)).is_none() {
            crashed += 1;
            patience += Duration::from_millis(1);
        }
        assert_eq!(rows(&name), rows(&undisturbed));
    }
    assert!(4 < crashed, "{crashed}");
}

#[test]
fn letters_that_are_processed_again_survive_crashes() {
    let (mut crashed, mut computed_again, mut random) = (0, 0, Random::new(2));
    for _ in 0..2 {
        let (folder, name) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("again"));
        run_all(&plan(folder.path(), &two_detectors(&name, ", refuse: p1-3")));
        let taking = plan(folder.path(), &two_detectors(&name, ""));
        request_all(&taking);
        let mut patience = Duration::from_millis(10);
        while run_for(&taking, patience + Duration::from_micros(random.below(40_000) as u64)).is_none() {
            crashed += 1;
            computed_again += with_store(&taking, async |store| {
                let log = store.claim("1").await.unwrap().log;
                log.iter().filter(|entry| !entry.stored.is_empty()).count()
            });
            patience += Duration::from_millis(1);
        }
        assert_eq!(letters(&taking), []);
        assert_eq!(ids(&format!("{name}-both")).len(), 6_000);
    }
    assert!(2 < crashed && 0 < computed_again, "{crashed} {computed_again}");
}

fn two_inputs(name: &str, copies: &str, reject: &str) -> String {
    format!(
        "
sources:
  readings: {{ type: numbers, partitions: 1, rows: 300 }}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, time: time, window: 5 }}
transforms:
  {copies}: {{ type: copy, inputs: [readings, spikes]{reject} }}
sinks:
  copied: {{ type: memory, inputs: {copies}, table: {name} }}
"
    )
}

#[test]
fn a_row_goes_in_again_by_the_edge_it_came_by() {
    let (folder, name) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("edges"));
    run_all(&plan(folder.path(), &two_inputs(&name, "copies", ", reject: p0-3")));
    let fixed = plan(folder.path(), &two_inputs(&name, "copies", ""));
    let edges: Vec<u32> = letters(&fixed).iter().map(|(_, letter)| letter.row.edge).collect();
    assert!(edges.contains(&0) && edges.contains(&1));
    let left = rows(&name).len();
    assert_eq!(request_all(&fixed), edges.len() as u64);
    let summary = run_all(&fixed);
    assert_eq!(books(&fixed, &summary, "copies").rows_in, edges.len() as u64);
    assert_eq!((left + edges.len(), ids(&name).len()), (600, 600));
    let by_spikes = rows(&name).iter().filter(|row| row.ends_with("\"input\":1}")).count();
    assert_eq!(by_spikes, 300);
}

#[test]
fn a_letter_that_fits_no_more_stays_and_the_run_goes_on() {
    let (folder, name) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("misfit"));
    run_all(&plan(folder.path(), &two_inputs(&name, "copies", ", reject: p0-3")));
    let renamed = plan(folder.path(), &two_inputs(&name, "renamed", ""));
    let dead = letters(&renamed);
    assert!(!dead.is_empty() && request_all(&renamed) == dead.len() as u64);
    run_all(&renamed);
    let kept = letters(&renamed);
    assert_eq!(kept.len(), dead.len());
    for ((number, was), (kept, letter)) in dead.iter().zip(&kept) {
        assert_eq!((number, &was.row), (kept, &letter.row));
        assert_eq!(letter.reason, "rejected; cannot be processed again: no stage is called `copies` any more");
    }
    assert!(with_store(&renamed, async |store| store.tasks_to_replay().await.unwrap()).is_empty(), "withdrawn");

    let fixed = plan(folder.path(), &two_inputs(&name, "copies", ""));
    request_all(&fixed);
    run_all(&fixed);
    assert_eq!(letters(&fixed), []);
    assert_eq!(ids(&name).len(), 600);
}

fn csv(name: &str, value_type: &str) -> String {
    format!(
        "
sources:
  readings:
    type: file
    path: readings.csv
    format: csv
    schema: {{ series: string, value: {value_type}, file: {{ type: string, meta: topic }}, part: {{ type: integer, meta: partition }} }}
sinks:
  history: {{ type: memory, inputs: readings, table: {name} }}
"
    )
}

#[test]
fn a_payload_goes_in_again_with_all_that_stood_beside_it() {
    let (folder, name) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("beside"));
    std::fs::write(folder.path().join("readings.csv"), "value,series\n1.5,a\nmuch,b\n2.5,c\n").unwrap();
    let summary = run_all(&plan(folder.path(), &csv(&name, "float")));
    assert_eq!(summary.progress.stages[0].dead, 1);
    let fixed = plan(folder.path(), &csv(&name, "string"));
    assert_eq!(request_all(&fixed), 1);
    let summary = run_all(&fixed);
    assert_eq!(letters(&fixed), []);
    assert_eq!((books(&fixed, &summary, "readings").rows_in, books(&fixed, &summary, "history").rows_in), (1, 1));
    let rows: Vec<serde_json::Value> =
        rows(&name).iter().map(|row| serde_json::from_str(&row[row.find('{').unwrap()..]).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    let late = rows.iter().find(|row| row["series"] == "b").unwrap();
    let first = rows.iter().find(|row| row["series"] == "a").unwrap();
    assert_eq!((&late["value"], &late["file"], &late["part"]), (&"much".into(), &first["file"], &first["part"]));
}

#[test]
fn all_letters_that_are_named_are_asked_for_or_none() {
    let (folder, name) = (tempfile::tempdir().unwrap(), pipeline_services::unique_name("named"));
    let plan = plan(folder.path(), &two_inputs(&name, "copies", ", reject: p0-3"));
    run_all(&plan);
    let first = letters(&plan)[0].0;
    with_store(&plan, async |store| {
        let error = store.request_replay(&[first, 99_998, 99_999]).await.unwrap_err();
        let words = "there is no dead letter 99998 and no 99999; none is processed again";
        assert_eq!(error.to_string(), words);
        assert!(store.tasks_to_replay().await.unwrap().is_empty());
        assert_eq!(store.request_replay(&[first, first]).await.unwrap(), 1);
        assert_eq!(store.tasks_to_replay().await.unwrap(), ["0"]);
    });
}
