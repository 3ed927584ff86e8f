//! What a stage says about itself must be there, and true.

use pipeline_stage::{
    ErrorKind, FormatContext, Framing, Kind, Make, Result, Role, SavedState, SinkContext, SourceContext, StageError,
    StageType, Zone,
};
use serde_json::{Map, Value, json};

use crate::broken::{guarded, says_why};
use crate::columns::{documents, example_columns};
use crate::readings::{reading_schema, scored_schema, stage_context};

/// The variables without a default that examples may use, with what they stand for in tests.
pub const EXAMPLE_VARIABLES: [(&str, &str); 4] = [
    ("DATABASE_URL", "postgres://iot:secret@localhost:5432/iot"),
    ("KAFKA_BROKERS", "localhost:9092"),
    ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T000/B000/XXXX"),
    ("WEBHOOK_URL", "https://example.com/alerts"),
];

/// What the engine reads of a stage itself, before the stage gets the rest.
const ENGINE_OPTIONS: [&str; 7] = ["type", "inputs", "when", "format", "schema", "tasks", "partitioned_by"];

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What is so when nothing is wrong, in words.
    pub what: String,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// [`problems`] for tests.
///
/// # Panics
/// When there is one.
pub fn checks_out(stage: &StageType) {
    let problems = problems(stage);
    assert!(problems.is_empty(), "{} {}: {}", stage.kind.name(), stage.name, problems.join("\n"));
}

/// Everything that is wrong with what a stage says about itself; see [`checked`].
pub fn problems(stage: &StageType) -> Vec<String> {
    checked(stage).into_iter().flat_map(|checked| checked.problems).collect()
}

/// Checks what a stage says about itself: a name in lower case, a summary, a sentence for every option, a schema that
/// is strict, and an example that can be built as it stands. The example of a format is a source that uses it.
pub fn checked(stage: &StageType) -> Vec<Checked> {
    let schema = stage.schema.as_value();
    let n_options = schema.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    let mut checks = vec![
        Checked { what: "has a name and a summary".into(), problems: name_and_summary(stage) },
        Checked {
            what: format!("has a strict schema of {n_options} options, each with a description"),
            problems: {
                let mut problems = strictness(schema);
                descriptions(schema, &mut problems);
                limits(schema, &mut problems);
                problems
            },
        },
    ];
    let options = match example_options(stage) {
        Ok(options) => options,
        Err(problem) => {
            checks.push(Checked { what: String::new(), problems: vec![problem] });
            return checks;
        }
    };
    let unknown = options.keys().filter(|option| schema["properties"].get(option).is_none());
    let mut problems: Vec<String> =
        unknown.map(|option| format!("the example has `{option}`, which the schema does not know")).collect();
    problems.extend(
        build(stage, Value::Object(options.clone())).err().map(|error| format!("the example cannot be built: {error}")),
    );
    checks.push(Checked { what: "has an example, which can be built on the standard columns".into(), problems });
    checks.push(Checked {
        what: "refuses an unknown option by its name".into(),
        problems: unknown_option(stage, options),
    });
    checks
}

fn name_and_summary(stage: &StageType) -> Vec<String> {
    let mut problems = Vec::new();
    let is_plain = stage.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_plain || stage.name.is_empty() {
        problems.push(format!("it is called `{}`, a name is made of a–z, 0–9 and _", stage.name));
    }
    let summary = stage.summary();
    if !summary.trim_end().ends_with('.') || !summary.trim().contains(' ') {
        problems.push(format!("its summary, the `description` of the schema, is `{summary}`, it must be a sentence"));
    }
    problems
}

fn strictness(schema: &Value) -> Vec<String> {
    let is_strict = schema.get("additionalProperties") == Some(&json!(false));
    let wrong = "unknown options must be refused: the schema has to say `additionalProperties: false`";
    if is_strict { Vec::new() } else { vec![wrong.into()] }
}

fn descriptions(schema: &Value, problems: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            let properties = object.get("properties").and_then(Value::as_object).into_iter().flatten();
            for (option, about) in properties {
                // A constant is the tag of a variant; the variant has the words.
                let is_tag = about.get("const").is_some();
                let words = about.get("description").and_then(Value::as_str).unwrap_or_default();
                if !is_tag && words.trim().is_empty() {
                    problems.push(format!("option `{option}` has no description"));
                }
            }
            object.values().for_each(|value| descriptions(value, problems));
        }
        Value::Array(items) => items.iter().for_each(|item| descriptions(item, problems)),
        _ => {}
    }
}

/// The types that JSON Schema has.
const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "object", "array", "null"];

/// What a schema says about its options must be possible: an editor would complete what is refused.
fn limits(schema: &Value, problems: &mut Vec<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (option, about) in properties.into_iter().flatten() {
        let types: Vec<&str> = match about.get("type") {
            Some(Value::Array(names)) => names.iter().map(|name| name.as_str().unwrap_or_default()).collect(),
            Some(name) => vec![name.as_str().unwrap_or_default()],
            None => Vec::new(),
        };
        for name in types.iter().filter(|name| !TYPES.contains(name)) {
            problems.push(format!("option `{option}` is of type `{name}`, there is {}", TYPES.join(", ")));
        }
        let limit = |name: &str| about.get(name).and_then(Value::as_f64);
        let (least, greatest) = (limit("minimum"), limit("maximum"));
        if let (Some(least), Some(greatest)) = (least, greatest)
            && greatest < least
        {
            problems.push(format!("option `{option}` has the minimum {least} and the maximum {greatest}"));
        }
        let default = limit("default");
        let is_outside = default.is_some_and(|default| {
            least.is_some_and(|least| default < least) || greatest.is_some_and(|greatest| greatest < default)
        });
        if is_outside {
            problems.push(format!("option `{option}` has the default {}, which its limits exclude", about["default"]));
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for option in required.filter(|option| schema["properties"].get(option).is_none()) {
        problems.push(format!("option `{option}` is required, but there is no such option"));
    }
}

/// The stage's own options in its example.
///
/// # Errors
/// In words, when there is no such stage in it.
pub fn example_options(stage: &StageType) -> Result<Map<String, Value>, String> {
    let mut example =
        read_yaml(&stage.example).map_err(|error| format!("the example is not YAML: {error}\n{}", stage.example))?;
    fill_variables(&mut example)?;
    let stages = example.as_object().filter(|stages| stages.len() == 1);
    let Some((_, Value::Object(outer))) = stages.and_then(|stages| stages.iter().next()) else {
        return Err(format!("the example must be one stage under its id:\n{}", stage.example));
    };
    let mut options = match (stage.kind, outer.get("format")) {
        (Kind::Format, Some(Value::Object(format))) => format.clone(),
        (Kind::Format, Some(Value::String(format))) => Map::from_iter([("type".into(), json!(format))]),
        (Kind::Format, _) => return Err(format!("the example must be a source with a `format`:\n{}", stage.example)),
        _ => outer.clone(),
    };
    match options.get("type") {
        Some(Value::String(name)) if *name == stage.name => {}
        Some(other) => return Err(format!("`type` in the example is {other}, it must be `{}`", stage.name)),
        None => return Err(format!("`type` in the example is missing, it must be `{}`", stage.name)),
    }
    options.retain(|option, _| !ENGINE_OPTIONS.contains(&option.as_str()));
    Ok(options)
}

/// The stage's own options in a file: a stage under its id, or nothing but the options.
///
/// # Errors
/// In words, when they cannot be read or are those of another stage.
pub fn options_in(stage: &StageType, text: &str) -> Result<Map<String, Value>, String> {
    let mut read = read_yaml(text).map_err(|error| format!("the options are not YAML: {error}"))?;
    fill_variables(&mut read)?;
    let inner = read.as_object().filter(|stages| stages.len() == 1).and_then(|stages| stages.values().next());
    let is_stage = |value: &&Value| value.get("type").is_some();
    let Some(Value::Object(options)) = inner.filter(is_stage).or(Some(&read)) else {
        return Err("the options must be a map".into());
    };
    match options.get("type") {
        Some(found) if *found != json!(stage.name) => {
            return Err(format!("the options are of {found}, they must be of `{}`", stage.name));
        }
        _ => {}
    }
    let own = options.iter().filter(|(option, _)| !ENGINE_OPTIONS.contains(&option.as_str()));
    Ok(own.map(|(option, value)| (option.clone(), value.clone())).collect())
}

pub(crate) fn read_yaml(text: &str) -> Result<Value, serde_yaml::Error> {
    serde_yaml::from_str(text)
}

/// Replaces `${NAME:-default}` and `${NAME}` in texts, as the engine does.
fn fill_variables(value: &mut Value) -> Result<(), String> {
    match value {
        Value::String(text) => {
            while let Some(start) = text.find("${") {
                let Some(length) = text[start..].find('}') else { return Err(format!("`{text}` has no `}}`")) };
                let inside = &text[start + 2..start + length];
                let filled = match inside.split_once(":-") {
                    Some((_, default)) => default.to_owned(),
                    None => variable(inside)?,
                };
                text.replace_range(start..=start + length, &filled);
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(fill_variables),
        Value::Object(object) => object.values_mut().try_for_each(fill_variables),
        _ => Ok(()),
    }
}

fn variable(name: &str) -> Result<String, String> {
    let known = EXAMPLE_VARIABLES.iter().find(|(variable, _)| *variable == name);
    let of_process = || std::env::var(name).ok();
    known
        .map(|(_, value)| (*value).to_owned())
        .or_else(of_process)
        .ok_or_else(|| format!("the example uses `{name}`, which has no default: write `${{{name}:-…}}`"))
}

fn unknown_option(stage: &StageType, mut options: Map<String, Value>) -> Vec<String> {
    options.insert("no_such_option".into(), json!(1));
    let make = || make(stage, Value::Object(options.clone()));
    let error = match guarded(make) {
        Err(broken) => return vec![format!("with an unknown option {broken}")],
        Ok(Ok(())) => return vec!["an unknown option was taken".into()],
        Ok(Err(error)) => error,
    };
    let mut problems = Vec::new();
    if error.kind() != ErrorKind::Config {
        problems.push(format!("an unknown option is an error of kind {:?}, it must be `Config`", error.kind()));
    }
    if !error.chain().contains("no_such_option") {
        problems.push(format!("the error does not name the unknown option: {}", error.chain()));
    }
    problems
}

/// Builds a stage; what is wrong in words.
fn build(stage: &StageType, options: Value) -> Result<(), String> {
    match guarded(|| make(stage, options)) {
        Err(broken) => Err(broken.to_string()),
        Ok(Err(error)) => Err(says_why(&error).err().map_or_else(|| error.chain(), |broken| broken.to_string())),
        Ok(Ok(())) => Ok(()),
    }
}

/// Builds a stage as the engine would, on the columns that examples may count on.
fn make(stage: &StageType, options: Value) -> Result<(), StageError> {
    let context = stage_context();
    match &stage.make {
        Make::Source(make) => {
            make(options, SourceContext { stage: context, framing: Some(Framing::Lines), role: Role::Leader }).map(drop)
        }
        Make::Transform(make) => {
            let on = |columns| make(options.clone(), &context, &[columns], SavedState::default()).map(drop);
            match (on(reading_schema()), stage.kind) {
                (Err(error), Kind::Transform) => on(documents()).map_err(|_| error),
                (built, _) => built,
            }
        }
        Make::Sink(make) => {
            make(options, SinkContext { stage: context, schema: scored_schema(), detector: None }).map(drop)
        }
        Make::Format(make) => {
            make(options, FormatContext { columns: example_columns(stage), zone: Zone::Utc }).map(drop)
        }
    }
}
