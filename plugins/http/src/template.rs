//! The option `template`: the body of a request as it stands in the pipeline file, with `{{ … }}` in its texts.
//!
//! The structure is YAML (or JSON) and each text in it is a minijinja template of its own, so that a value from a
//! sensor can never change the structure.

use arrow::datatypes::Schema;
use chrono::DateTime;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use pipeline_stage::{Alert, ColumnType, Result, StageError};
use serde::Serialize;
use serde_json::{Map, Value};

/// What templates may name.
const NAMES: [&str; 5] = ["id", "pipeline", "sink", "row", "digest_of"];

/// What the rendered texts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Texts of Slack: `&`, `<` and `>` of values are escaped, and a text stays a text.
    Slack,
    /// JSON: nothing is escaped, and a text that is one `{{ … }}` becomes the value itself, a number for a number.
    Json,
}

/// What every rendering is told beside the alert.
#[derive(Debug, Clone)]
pub struct Names {
    /// The pipeline's name.
    pub pipeline: String,
    /// The sink's id.
    pub sink: String,
}

/// A compiled template.
pub struct Template {
    environment: Environment<'static>,
    root: Part,
    names: Names,
}

/// A part of the structure.
enum Part {
    Literal(Value),
    /// The name of a template in the environment.
    Text(String),
    /// The source of an expression, which is compiled when it is needed: it borrows the environment.
    Expression(String),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

/// What a template sees.
#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    pipeline: &'a str,
    sink: &'a str,
    row: &'a Map<String, Value>,
    digest_of: Option<u64>,
}

impl Template {
    /// Compiles a template and checks the names in it against the columns.
    ///
    /// # Errors
    /// Of kind `Config`, at the path of the text inside the option, with the line in that text.
    pub fn new(template: &Value, dialect: Dialect, schema: &Schema, names: Names) -> Result<Self> {
        let mut compiler = Compiler { environment: environment(dialect), dialect, schema };
        let root = compiler.compile(template, "template")?;
        let template = Template { environment: compiler.environment, root, names };
        template.try_out(schema)?;
        Ok(template)
    }

    /// The body for an alert.
    ///
    /// # Errors
    /// Of kind `Data`, when the values of this row do not fit (a filter for numbers on a text).
    pub fn render(&self, alert: &Alert) -> Result<Value> {
        self.value(alert).map_err(|(text, error)| StageError::data(in_words(&text, &error)))
    }

    /// Renders once with made-up values, to find misspelt filters and functions, which minijinja only looks up then.
    /// Other errors may come from the values.
    fn try_out(&self, schema: &Schema) -> Result<()> {
        let row = schema.fields().iter().map(|field| (field.name().clone(), sample(ColumnType::of(field.data_type()))));
        let alert = Alert { id: "0000-0000-0000-0000".into(), row: row.collect(), digest_of: None };
        match self.value(&alert) {
            Err((text, error)) if is_misspelt(&error) => {
                Err(StageError::config(in_words(&text, &error)).at_option(text))
            }
            _ => Ok(()),
        }
    }

    fn value(&self, alert: &Alert) -> std::result::Result<Value, (String, Error)> {
        let Names { pipeline, sink } = &self.names;
        let view = View { id: &alert.id, pipeline, sink, row: &alert.row, digest_of: alert.digest_of };
        self.render_part(&self.root, &Serde(view).into())
    }

    fn render_part(&self, part: &Part, view: &minijinja::Value) -> std::result::Result<Value, (String, Error)> {
        Ok(match part {
            Part::Literal(value) => value.clone(),
            Part::Text(name) => {
                let rendered = self.environment.get_template(name).and_then(|template| template.render(view));
                Value::String(rendered.map_err(|error| (name.clone(), error))?)
            }
            Part::Expression(source) => {
                let value = self.environment.compile_expression(source).and_then(|expression| expression.eval(view));
                let value = value.map_err(|error| (source.clone(), error))?;
                serde_json::to_value(value).unwrap_or(Value::Null)
            }
            Part::List(parts) => {
                Value::Array(parts.iter().map(|part| self.render_part(part, view)).collect::<Result<_, _>>()?)
            }
            Part::Map(parts) => {
                let mut object = Map::new();
                for (key, part) in parts {
                    object.insert(key.clone(), self.render_part(part, view)?);
                }
                Value::Object(object)
            }
        })
    }
}

/// Takes the structure apart.
struct Compiler<'a> {
    environment: Environment<'static>,
    dialect: Dialect,
    schema: &'a Schema,
}

impl Compiler<'_> {
    fn compile(&mut self, value: &Value, path: &str) -> Result<Part> {
        Ok(match value {
            Value::String(text) => self.compile_text(text, path)?,
            Value::Array(values) => {
                let mut parts = Vec::new();
                for (idx, value) in values.iter().enumerate() {
                    parts.push(self.compile(value, &format!("{path}.{idx}"))?);
                }
                Part::List(parts)
            }
            Value::Object(values) => {
                let mut parts = Vec::new();
                for (key, value) in values {
                    parts.push((key.clone(), self.compile(value, &format!("{path}.{key}"))?));
                }
                Part::Map(parts)
            }
            other => Part::Literal(other.clone()),
        })
    }

    fn compile_text(&mut self, text: &str, path: &str) -> Result<Part> {
        let wrong = |error: Error| StageError::config(in_words(path, &error)).at_option(path);
        let expression = match self.dialect {
            Dialect::Json => lone_expression(text),
            Dialect::Slack => None,
        };
        let (part, used) = match expression {
            Some(source) => {
                let expression = self.environment.compile_expression(source).map_err(wrong)?;
                (Part::Expression(source.into()), expression.undeclared_variables(true))
            }
            None => {
                self.environment.add_template_owned(path.to_owned(), text.to_owned()).map_err(wrong)?;
                let template = self.environment.get_template(path).map_err(wrong)?;
                (Part::Text(path.into()), template.undeclared_variables(true))
            }
        };
        let mut used: Vec<String> = used.into_iter().collect();
        used.sort();
        for name in used {
            self.check_name(&name, path)?;
        }
        Ok(part)
    }

    /// `name` is a variable with what follows its dots: `row.sensor_id`.
    fn check_name(&self, name: &str, path: &str) -> Result<()> {
        let mut parts = name.split('.');
        let root = parts.next().unwrap_or_default();
        if !NAMES.contains(&root) {
            if self.environment.globals().any(|(global, _)| global == root) {
                return Ok(());
            }
            let message = format!("`{path}` uses `{root}`; there is {}", NAMES.join(", "));
            return Err(StageError::config(message).at_option(path));
        }
        match (root, parts.next()) {
            ("row", Some(column)) if self.schema.index_of(column).is_err() => {
                let columns: Vec<_> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
                let message = format!("`{path}` uses column `{column}`; there is {}", columns.join(", "));
                Err(StageError::config(message).at_option(path))
            }
            _ => Ok(()),
        }
    }
}

fn environment(dialect: Dialect) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("utc", utc);
    environment.add_filter("tojson", |value: minijinja::Value| {
        serde_json::to_string(&value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
    });
    if dialect == Dialect::Slack {
        environment.set_formatter(|out, _state, value| {
            let text = match value.kind() {
                ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
                ValueKind::None => "–".to_owned(),
                _ => value.to_string(),
            };
            let text = if value.is_safe() { text } else { escape_for_slack(&text) };
            out.write_str(&text).map_err(Error::from)
        });
    }
    environment
}

/// The expression of a text that is one `{{ … }}` and nothing else.
fn lone_expression(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    // The hyphens of `{{-` and `-}}` take away space around them, of which there is none here.
    let inside = inside.strip_prefix('-').unwrap_or(inside);
    let inside = inside.strip_suffix('-').unwrap_or(inside);
    (!inside.contains("{{") && !inside.contains("}}")).then(|| inside.trim())
}

/// The three characters that mean something to Slack in any text.
pub fn escape_for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `2025-07-20T08:19:16.412Z` as `2025-07-20 08:19:16.412 UTC`; other text as it is.
pub fn utc(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc().format("%Y-%m-%d %H:%M:%S%.f UTC").to_string(),
        Err(_) => text.into(),
    }
}

fn sample(column_type: Option<ColumnType>) -> Value {
    match column_type {
        Some(ColumnType::Integer) => 1.into(),
        Some(ColumnType::Float) => 1.5.into(),
        Some(ColumnType::Boolean) => true.into(),
        Some(ColumnType::Timestamp) => "2025-07-20T08:19:16Z".into(),
        Some(ColumnType::String) | None => "text".into(),
    }
}

fn is_misspelt(error: &Error) -> bool {
    use ErrorKind::{TemplateNotFound, UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    matches!(error.kind(), UnknownFilter | UnknownTest | UnknownFunction | UnknownMethod | TemplateNotFound)
}

fn in_words(text: &str, error: &Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("`{text}` cannot be rendered: {}{detail}{line}", error.kind())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, SchemaRef};
    use serde_json::json;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("sensor_id", DataType::Utf8, true),
            Field::new("value", DataType::Float64, true),
        ]))
    }

    fn template(template: Value, dialect: Dialect) -> Result<Template> {
        Template::new(&template, dialect, &schema(), Names { pipeline: "iot".into(), sink: "alerts".into() })
    }

    fn alert(sensor_id: Value) -> Alert {
        let row = Map::from_iter([("sensor_id".to_owned(), sensor_id), ("value".to_owned(), json!(71.326))]);
        Alert { id: "7f3a".into(), row, digest_of: None }
    }

    #[test]
    fn values_cannot_change_the_structure() {
        let shape = json!({ "a": ["{{ row.sensor_id }} in {{ pipeline }}", 1, null], "b": { "c": true } });
        let hostile = json!("\"], {{ id }} <!channel>");
        let body = template(shape.clone(), Dialect::Json).unwrap().render(&alert(hostile.clone())).unwrap();
        assert_eq!(body, json!({ "a": ["\"], {{ id }} <!channel> in iot", 1, null], "b": { "c": true } }));
        let body = template(shape, Dialect::Slack).unwrap().render(&alert(hostile)).unwrap();
        assert_eq!(body["a"][0], "\"], {{ id }} &lt;!channel&gt; in iot");
    }

    #[test]
    fn in_json_a_lone_expression_keeps_its_type() {
        let shape = json!([
            "{{- row.value -}}",
            "{{ -row.value | round(1) }}",
            "z {{ row.value }}",
            "{{ digest_of }}",
            "{{row}}"
        ]);
        let body = template(shape, Dialect::Json).unwrap().render(&alert(json!("s"))).unwrap();
        assert_eq!(body, json!([71.326, -71.3, "z 71.326", null, { "sensor_id": "s", "value": 71.326 }]));
        let body = template(json!("{{ row.value }}"), Dialect::Slack).unwrap().render(&alert(json!("s"))).unwrap();
        assert_eq!(body, json!("71.326"));
    }

    #[test]
    fn null_is_a_dash_in_slack() {
        let body = template(json!("{{ row.sensor_id }}"), Dialect::Slack).unwrap().render(&alert(Value::Null)).unwrap();
        assert_eq!(body, json!("–"));
    }

    #[test]
    fn mistakes_are_found_before_the_start() {
        for (text, message) in [
            ("{{ row.sensr }}", "`template.t` uses column `sensr`; there is sensor_id, value"),
            ("{{ sensor_id }}", "`template.t` uses `sensor_id`; there is id, pipeline, sink, row, digest_of"),
            (
                "a\n{{ id",
                "`template.t` cannot be rendered: syntax error: unexpected end of input, expected end of variable block (line 2)",
            ),
            (
                "{% if id %}",
                "`template.t` cannot be rendered: syntax error: unexpected end of input, expected end of block (line 1)",
            ),
            (
                "a\nb\n{{ id | uper }}.",
                "`template.t` cannot be rendered: unknown filter: filter uper is unknown (line 3)",
            ),
        ] {
            for dialect in [Dialect::Slack, Dialect::Json] {
                let error = template(json!({ "t": text }), dialect).err().unwrap();
                assert_eq!((error.to_string().as_str(), error.option()), (message, Some("template.t")));
            }
        }
    }

    #[test]
    fn a_filter_that_does_not_fit_a_value_is_a_matter_of_the_row() {
        let template = template(json!({ "t": "{{ row.sensor_id | round }}!" }), Dialect::Slack).unwrap();
        assert_eq!(template.render(&alert(json!(1.5))).unwrap(), json!({ "t": "2.0!" }));
        let error = template.render(&alert(json!("x"))).unwrap_err();
        assert_eq!(error.kind(), pipeline_stage::ErrorKind::Data);
        assert!(error.to_string().starts_with("`template.t` cannot be rendered: "), "{error}");
    }

    #[test]
    fn times_are_shown_in_utc() {
        for (time, shown) in [
            ("2025-07-20T08:19:16Z", "2025-07-20 08:19:16 UTC"),
            ("2025-07-20T08:19:16.412Z", "2025-07-20 08:19:16.412 UTC"),
            ("9223372036854775807", "9223372036854775807"),
        ] {
            assert_eq!(utc(time), shown);
        }
    }
}
