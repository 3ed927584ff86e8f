//! Every built-in stage says what it is, its example works, and it stands the trials of `pipeline plugin test`.

use std::path::Path;

use pipeline_builtin::stages;
use pipeline_stage::{Kind, StageType};
use pipeline_testkit::{Asked, Effort, checks_out, example_options, trials};
use serde_json::{Value, json};

#[test]
fn all_check_out() {
    let stages = stages();
    assert!(5 <= stages.len());
    for stage in &stages {
        checks_out(stage);
    }
}

/// The options that can be tried without anything else: those of the example, or others where it names a file.
fn options_of(stage: &StageType, folder: &Path) -> Value {
    match (stage.kind, stage.name.as_str()) {
        (Kind::Source, "file") => {
            let lines: String = (0..20_000).map(|row| format!("{{\"value\": {row}}}\n")).collect();
            std::fs::write(folder.join("readings.jsonl"), lines).expect("the folder is ours");
            json!({"path": "readings.jsonl"})
        }
        (Kind::Source, "simulator") => json!({"rate": "2000 per second", "count": 1_500}),
        // No text of the readings is a document: what it gives for documents is tried where it stands.
        (Kind::Transform, "unnest") => json!({"column": "metric_type", "columns": {"name": "string"}}),
        _ => Value::Object(example_options(stage).expect("it has checked out")),
    }
}

#[test]
fn all_stand_the_trials() {
    let mut stood = 0;
    for stage in stages() {
        let folder = tempfile::tempdir().expect("a folder for one stage");
        let options = options_of(&stage, folder.path());
        for trial in trials(&Asked {
            stage: &stage,
            options: &options,
            like: None,
            directory: folder.path(),
            effort: Effort::Full,
        }) {
            let name = format!("{}.{}: {}", stage.kind.name(), stage.name, trial.name);
            let words = trial.run().unwrap_or_else(|broken| panic!("{name}: {broken}"));
            println!("{name}: {words}");
            stood += 1;
        }
    }
    // One detector, one transform, two sources, three sinks.
    assert!(2 * 17 + 2 * 4 + 3 * 3 <= stood, "{stood} trials");
}
