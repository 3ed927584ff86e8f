//! What a stage says about itself must be there, and true.

use std::sync::Arc;

use pipeline_stage::{
    Column, ColumnFrom, ColumnType, ErrorKind, FormatContext, Framing, Kind, Make, Result, Role, SavedState,
    SinkContext, SourceContext, StageError, StageType, Zone,
};
use serde_json::{Map, Value, json};

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

/// Checks what a stage says about itself: a name in lower case, a summary, a sentence for every option, a schema that
/// is strict, and an example that can be built as it stands. The example of a format is a source that uses it.
///
/// # Panics
/// With what is missing.
pub fn checks_out(stage: &StageType) {
    let name = format!("{} {}", stage.kind.name(), stage.name);
    let is_plain = stage.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    assert!(is_plain && !stage.name.is_empty(), "{name}: a name is made of a–z, 0–9 and _");
    assert!(stage.summary().ends_with('.'), "{name}: the summary `{}` is not a sentence", stage.summary());
    assert_eq!(
        stage.schema.get("additionalProperties"),
        Some(&json!(false)),
        "{name}: unknown options must be refused"
    );
    let schema = serde_json::to_value(&stage.schema).expect("a schema is JSON");
    every_option_is_described(&name, &schema);
    let options = example_options(stage);
    if let Err(error) = build(stage, Value::Object(options.clone())) {
        panic!("{name}: the example cannot be built: {}", error.chain());
    }
    every_option_of_the_example_is_in_the_schema(&name, &options, &schema);
    refuses_an_unknown_option(&name, stage, options);
}

fn every_option_is_described(name: &str, schema: &Value) {
    match schema {
        Value::Object(object) => {
            let properties = object.get("properties").and_then(Value::as_object).into_iter().flatten();
            for (option, about) in properties {
                // A constant is the tag of a variant; the variant has the words.
                let is_tag = about.get("const").is_some();
                let words = about.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(is_tag || !words.trim().is_empty(), "{name}: option `{option}` has no description");
            }
            object.values().for_each(|value| every_option_is_described(name, value));
        }
        Value::Array(items) => items.iter().for_each(|item| every_option_is_described(name, item)),
        _ => {}
    }
}

/// The stage's own options in its example.
fn example_options(stage: &StageType) -> Map<String, Value> {
    let name = format!("{} {}", stage.kind.name(), stage.name);
    let mut example: Value = serde_yaml::from_str(&stage.example)
        .unwrap_or_else(|error| panic!("{name}: the example is not YAML: {error}\n{}", stage.example));
    fill_variables(&name, &mut example);
    let Some((_, Value::Object(outer))) =
        example.as_object().filter(|stages| stages.len() == 1).and_then(|s| s.iter().next())
    else {
        panic!("{name}: the example must be one stage under its id:\n{}", stage.example);
    };
    let mut options = match (stage.kind, outer.get("format")) {
        (Kind::Format, Some(Value::Object(format))) => format.clone(),
        (Kind::Format, Some(Value::String(format))) => Map::from_iter([("type".into(), json!(format))]),
        (Kind::Format, _) => panic!("{name}: the example must be a source with a `format`:\n{}", stage.example),
        _ => outer.clone(),
    };
    assert_eq!(options.get("type"), Some(&json!(stage.name)), "{name}: `type` in the example");
    options.retain(|option, _| !ENGINE_OPTIONS.contains(&option.as_str()));
    options
}

/// Replaces `${NAME:-default}` and `${NAME}` in texts, as the engine does.
fn fill_variables(name: &str, value: &mut Value) {
    match value {
        Value::String(text) => {
            while let Some(start) = text.find("${") {
                let length = text[start..].find('}').unwrap_or_else(|| panic!("{name}: `{text}` has no `}}`"));
                let inside = &text[start + 2..start + length];
                let filled = match inside.split_once(":-") {
                    Some((_, default)) => default.to_owned(),
                    None => EXAMPLE_VARIABLES
                        .iter()
                        .find(|(variable, _)| *variable == inside)
                        .unwrap_or_else(|| panic!("{name}: the example uses `{inside}`, which has no default"))
                        .1
                        .to_owned(),
                };
                text.replace_range(start..=start + length, &filled);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_variables(name, item)),
        Value::Object(object) => object.values_mut().for_each(|value| fill_variables(name, value)),
        _ => {}
    }
}

fn every_option_of_the_example_is_in_the_schema(name: &str, options: &Map<String, Value>, schema: &Value) {
    for option in options.keys() {
        assert!(schema["properties"].get(option).is_some(), "{name}: the schema does not know `{option}`");
    }
}

fn refuses_an_unknown_option(name: &str, stage: &StageType, mut options: Map<String, Value>) {
    options.insert("no_such_option".into(), json!(1));
    let Err(error) = build(stage, Value::Object(options)) else { panic!("{name}: an unknown option was taken") };
    assert_eq!(error.kind(), ErrorKind::Config, "{name}: an unknown option is an error of kind `Config`");
    assert!(error.chain().contains("no_such_option"), "{name}: the error does not name the option: {}", error.chain());
}

/// Builds a stage as the engine would, on the columns that examples may count on.
fn build(stage: &StageType, options: Value) -> Result<(), StageError> {
    let context = stage_context();
    match &stage.make {
        Make::Source(make) => {
            make(options, SourceContext { stage: context, framing: Some(Framing::Lines), role: Role::Leader }).map(drop)
        }
        Make::Transform(make) => make(options, &context, &[reading_schema()], SavedState::default()).map(drop),
        Make::Sink(make) => make(options, SinkContext { stage: context, schema: scored_schema() }).map(drop),
        Make::Format(make) => make(options, FormatContext { columns: columns(), zone: Zone::Utc }).map(drop),
    }
}

fn columns() -> Vec<Column> {
    let schema = Arc::clone(&reading_schema());
    let column = |field: &Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        column_type: ColumnType::of(field.data_type()).expect("readings have types that columns may have"),
        nullable: field.is_nullable(),
        from: ColumnFrom::Field(vec![field.name().clone()]),
    };
    schema.fields().iter().map(column).collect()
}
