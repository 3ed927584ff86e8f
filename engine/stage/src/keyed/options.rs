//! The options that all detectors share.

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::options::Span;

/// What every detector can be told, whatever its method.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyedOptions {
    /// The column that holds the reading, a float or an integer. Rows in which it is null are passed on without a score.
    pub value: String,
    /// The column that holds the reading's event time; needed for `expire_after`.
    #[serde(default)]
    pub time: Option<String>,
    /// The columns that make a series. Default: the pipeline's `key`.
    #[serde(default)]
    pub key: Option<Vec<String>>,
    /// How many series are remembered in each task; beyond it those that were read longest ago are forgotten.
    #[serde(default = "default_max_series")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_series: u32,
    /// A series that had no reading for this long, in event time, starts anew. Default: never.
    #[serde(default)]
    pub expire_after: Option<Span>,
    /// Text before the names of the columns that the detector adds, for a second detector on the same rows.
    #[serde(default)]
    pub prefix: String,
}

/// At the z-score's 305 bytes a series this is 305 MB: room for any plant, and no surprise for a small machine.
fn default_max_series() -> u32 {
    1_000_000
}

/// The names of the fields above.
const NAMES: [&str; 6] = ["value", "time", "key", "max_series", "expire_after", "prefix"];

impl KeyedOptions {
    /// Parts the options of a detector stage into the shared ones and its own.
    pub fn split(options: Value) -> (Value, Value) {
        let Value::Object(options) = options else { return (Value::Object(Map::new()), options) };
        let (shared, own): (Map<_, _>, Map<_, _>) =
            options.into_iter().partition(|(name, _)| NAMES.contains(&name.as_str()));
        (Value::Object(shared), Value::Object(own))
    }

    /// Adds the shared options to the schema of a detector's own, in front.
    pub fn extend(schema: &mut Schema) {
        let shared = schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Self>();
        let object = schema.ensure_object();
        for part in ["properties", "$defs"] {
            let mut merged = shared.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
            merged.extend(object.get(part).and_then(Value::as_object).cloned().unwrap_or_default());
            if !merged.is_empty() {
                object.insert(part.into(), Value::Object(merged));
            }
        }
        let mut required = shared.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        required.extend(object.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
        object.insert("required".into(), Value::Array(required));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_fields() {
        let schema = schemars::schema_for!(KeyedOptions);
        let fields: Vec<_> = schema.get("properties").unwrap().as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, NAMES);
    }
}
