//! Pieces of pipeline files: each is put where it belongs, and the whole is validated by the built binary.

use pipeline_cli::registry;
use pipeline_runtime::file::{LoadOptions, PipelineFile};
use pipeline_stage::{Kind, StageType};
use serde_json::{Map, Value, json};

use super::Document;
use super::blocks::Block;
use super::running::Page;
use crate::schemas::{documents, map_of};

/// The maps of a pipeline file; a block that has one of them at its top is a file, or a part of one.
const MAPS: [&str; 5] = ["sources", "transforms", "detectors", "sinks", "profiles"];

/// Checks that the block is right.
///
/// * A block with `sources:` is a whole file.
/// * A block with other keys of a file changes the file that [`base`] gives.
/// * On the page of a stage, a map of stages is of its kind, and any other map has options of its example.
/// * Lines of `when:` are conditions on the columns of [`base`].
pub fn is_validated(page: &Page, document: &Document, block: &Block, place: &str) {
    let lines: Vec<&str> = block.text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.iter().all(|line| line.starts_with("when: ")) {
        for line in lines {
            let when = yaml(line, place)["when"].clone();
            let mut file = base();
            file["sinks"]["screen"]["when"] = when;
            validate(page, "condition.yaml", &file.to_string(), &format!("{place}: {line}"));
        }
        return;
    }
    let value = yaml(&block.text, place);
    let keys = value.as_object().unwrap_or_else(|| panic!("{place}: it is no map"));
    if keys.contains_key("sources") {
        let name = block.file_name().unwrap_or("a-whole-file.yaml");
        return validate(page, name, &block.text, place);
    }
    let is_part = keys.keys().any(|key| MAPS.contains(&key.as_str()) || base().get(key).is_some() || key == "plugins");
    let file = match (is_part, stage_of(document)) {
        (true, _) => merged(base(), &value),
        (false, Some(stage)) => with_stage(&stage, &value, place),
        (false, None) => panic!("{place}: where does this belong in a pipeline file?"),
    };
    validate(page, "part.yaml", &file.to_string(), place);
}

fn validate(page: &Page, name: &str, text: &str, place: &str) {
    page.write(name, text);
    page.run(&format!("pipeline validate {name}"), place);
}

/// A text as JSON, with no variable replaced.
fn yaml(text: &str, place: &str) -> Value {
    let file = PipelineFile::parse("block", text, "/nonexistent".as_ref(), &LoadOptions::default());
    file.unwrap_or_else(|report| panic!("{place}: {}", report.render(false))).root.to_json()
}

/// A pipeline of the standard columns.
fn base() -> Value {
    json!({
        "name": "iot",
        "key": ["sensor_id", "metric_type"],
        "state": ".pipeline/iot",
        "commit_every": "50ms",
        "checkpoint_every": "10s",
        "sources": { "readings": { "type": "simulator" } },
        "detectors": { "spikes": { "type": "zscore", "inputs": ["readings"], "value": "value", "time": "timestamp" } },
        "sinks": { "screen": { "type": "console", "inputs": ["spikes"], "when": "is_anomaly" } },
    })
}

fn merged(mut whole: Value, part: &Value) -> Value {
    match (&mut whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                let is_stage_of_other_type = value.get("type").is_some();
                let before = whole.get(key).cloned().filter(|_| !is_stage_of_other_type).unwrap_or(Value::Null);
                whole.insert(key.clone(), merged(before, value));
            }
        }
        (whole, part) => *whole = part.clone(),
    }
    whole
}

/// The stage whose page this is.
fn stage_of(document: &Document) -> Option<StageType> {
    let name = document.path.strip_prefix("docs/stages/")?.strip_suffix(".md")?;
    let (kind, name) = name.split_once('.')?;
    let kind = Kind::ALL.into_iter().find(|of| of.name() == kind)?;
    registry::full().find(kind, name).cloned()
}

/// Its stages, or its example with these options, in a file.
fn with_stage(stage: &StageType, value: &Value, place: &str) -> Value {
    let is_of_stages = |map: &Map<String, Value>| map.values().all(|value| value.get("type").is_some());
    let stages = match value.as_object().is_some_and(is_of_stages) {
        true => value.clone(),
        false => {
            let mut example = yaml(&stage.example, place);
            for options in example.as_object_mut().into_iter().flat_map(|stages| stages.values_mut()) {
                *options = merged(options.take(), value);
            }
            example
        }
    };
    let mut file = base();
    let map = map_of(stage);
    if matches!(stage.kind, Kind::Source | Kind::Format | Kind::Transform) {
        // The file's own detector wants the columns of the simulator, not those of the example.
        let id = stages.as_object().and_then(|stages| stages.keys().next()).cloned();
        file = json!({ "name": "iot", "key": ["sensor_id"], "sources": documents(),
            "sinks": { "none": { "type": "discard", "inputs": [id] } } });
        file[map] = stages;
        return file;
    }
    file[&map] = merged(file[&map].take(), &stages);
    file
}
