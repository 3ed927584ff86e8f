//! A pipeline as it is stored with its state: merged, variables and secrets as references, without its libraries: it is
//! read with the stages of the plan that is current then.

use std::collections::BTreeMap;

use pipeline_stage::Registry;
use serde_json::Value;

use super::draft::kind_of;
use super::secrets::{has_password, is_reference, is_secret};
use crate::file::{PipelineFile, Pointer};

/// The definition as JSON (which is YAML), and the secrets that the file holds itself, by their places.
pub(super) fn write(file: &PipelineFile, registry: &Registry) -> (String, BTreeMap<String, String>) {
    let mut secrets = BTreeMap::new();
    let mut value = referring(
        file.unresolved(),
        &Pointer::default(),
        &|pointer| is_secret_at(file, registry, pointer),
        &mut secrets,
    );
    if let Some(parts) = value.as_object_mut() {
        parts.shift_remove("plugins");
    }
    // Texts that hold variables beside the secret are kept as they came out.
    for (pointer, secret) in &mut secrets {
        if let Some(text) = file.value().pointer(pointer).and_then(Value::as_str) {
            *secret = text.to_owned();
        }
    }
    (serde_json::to_string_pretty(&value).unwrap_or_default(), secrets)
}

fn is_secret_at(file: &PipelineFile, registry: &Registry, pointer: &Pointer) -> bool {
    let parts: Vec<&str> = pointer.parts().collect();
    let [map, id, option, ..] = parts.as_slice() else { return false };
    let type_name = file.value().pointer(&format!("/{map}/{id}/type")).and_then(Value::as_str);
    let stage_type = kind_of(map).and_then(|kind| registry.find(kind, type_name?));
    stage_type.is_some_and(|stage_type| is_secret(stage_type.schema.as_value(), option))
}

fn referring(
    value: &Value,
    at: &Pointer,
    is_secret: &dyn Fn(&Pointer) -> bool,
    secrets: &mut BTreeMap<String, String>,
) -> Value {
    match value {
        Value::Object(map) => {
            let entries =
                map.iter().map(|(key, value)| (key.clone(), referring(value, &at.join(key), is_secret, secrets)));
            Value::Object(entries.collect())
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(i, item)| referring(item, &at.join(i), is_secret, secrets)).collect()
        }
        Value::String(text) if (is_secret(at) || has_password(text)) && !is_reference(text) => {
            secrets.insert(at.to_string(), text.clone());
            format!("${{secret:{at}}}").into()
        }
        other => other.clone(),
    }
}
