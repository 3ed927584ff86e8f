//! Variables in schemas: `${PORT}` may stand where a number is wanted.

use serde_json::{Map, Value, json};

/// A text that is nothing but one variable.
pub(super) const ONLY: &str = r"^\$\{[^}]+\}$";
/// A text that holds a variable.
const SOMEWHERE: &str = r"\$\{[^}]+\}";

/// Says of every value that is not free text that it may also be a variable.
pub(super) fn allow(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(allow),
            ("items" | "additionalProperties", value) => allow(value),
            ("anyOf" | "oneOf" | "allOf", Value::Array(parts)) => parts.iter_mut().for_each(allow_inside),
            _ => {}
        }
    }
    if let Some(pattern) = pattern_of(map) {
        wrap(map, pattern);
    }
}

/// One of several alternatives: the alternative of a variable is added around them all.
fn allow_inside(part: &mut Value) {
    let Value::Object(map) = part else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(named)) => named.values_mut().for_each(allow),
            ("items" | "additionalProperties", value) => allow(value),
            _ => {}
        }
    }
}

fn pattern_of(schema: &Map<String, Value>) -> Option<&'static str> {
    let has = |name: &str| schema.contains_key(name);
    if has("$ref") || has("const") {
        return None;
    }
    if has("enum") || has("oneOf") || has("anyOf") {
        return Some(ONLY);
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    match types.iter().find(|name| **name != "null") {
        Some(&("integer" | "number" | "boolean")) => Some(ONLY),
        Some(&"string") if has("pattern") => Some(SOMEWHERE),
        _ => None,
    }
}

/// `{ …, anyOf: [what it was, a variable] }`, with the words about it outside, where editors look for them.
fn wrap(schema: &mut Map<String, Value>, pattern: &str) {
    let mut inner = std::mem::take(schema);
    for name in ["description", "default", "title", "examples"] {
        if let Some(value) = inner.remove(name) {
            schema.insert(name.into(), value);
        }
    }
    schema.insert("anyOf".into(), json!([inner, { "type": "string", "pattern": pattern }]));
}
