//! The boundary to plugins: a library that does what the bytes say, and a host that must believe none of it.

use std::process::Command;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, RecordBatch};
use pipeline_abi::host::Library;
use pipeline_stage::{Kind, Make, MakeTransform, Outcome, Output, Result, SavedState, Times, Timestamp, Transform};
use pipeline_testkit::{Store, reading_schema, stage_context, steady_readings};
use serde_json::{Map, Value, json};

/// The plugin reads no more of a script.
const MAX_SCRIPT: usize = 4_096;
const N_ROWS: usize = 8;

/// The first byte chooses the kind of stage; what follows is what it does in all of its calls.
pub fn run(bytes: &[u8]) -> bool {
    let Some((choice, script)) = bytes.split_first() else { return false };
    let is_detector = choice & 1 != 0;
    // Hexadecimal in the letters from a to p: every text is a script.
    let letter = |half: u8| char::from(b'a' + half);
    let script: String =
        script.iter().take(MAX_SCRIPT).flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect();
    let mut options = Map::from_iter([("script".to_owned(), json!(script))]);
    if is_detector {
        options.insert("value".into(), json!("value"));
    }
    match live(&*STAGES[usize::from(is_detector)], Value::Object(options)) {
        Ok(()) => true,
        Err(error) => {
            assert!(!error.chain().trim().is_empty(), "what fails has a reason");
            false
        }
    }
}

/// The life of a stage, up to the first error.
fn live(make: &MakeTransform, options: Value) -> Result<()> {
    let mut stage = make(options.clone(), &stage_context(), &[reading_schema()], SavedState::default())?;
    let mut saved = Store::default();
    for round in 0..2 {
        let mut out = Output::default();
        let processed = stage.process(0, &steady_readings(2, round * N_ROWS, N_ROWS), &mut out);
        is_sound(&*stage, &out.take());
        processed?;
        let times = Times { now: Timestamp(round as i64), watermark: None };
        let ticked = stage.tick(times, &mut out);
        is_sound(&*stage, &out.take());
        ticked?;
        stage.save(&mut saved)?;
        let _ = stage.held();
    }
    make(options, &stage_context(), &[reading_schema()], saved.saved()).map(drop)
}

/// Whatever came over is what Arrow calls valid, to the last byte.
fn is_sound(stage: &dyn Transform, outcome: &Outcome) {
    for (batch, _) in &outcome.emitted {
        assert_eq!(batch.schema(), stage.schema());
        is_valid(batch);
    }
    assert!(outcome.rejected.iter().all(|(_, why)| !why.is_empty()), "a rejected row has a reason");
}

fn is_valid(batch: &RecordBatch) {
    for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
        column.to_data().validate_full().unwrap_or_else(|error| panic!("column `{}`: {error}", field.name()));
        assert!(field.is_nullable() || column.null_count() == 0, "column `{}` has nulls", field.name());
    }
}

/// The plugin, compiled at the first call: a transform and a detector.
static STAGES: LazyLock<[Arc<MakeTransform>; 2]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("pipeline_plugin.h", pipeline_abi::HEADER);
    write("scripted.c", include_str!("scripted.c"));
    let mut compile = Command::new("cc");
    compile.current_dir(folder.path()).args(["-std=gnu99", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]);
    let done = compile.args(["-I.", "scripted.c", "-o", "scripted.so"]).output().expect("there is a compiler `cc`");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let library = Library::load(&folder.path().join("scripted.so"), None).expect("it is a plugin");
    [Kind::Transform, Kind::Detector].map(|kind| {
        let stage = library.stages.iter().find(|stage| stage.kind == kind).expect("it has one of each");
        let Make::Transform(make) = &stage.make else { panic!("it makes transforms") };
        make.clone()
    })
});
