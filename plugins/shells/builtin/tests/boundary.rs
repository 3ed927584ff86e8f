//! The third law: the same comes out, byte for byte, of a stage that is built in, loaded from a library in Rust, and
//! loaded from one in C; and the other two laws hold through the boundary.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use pipeline_abi::host::Library;
use pipeline_stage::{Kind, Make, Output, SavedState, StageType, timestamp_type};
use pipeline_testkit::{Asked, Effort, checks_out, readings, stage_context, trials};
use serde_json::{Value, json};

/// This crate as a library; cargo puts it beside the test.
fn in_rust() -> StageType {
    let test = std::env::current_exe().unwrap();
    let name = format!("{}pipeline_builtin_plugin{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    stage(&test.with_file_name(name), "zscore")
}

fn in_c(folder: &Path) -> StageType {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let library = folder.join("libzscore_c.so");
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC", "-o"]);
    compile.arg(&library).arg(repository.join("plugins/example-c/zscore.c"));
    compile.arg("-I").arg(repository.join("engine/abi/include")).arg("-lm");
    let status = compile.status().expect("a C compiler is needed: on Debian, apt-get install gcc");
    assert!(status.success());
    stage(&library, "zscore_c")
}

fn stage(library: &Path, name: &str) -> StageType {
    let loaded = Library::load(library, None).unwrap_or_else(|error| panic!("{}", error.chain()));
    let found = loaded.stages.into_iter().find(|stage| stage.kind == Kind::Detector && stage.name == name);
    found.expect("it has this detector")
}

fn built_in() -> StageType {
    pipeline_builtin::stages().into_iter().find(|stage| stage.name == "zscore").unwrap()
}

/// What a stage gives for these rows, in batches of a size.
fn run(stage: &StageType, options: &Value, rows: &RecordBatch, batch_size: usize) -> Vec<RecordBatch> {
    let Make::Transform(make) = &stage.make else { panic!("not a transform") };
    let made = make(options.clone(), &stage_context(), &[rows.schema()], SavedState::default());
    let mut transform = made.unwrap_or_else(|error| panic!("{}", error.chain()));
    let mut out = Output::default();
    let mut start = 0;
    while start < rows.num_rows() {
        let length = batch_size.min(rows.num_rows() - start);
        transform.process(0, &rows.slice(start, length), &mut out).unwrap();
        start += length;
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
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data");
    let data = std::env::var_os("PIPELINE_TEST_DATA").map_or(beside, PathBuf::from);
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

#[test]
fn the_z_score_gives_the_same_bytes_built_in_loaded_and_in_c() {
    let folder = tempfile::tempdir().unwrap();
    let rows = motes();
    assert_eq!(rows.num_rows(), 37_828);
    let options = json!({"value": "value", "window": 30, "threshold": 3.0});
    let expected = run(&built_in(), &options, &rows, 8_192);
    let numbers = bits(&expected).iter().flatten().count();
    assert!(200_000 < numbers, "{numbers} numbers");
    for (language, stage) in [("Rust", in_rust()), ("C", in_c(folder.path()))] {
        let found = run(&stage, &options, &rows, 8_192);
        assert!(bits(&found) == bits(&expected), "{language} differs in its numbers");
        assert!(found == expected, "{language} differs");
    }
}

#[test]
fn loaded_stages_obey_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    let (options, built_in) = (json!({"value": "value", "window": 7, "threshold": 2.0}), built_in());
    for stage in [in_rust(), in_c(folder.path())] {
        checks_out(&stage);
        let asked = Asked {
            stage: &stage,
            options: &options,
            like: Some(&built_in),
            directory: folder.path(),
            effort: Effort::Full,
        };
        let trials = trials(&asked);
        assert!(18 <= trials.len(), "{} trials", trials.len());
        for trial in trials {
            let name = format!("{}: {}", stage.name, trial.name);
            let words = trial.run().unwrap_or_else(|broken| panic!("{name}: {broken}"));
            println!("{name}: {words}");
        }
    }
}

/// Saves under one window and goes on under another.
fn resumed(stage: &StageType, saved_with: u32, resumed_with: u32) -> Vec<Option<u64>> {
    #[derive(Default)]
    struct Store(std::collections::BTreeMap<Vec<u8>, Vec<u8>>);
    impl pipeline_stage::StateWriter for Store {
        fn put(&mut self, key: &[u8], value: &[u8]) {
            self.0.insert(key.into(), value.into());
        }
        fn delete(&mut self, key: &[u8]) {
            self.0.remove(key);
        }
    }
    let Make::Transform(make) = &stage.make else { panic!("not a transform") };
    let rows = readings(5, 3_000);
    let build = |window: u32, state| {
        make(json!({"value": "value", "window": window}), &stage_context(), &[rows.schema()], state).unwrap()
    };
    let (mut out, mut store) = (Output::default(), Store::default());
    let mut transform = build(saved_with, SavedState::default());
    transform.process(0, &rows.slice(0, 1_500), &mut out).unwrap();
    transform.save(&mut store).unwrap();
    out.take();
    let mut transform = build(resumed_with, SavedState { entries: store.0.into_iter().collect() });
    transform.process(0, &rows.slice(1_500, 1_500), &mut out).unwrap();
    bits(&out.take().emitted.into_iter().map(|(batch, _)| batch).collect::<Vec<_>>())
}

#[test]
fn a_window_saved_under_another_option_is_the_same_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (rust, c) = (in_rust(), in_c(folder.path()));
    for (saved_with, resumed_with) in [(5, 3), (5, 9), (7, 7), (200, 30)] {
        let expected = resumed(&built_in(), saved_with, resumed_with);
        assert!(resumed(&rust, saved_with, resumed_with) == expected, "Rust: {saved_with} → {resumed_with}");
        let found = resumed(&c, saved_with, resumed_with);
        let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        let shown = first.map(|at| (at, found[at].map(f64::from_bits), expected[at].map(f64::from_bits)));
        assert_eq!(shown, None, "C: {saved_with} → {resumed_with}");
    }
}

#[test]
fn how_far_a_detector_looks_back_is_told_across_the_boundary() {
    let folder = tempfile::tempdir().unwrap();
    let rows = readings(1, 1);
    let looks_back = |stage: &StageType, options| {
        let Make::Transform(make) = &stage.make else { panic!("not a transform") };
        make(options, &stage_context(), &[rows.schema()], SavedState::default()).unwrap().looks_back()
    };
    let window = json!({"value": "value", "window": 42});
    let without_anomalies = json!({"value": "value", "window": 42, "include_anomalies": false});
    for stage in [built_in(), in_rust()] {
        assert_eq!(looks_back(&stage, window.clone()), Some(42));
        assert_eq!(looks_back(&stage, without_anomalies.clone()), None);
    }
    assert_eq!(looks_back(&in_c(folder.path()), window), Some(42));
}

#[test]
fn wrong_options_are_told_across_the_boundary() {
    let folder = tempfile::tempdir().unwrap();
    let rows = readings(1, 1);
    for (stage, option, words) in [
        (in_rust(), "window", "`window` is 1, it must be at least 2"),
        (in_c(folder.path()), "window", "`window` must be 2 to 100000"),
    ] {
        let Make::Transform(make) = &stage.make else { panic!("not a transform") };
        let options = json!({"value": "value", "window": 1});
        let made = make(options, &stage_context(), &[rows.schema()], SavedState::default());
        let error = made.err().unwrap();
        assert_eq!((error.option(), error.to_string().as_str()), (Some(option), words));
    }
}

#[test]
fn state_that_is_not_its_own_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let rows = readings(1, 1);
    for stage in [in_rust(), in_c(folder.path())] {
        let Make::Transform(make) = &stage.make else { panic!("not a transform") };
        let state = SavedState { entries: vec![(b"key".to_vec(), b"nonsense".to_vec())] };
        let made = make(json!({"value": "value"}), &stage_context(), &[rows.schema()], state);
        let error = made.err().unwrap();
        assert!(error.chain().starts_with("saved state cannot be read"), "{}", error.chain());
    }
}
