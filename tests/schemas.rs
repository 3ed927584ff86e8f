//! The generated schemas and pages are fresh, and the schema of pipeline files agrees with what `pipeline validate` says.
//!
//! `UPDATE_GOLDEN=1 cargo test -p pipeline-cli --test files` writes them anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use jsonschema::Validator;
use pipeline_cli::registry;
use pipeline_runtime::file::{LoadOptions, PipelineFile};
use pipeline_runtime::schema;
use pipeline_stage::{Kind, StageType};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&schema::pipeline(&registry::full())).expect("JSON");
    jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&schema).expect("a schema")
}

/// A YAML text as JSON, with `profiles:` and without any variable replaced: as an editor sees it.
fn as_json(text: &str) -> Option<Value> {
    let file = PipelineFile::parse("file", text, Path::new("."), &LoadOptions::default()).ok()?;
    Some(file.root.to_json())
}

/// The sources of a file with an example of a transform: those read documents.
pub fn documents() -> Value {
    json!({ "documents": { "type": "file", "path": "x", "format": "text", "schema": { "document": "string" } } })
}

/// The map of a file that a stage's example belongs into: that of a format is a source.
pub fn map_of(stage: &StageType) -> String {
    match stage.kind {
        Kind::Format => "sources".into(),
        kind => format!("{}s", kind.name()),
    }
}

/// A stage's example, in a file around it.
fn around(stage: &StageType) -> Value {
    let example = as_json(&stage.example).unwrap_or_else(|| panic!("the example of `{}` is not YAML", stage.name));
    let mut file = json!({ "name": "x", "sources": {}, "sinks": {} });
    file[map_of(stage)] = example;
    file
}

#[test]
fn generated_files_are_fresh() {
    let registry = registry::full();
    let schemas = schema::schemas(&registry).into_iter().map(|(path, text)| (root().join("schemas").join(path), text));
    let pages = schema::pages(&registry).into_iter().map(|(path, text)| (root().join("docs/stages").join(path), text));
    let metrics = (root().join("docs/metrics.md"), pipeline_dashboard::documentation());
    let mut stale = Vec::new();
    for (path, text) in schemas.chain(pages).chain([metrics]) {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the file can be written");
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(path.display().to_string());
        }
    }
    let help = "`UPDATE_GOLDEN=1 cargo test -p pipeline-cli --test files` writes them";
    assert!(stale.is_empty(), "not fresh; {help}: {stale:#?}");
}

#[test]
fn every_example_fits_the_schema_and_no_longer_does_with_a_wrong_option() {
    let validator = validator();
    for stage in registry::full().all() {
        let file = around(stage);
        let errors: Vec<String> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}.{}: {errors:#?}\n{file:#}", stage.kind.name(), stage.name);
        let mut wrong = file.clone();
        for stage in wrong[map_of(stage)].as_object_mut().expect("stages").values_mut() {
            stage["no_such_option"] = 1.into();
        }
        assert!(!validator.is_valid(&wrong), "{}.{}", stage.kind.name(), stage.name);
    }
}

#[test]
fn the_pipelines_of_the_repository_fit_the_schema() {
    let validator = validator();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("pipelines")).expect("the folder of pipelines") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let file = as_json(&std::fs::read_to_string(&path).expect("a file")).expect("YAML");
        let errors: Vec<String> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        count += 1;
    }
    assert!(0 < count);
}

#[test]
fn variables_fit_wherever_a_value_may_come_from_one() {
    let file = |window: Value| {
        json!({
            "name": "x", "sources": { "r": { "type": "simulator", "rate": "${RATE}" } },
            "detectors": { "d": { "type": "zscore", "inputs": "r", "value": "v", "window": window, "direction": "${D:-both}" } },
            "sinks": { "s": { "type": "discard", "inputs": ["d"] } },
            "profiles": { "p": { "commit_every": "${E}", "detectors": { "d": { "window": 3 } }, "sinks": { "s": null } } },
        })
    };
    let validator = validator();
    for (window, is_valid) in [
        (json!(30), true),
        (json!("${WINDOW}"), true),
        (json!("${WINDOW:-30}"), true),
        (json!("30"), false),
        (json!("a ${WINDOW}"), false),
        (json!(1), false),
    ] {
        assert_eq!(validator.is_valid(&file(window.clone())), is_valid, "{window}");
    }
}

/// The bad files whose mistake is one of form: the schema finds these too.
const OF_FORM: [&str; 30] = [
    "unknown_key",
    "unknown_map",
    "name_missing",
    "name_is_a_number",
    "name_with_blanks",
    "wrong_duration",
    "key_is_a_map",
    "key_item_is_a_number",
    "time_zone_with_summer_time",
    "sources_is_a_list",
    "stage_is_text",
    "stage_is_empty",
    "id_in_capitals",
    "id_with_dash",
    "id_with_two_underscores",
    "type_missing",
    "unknown_detector",
    "unknown_source",
    "sink_as_detector",
    "unknown_option",
    "wrong_type_number",
    "number_out_of_range",
    "yes_is_text",
    "unknown_choice",
    "required_option_missing",
    "inputs_missing",
    "unknown_column_type",
    "unknown_format_option",
    "profile_with_unknown_option",
    "secret_in_line_is_hidden",
];

#[test]
fn mistakes_of_form_are_found_by_the_schema_too() {
    let validator = validator();
    for name in OF_FORM {
        let text = std::fs::read_to_string(root().join(format!("tests/bad-files/{name}.yaml"))).expect("a bad file");
        let file = as_json(&text).unwrap_or_else(|| panic!("{name} is no YAML"));
        assert!(!validator.is_valid(&file), "{name}");
    }
}

#[test]
fn every_stage_has_its_own_schema_that_takes_its_example() {
    let registry = registry::full();
    for stage_type in registry.all().filter(|stage_type| stage_type.kind != Kind::Format) {
        let schema = schema::stage(stage_type, &registry);
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let example = as_json(&stage_type.example).expect("YAML");
        for stage in example.as_object().expect("stages").values() {
            let errors: Vec<String> = validator.iter_errors(stage).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", stage_type.name);
        }
    }
}

#[test]
fn every_example_is_a_stage_that_can_be_planned() {
    let folder = tempfile::tempdir().expect("a folder");
    for stage in registry::full().all() {
        let mut file = around(stage);
        let map = map_of(stage);
        if map != "sources" {
            file["sources"]["readings"] = json!({ "type": "simulator" });
        }
        let id = file[&map].as_object().and_then(|stages| stages.keys().next()).cloned().expect("an id");
        if stage.kind == Kind::Sink {
            // Examples of sinks read a detector.
            file["detectors"]["spikes"] = json!({ "type": "zscore", "inputs": "readings", "value": "value" });
            file["sinks"]["rest"] = json!({ "type": "discard", "inputs": "spikes" });
        } else if stage.kind == Kind::Transform {
            file["sources"] = documents();
            file["sinks"]["rest"] = json!({ "type": "discard", "inputs": id });
        } else {
            file["sinks"]["rest"] = json!({ "type": "discard", "inputs": id });
        }
        file["sinks"]["all"] = json!({ "type": "discard", "inputs": if ["sources", "transforms"].contains(&map.as_str()) { id.as_str() } else { "readings" } });
        let path = folder.path().join(format!("{}.yaml", stage.name));
        std::fs::write(&path, format!("{file:#}")).expect("the file can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.arg("validate").arg(&path).env_clear();
        command.env("DATABASE_URL", "postgres://localhost/x");
        for name in ["SLACK_WEBHOOK_URL", "WEBHOOK_URL"] {
            command.env(name, "https://hooks.slack.com/services/T0/B0/x");
        }
        let output = command.output().expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}.{}:\n{said}\n{file:#}", stage.kind.name(), stage.name);
    }
}
