//! The schema of one stage: its own options and the engine's.

use pipeline_stage::{Kind, Registry, StageType};
use serde_json::{Map, Value, json};

use super::{DIALECT, full_name, variables};
use crate::plan::engine_schema;

/// The schema of a stage type, complete in itself and strict.
pub fn stage(stage_type: &StageType, registry: &Registry) -> Value {
    let mut definitions = Map::new();
    let mut schema = options(stage_type, &mut definitions);
    if stage_type.kind == Kind::Source {
        formats(registry, &mut definitions);
    }
    schema["$schema"] = DIALECT.into();
    schema["title"] = full_name(stage_type).into();
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    schema
}

/// Defines a kind of stage, and each of its types.
pub(super) fn define(kind: Kind, registry: &Registry, definitions: &mut Map<String, Value>) {
    if kind == Kind::Source {
        formats(registry, definitions);
    }
    let mut choices = Vec::new();
    for stage_type in registry.of_kind(kind) {
        let schema = options(stage_type, definitions);
        definitions.insert(full_name(stage_type), schema);
        choices.push(choice(stage_type, &full_name(stage_type)));
    }
    let mut schema = json!({
        "type": "object",
        "required": ["type"],
        "properties": { "type": types(kind, registry) },
    });
    if !choices.is_empty() {
        schema["allOf"] = Value::Array(choices);
    }
    definitions.insert(kind.name().into(), schema);
}

/// The rule that a stage of this type has the options of that definition.
pub(super) fn choice(stage_type: &StageType, definition: &str) -> Value {
    json!({
        "if": { "required": ["type"], "properties": { "type": { "const": stage_type.name } } },
        "then": { "$ref": format!("#/$defs/{definition}") },
    })
}

/// `type:`, each name with its summary for editors to show.
pub(super) fn types(kind: Kind, registry: &Registry) -> Value {
    let names: Vec<Value> = registry
        .of_kind(kind)
        .map(|stage_type| json!({ "const": stage_type.name, "description": stage_type.summary() }))
        .collect();
    match names.is_empty() {
        // Nothing is right.
        true => json!({ "not": {}, "description": format!("There are no {}s.", kind.name()) }),
        false => json!({ "description": format!("What kind of {} it is.", kind.name()), "oneOf": names }),
    }
}

/// All options that a stage of this type may have; what they refer to goes into the definitions under its name.
pub(super) fn options(stage_type: &StageType, definitions: &mut Map<String, Value>) -> Value {
    let mut own = stage_type.schema.as_value().clone();
    variables::allow(&mut own);
    let mut properties = Map::new();
    properties.insert("type".into(), json!({ "const": stage_type.name, "description": stage_type.summary() }));
    let mut required = vec![Value::from("type")];
    if stage_type.kind != Kind::Format {
        let mut engine = engine_schema(stage_type.kind);
        variables::allow(&mut engine);
        move_definitions(&mut engine, "engine", definitions);
        if stage_type.kind == Kind::Source {
            engine["properties"]["format"] = format_property(&engine["properties"]["format"]);
        } else {
            required.push("inputs".into());
        }
        properties.extend(engine["properties"].as_object().cloned().unwrap_or_default());
    }
    move_definitions(&mut own, &full_name(stage_type), definitions);
    properties.extend(own["properties"].as_object().cloned().unwrap_or_default());
    required.extend(own["required"].as_array().cloned().unwrap_or_default());
    json!({
        "description": stage_type.documentation(),
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

/// Moves `$defs` of a schema to those of the whole, under names of its own.
fn move_definitions(schema: &mut Value, prefix: &str, definitions: &mut Map<String, Value>) {
    rename_references(schema, prefix);
    let Some(Value::Object(own)) = schema.as_object_mut().and_then(|schema| schema.remove("$defs")) else { return };
    for (name, definition) in own {
        definitions.insert(format!("{prefix}.{name}"), definition);
    }
}

fn rename_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(name) if key == "$ref" => *value = format!("#/$defs/{prefix}.{name}").into(),
                    _ => rename_references(value, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, prefix)),
        _ => {}
    }
}

/// Defines `format`: a name, or a map with its options.
fn formats(registry: &Registry, definitions: &mut Map<String, Value>) {
    let mut choices = Vec::new();
    for format in registry.of_kind(Kind::Format) {
        let schema = options(format, definitions);
        definitions.insert(full_name(format), schema);
        choices.push(choice(format, &full_name(format)));
    }
    let names = types(Kind::Format, registry);
    let mut options = json!({ "required": ["type"], "properties": { "type": names } });
    if !choices.is_empty() {
        options["allOf"] = Value::Array(choices);
    }
    let schema = json!({
        "if": { "type": "object" },
        "then": options,
        "else": { "anyOf": [names, { "type": "string", "pattern": variables::ONLY }] },
    });
    definitions.insert("format".into(), schema);
}

fn format_property(property: &Value) -> Value {
    json!({ "description": property["description"], "$ref": "#/$defs/format" })
}
