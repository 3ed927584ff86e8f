//! The z-scores of `plugins/example-python`: the bytes of the built-in one, through the pipe.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use pipeline_python::{Interpreter, Plugin};
use pipeline_stage::{ErrorKind, Make, Output, SavedState, StageType, StateWriter, Transform, timestamp_type};
use pipeline_testkit::{Random, checks_out, obeys_laws_briefly, python, readings, stage_context};
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Of one series, and of whole batches.
fn in_python() -> [StageType; 2] {
    let interpreter = Interpreter::find(Some(python().to_str().unwrap()), Path::new(""));
    let loaded = Plugin::load(&repository().join("plugins/example-python/zscore.py"), interpreter, None);
    let stages = loaded.unwrap_or_else(|error| panic!("{}", error.chain())).stages;
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["zscore_py", "zscore_np"]);
    stages.try_into().unwrap_or_else(|_| panic!("two stages"))
}

fn built_in() -> StageType {
    pipeline_builtin::stages().into_iter().find(|stage| stage.name == "zscore").unwrap()
}

fn build(stage: &StageType, options: &Value, rows: &RecordBatch, state: SavedState) -> Box<dyn Transform> {
    let Make::Transform(make) = &stage.make else { panic!("not a transform") };
    make(options.clone(), &stage_context(), &[rows.schema()], state).unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn run(transform: &mut dyn Transform, rows: &RecordBatch, batch_size: usize) -> Vec<RecordBatch> {
    let mut out = Output::default();
    for start in (0..rows.num_rows()).step_by(batch_size) {
        let length = batch_size.min(rows.num_rows() - start);
        let done = transform.process(0, &rows.slice(start, length), &mut out);
        done.unwrap_or_else(|error| panic!("{}", error.chain()));
    }
    out.take().emitted.into_iter().map(|(batch, _)| batch).collect()
}

/// The bits of every number, so that −0 and 0 are told apart.
fn bits(batches: &[RecordBatch]) -> Vec<Option<u64>> {
    let columns = batches.iter().flat_map(|batch| batch.columns());
    let floats = columns.filter_map(|column| column.as_primitive_opt::<Float64Type>());
    floats.flat_map(|column| column.iter().map(|value| value.map(f64::to_bits))).collect()
}

/// The recorded motes, which lie beside the repository (or where `PIPELINE_TEST_DATA` says).
fn motes() -> RecordBatch {
    let data = std::env::var_os("PIPELINE_TEST_DATA").map_or(repository().join("../shared/data"), PathBuf::from);
    let file = data.join("wsn/motes.jsonl");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts = |name: &str| rows.iter().map(|row| row[name].as_str().map(str::to_owned)).collect::<StringArray>();
    let values: Float64Array = rows.iter().map(|row| row["value"].as_f64()).collect();
    let times = TimestampMicrosecondArray::from_iter_values(0..rows.len() as i64).with_timezone("UTC");
    let schema = Schema::new(vec![
        Field::new("sensor_id", DataType::Utf8, false),
        Field::new("metric_type", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
        Field::new("timestamp", timestamp_type(), false),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(texts("sensor_id")), Arc::new(texts("metric_type")), Arc::new(values), Arc::new(times)];
    RecordBatch::try_new(schema.into(), columns).unwrap()
}

/// The same rows with other values, which differ by a few units of their last place: there the deviation is one, too.
fn nearly_equal(rows: &RecordBatch) -> RecordBatch {
    let mut random = Random::new(5);
    let values = (0..rows.num_rows()).map(|_| 0.3 + f64::EPSILON / 4.0 * random.below(4) as f64);
    let mut columns = rows.columns().to_vec();
    columns[rows.schema().index_of("value").unwrap()] = Arc::new(values.collect::<Float64Array>());
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[test]
fn both_forms_give_the_bytes_of_the_built_in_one() {
    let rows = motes();
    assert_eq!(rows.num_rows(), 37_828);
    let nearly_equal = nearly_equal(&rows);
    for (rows, window, batch_size) in [(&rows, 30, 8_192), (&rows, 7, 1_000), (&nearly_equal, 30, 8_192)] {
        let options = json!({"value": "value", "window": window, "threshold": 3.0});
        let expected = run(&mut *build(&built_in(), &options, rows, SavedState::default()), rows, batch_size);
        let numbers = bits(&expected).iter().flatten().count();
        assert!(200_000 < numbers, "{numbers} numbers");
        for stage in in_python() {
            let found = run(&mut *build(&stage, &options, rows, SavedState::default()), rows, batch_size);
            assert!(bits(&found) == bits(&expected), "{} differs in its numbers", stage.name);
            assert!(found == expected, "{} differs", stage.name);
        }
    }
}

#[test]
fn the_vectorised_form_is_the_same_on_values_at_the_limits_of_a_float() {
    let rows = readings(9, 6_000);
    let options = json!({"value": "value", "window": 6, "threshold": 2.0, "time": "timestamp", "max_series": 100});
    let expected = run(&mut *build(&built_in(), &options, &rows, SavedState::default()), &rows, 700);
    let [_, vectorised] = in_python();
    let found = run(&mut *build(&vectorised, &options, &rows, SavedState::default()), &rows, 700);
    let (found, expected) = (bits(&found), bits(&expected));
    let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    let shown = first.map(|at| (at, found[at].map(f64::from_bits), expected[at].map(f64::from_bits)));
    assert_eq!(shown, None);
}

#[test]
fn both_forms_obey_the_laws() {
    let options = json!({"value": "value", "window": 7, "threshold": 2.0, "time": "timestamp", "max_series": 90});
    for stage in in_python() {
        checks_out(&stage);
        let evidence = obeys_laws_briefly(&stage, &options, &readings(3, 3_000));
        assert_eq!(evidence.rows_out, 3_000);
        assert!(10 < evidence.resumed_with_state, "{evidence:?}");
    }
}

#[derive(Default)]
struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

impl StateWriter for Store {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

/// Saves under one window and goes on under another.
fn resumed(stage: &StageType, saved_with: u32, resumed_with: u32) -> Vec<Option<u64>> {
    let rows = readings(5, 3_000);
    let options = |window: u32| json!({"value": "value", "window": window});
    let mut transform = build(stage, &options(saved_with), &rows, SavedState::default());
    run(&mut *transform, &rows.slice(0, 1_500), 1_500);
    let mut store = Store::default();
    transform.save(&mut store).unwrap();
    let state = SavedState { entries: store.0.into_iter().collect() };
    let mut transform = build(stage, &options(resumed_with), &rows, state);
    bits(&run(&mut *transform, &rows.slice(1_500, 1_500), 1_500))
}

#[test]
fn a_window_saved_under_another_option_is_the_same_on_both_sides() {
    let [_, vectorised] = in_python();
    for (saved_with, resumed_with) in [(5, 3), (5, 9), (7, 7), (200, 30)] {
        let expected = resumed(&built_in(), saved_with, resumed_with);
        assert!(resumed(&vectorised, saved_with, resumed_with) == expected, "{saved_with} → {resumed_with}");
    }
}

#[test]
fn how_far_it_looks_back_is_told() {
    for stage in in_python() {
        let transform = build(&stage, &json!({"value": "value", "window": 42}), &readings(1, 1), SavedState::default());
        assert_eq!(transform.looks_back(), Some(42), "{}", stage.name);
    }
}

#[test]
fn wrong_options_are_told_with_their_place() {
    let rows = readings(1, 1);
    for stage in in_python() {
        let Make::Transform(make) = &stage.make else { panic!("not a transform") };
        for (options, option, words) in [
            (json!({"value": "value", "window": 1}), "window", "`window` is 1, it must be at least 2"),
            (json!({"value": "value", "window": "x"}), "window", "`window` is \"x\", it must be a whole number"),
            (
                json!({"value": "value", "min_samples": 31}),
                "min_samples",
                "`min_samples` is 31, it must be at most `window`, 30",
            ),
            (json!({"value": "value", "threshold": 0}), "threshold", "`threshold` is 0, it must be above 0"),
            (
                json!({"value": "x"}),
                "value",
                "there is no column `x`; there is sensor_id (string), metric_type (string), value (float), timestamp (timestamp)",
            ),
            (
                json!({"value": "value", "windw": 5}),
                "windw",
                "unknown option `windw`, there is window, min_samples, threshold",
            ),
        ] {
            let error = make(options, &stage_context(), &[rows.schema()], SavedState::default()).err().unwrap();
            assert_eq!(
                (error.kind(), error.option(), error.to_string().as_str()),
                (ErrorKind::Config, Some(option), words)
            );
        }
    }
}

#[test]
fn state_that_is_not_its_own_is_refused_in_words() {
    let rows = readings(1, 1_000);
    let [one, batches] = in_python();
    let saved_by = |stage: &StageType| {
        let mut transform = build(stage, &json!({"value": "value"}), &rows, SavedState::default());
        run(&mut *transform, &rows, 500);
        let mut store = Store::default();
        transform.save(&mut store).unwrap();
        store.0.into_iter().collect::<Vec<_>>()
    };
    let nonsense = vec![(b"key".to_vec(), b"nonsense".to_vec())];
    for (stage, entries) in
        [(&one, nonsense.clone()), (&batches, nonsense), (&one, saved_by(&batches)), (&batches, saved_by(&one))]
    {
        let Make::Transform(make) = &stage.make else { panic!("not a transform") };
        let state = SavedState { entries };
        let error = make(json!({"value": "value"}), &stage_context(), &[rows.schema()], state).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(error.chain().starts_with("saved state cannot be read"), "{}", error.chain());
    }
}
