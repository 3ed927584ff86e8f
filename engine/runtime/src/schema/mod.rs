//! The JSON Schema of pipeline files and the pages about stages, made of the stages' own options.
//!
//! Everything here is a function of the registry and gives the same text every time: a test proves the files in the
//! repository fresh.

mod overlay;
mod page;
mod stage;
mod variables;

#[cfg(test)]
mod tests;

use pipeline_stage::{Kind, Registry};
use serde_json::{Map, Value, json};

use crate::plan::{PipelineOptions, schema_of};

pub use page::{explanation, markdown};
pub use stage::stage;

/// The dialect of all schemas.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What the id of a stage may be; one underscore between words, two part the names in environment variables.
const ID_PATTERN: &str = "^[a-z][a-z0-9]*(_[a-z0-9]+)*$";

/// The maps of a file with the kind they hold and what is said about them.
const MAPS: [(&str, Kind, &str); 4] = [
    ("sources", Kind::Source, "Where rows come from: a map from ids to sources."),
    ("transforms", Kind::Transform, "What turns rows into rows: a map from ids to transforms."),
    ("detectors", Kind::Detector, "What scores rows: a map from ids to detectors."),
    ("sinks", Kind::Sink, "Where rows go: a map from ids to sinks."),
];

/// All schemas with their paths below `schemas/`: that of pipeline files and one for each stage.
pub fn schemas(registry: &Registry) -> Vec<(String, String)> {
    let mut files = vec![("pipeline.schema.json".to_owned(), pipeline(registry))];
    for stage_type in registry.all() {
        let path = format!("stages/{}.{}.schema.json", stage_type.kind.name(), stage_type.name);
        files.push((path, written(&stage(stage_type, registry))));
    }
    files
}

/// A page in Markdown for each stage, with its path below `docs/stages/`.
pub fn pages(registry: &Registry) -> Vec<(String, String)> {
    let page = |stage_type| (format!("{}.md", full_name(stage_type)), markdown(stage_type));
    let mut files: Vec<(String, String)> = registry.all().map(page).collect();
    files.push(("README.md".into(), page::contents(registry)));
    files
}

/// The JSON Schema of pipeline files.
pub fn pipeline(registry: &Registry) -> String {
    written(&pipeline_schema(registry))
}

fn full_name(stage_type: &pipeline_stage::StageType) -> String {
    format!("{}.{}", stage_type.kind.name(), stage_type.name)
}

fn written(schema: &Value) -> String {
    // A JSON value of maps with text keys can always be written.
    let mut text = serde_json::to_string_pretty(schema).unwrap_or_default();
    text.push('\n');
    text
}

fn pipeline_schema(registry: &Registry) -> Value {
    let mut settings = schema_of::<PipelineOptions>();
    variables::allow(&mut settings);
    let mut properties = settings["properties"].take();
    let mut definitions = Map::new();
    let mut overlay_properties = properties.clone();
    overlay::nullable(&mut overlay_properties);
    for (map, kind, description) in MAPS {
        stage::define(kind, registry, &mut definitions);
        let reference = json!({ "$ref": format!("#/$defs/{}", kind.name()) });
        properties[map] = stage_map(description, reference);
        overlay::define(kind, registry, &mut definitions);
        overlay_properties[map] = stage_map(description, json!({ "$ref": format!("#/$defs/{}.overlay", kind.name()) }));
    }
    properties["profiles"] = json!({
        "description": "What differs from place to place: a map from names to what `--profile NAME` lays over the file. Stages are changed by their ids; another `type` drops the options of the old one, `id: ~` removes a stage.",
        "type": "object",
        "additionalProperties": { "$ref": "#/$defs/profile" },
    });
    definitions.insert(
        "profile".into(),
        json!({
            "type": ["object", "null"], "additionalProperties": false, "properties": overlay_properties,
        }),
    );
    definitions.extend(settings["$defs"].as_object().cloned().unwrap_or_default());
    json!({
        "$schema": DIALECT,
        "title": "pipeline",
        "description": "A streaming pipeline: sources → transforms → detectors → sinks.",
        "type": "object",
        "required": ["name", "sources", "sinks"],
        "additionalProperties": false,
        "properties": properties,
        "$defs": definitions,
    })
}

fn stage_map(description: &str, of: Value) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "propertyNames": { "pattern": ID_PATTERN, "maxLength": 63 },
        "additionalProperties": of,
    })
}
