//! The schema of stages in profiles: any part of a stage, and null to remove it.

use pipeline_stage::{Kind, Registry};
use serde_json::{Map, Value, json};

use super::full_name;
use super::stage::{choice, options, types};

/// Defines what a profile may say of stages of a kind.
pub(super) fn define(kind: Kind, registry: &Registry, definitions: &mut Map<String, Value>) {
    let mut with_type = Vec::new();
    let mut without_type = Vec::new();
    for stage_type in registry.of_kind(kind) {
        let mut schema = options(stage_type, definitions);
        if let Some(schema) = schema.as_object_mut() {
            // What is missing stands in the file itself.
            schema.remove("required");
        }
        nullable(&mut schema["properties"]);
        let name = format!("{}.overlay", full_name(stage_type));
        definitions.insert(name.clone(), schema);
        with_type.push(choice(stage_type, &name));
        without_type.push(json!({ "$ref": format!("#/$defs/{name}") }));
    }
    let mut schema = json!({ "type": ["object", "null"], "properties": { "type": types(kind, registry) } });
    if !with_type.is_empty() {
        schema["if"] = json!({ "type": "object", "required": ["type"] });
        schema["then"] = json!({ "allOf": with_type });
        // Without a type it is that of the file: the options must be those of one type at least.
        schema["else"] = json!({ "anyOf": [{ "type": "null" }, { "type": "object", "anyOf": without_type }] });
    }
    definitions.insert(format!("{}.overlay", kind.name()), schema);
}

/// Lets every option be null, which takes the file's value away.
pub(super) fn nullable(properties: &mut Value) {
    let Value::Object(properties) = properties else { return };
    for (name, schema) in properties.iter_mut().filter(|(name, _)| name.as_str() != "type") {
        let description = schema.get("description").cloned().unwrap_or_else(|| name.as_str().into());
        *schema = json!({ "description": description, "anyOf": [schema.take(), { "type": "null" }] });
    }
}
