//! The message of the sink `slack`, in Slack's Block Kit.

use arrow::datatypes::{DataType, Schema};
use pipeline_stage::keyed::{SCORE_COLUMNS, find_column};
use pipeline_stage::{Alert, ColumnType, Result, StageError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::link::DashboardLink;
use super::text::mrkdwn;
use crate::template::{Names, utc};

/// Slack's limits: fields of a section, characters of a field, characters of an element of a context.
const MAX_FIELDS: usize = 10;
const MAX_FIELD_CHARACTERS: usize = 2_000;
const MAX_CONTEXT_CHARACTERS: usize = 2_000;

/// In the one-line text that notifications show, more of a value would push out the others.
const MAX_FALLBACK_CHARACTERS: usize = 100;

/// A label is bold and on a line of its own.
const MAX_LABEL_CHARACTERS: usize = 100;

/// The fields that a message has when the row has these columns.
const USUAL: [(&str, &str); 5] = [
    ("Sensor ID", "sensor_id"),
    ("Metric", "metric_type"),
    ("Anomalous Value", "value"),
    ("Z-Score", "z_score"),
    ("Timestamp (UTC)", "timestamp"),
];

/// One field of a message.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldOption {
    /// What stands above the value. Default: the column's name.
    #[serde(default)]
    pub label: Option<String>,
    /// The column.
    pub column: String,
}

/// Which columns a message shows, and how.
pub struct Layout {
    fields: Vec<Field>,
    names: Names,
    /// To the series on the dashboard.
    link: Option<DashboardLink>,
}

struct Field {
    label: String,
    column: String,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    AsGiven,
    Time,
    TwoDecimals,
}

impl Layout {
    /// Chooses the columns.
    ///
    /// # Errors
    /// Of kind `Config`, for a column that is not there and for more fields than Slack takes.
    pub fn new(fields: Option<&[FieldOption]>, schema: &Schema, key: &[String], names: Names) -> Result<Self> {
        let fields = match fields {
            Some(options) => named(options, schema)?,
            None => usual(schema, key),
        };
        Ok(Layout { fields, names, link: None })
    }

    /// The same, with a link to each alert's series.
    pub fn with_link(self, link: Option<DashboardLink>) -> Self {
        Layout { link, ..self }
    }

    /// The message for an alert.
    pub fn message(&self, alert: &Alert) -> Value {
        let title = match alert.digest_of {
            None => ":warning: Anomaly Detected! :warning:".to_owned(),
            Some(count) => format!(":warning: {} :warning:", more(count)),
        };
        let mut section = json!({ "type": "section", "fields": self.sections(alert) });
        if alert.digest_of.is_some() {
            let text = "They came faster than they could be posted; the pipeline's state lists them. The last one:";
            section["text"] = json!({ "type": "mrkdwn", "text": text });
        }
        let Names { pipeline, sink } = &self.names;
        let context = format!("{pipeline} · {sink} · alert {}", alert.id);
        let mut elements = vec![plain(mrkdwn(&context, MAX_CONTEXT_CHARACTERS))];
        elements.extend(self.link.as_ref().map(|link| linked(&link.of(alert))));
        json!({
            "text": self.fallback(alert),
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": title, "emoji": true } },
                section,
                { "type": "divider" },
                { "type": "context", "elements": elements },
            ]
        })
    }

    fn sections(&self, alert: &Alert) -> Vec<Value> {
        let section = |field: &Field| {
            let label = mrkdwn(&field.label, MAX_LABEL_CHARACTERS);
            // Beside the value stand the two asterisks, the colon and the line feed.
            let room = MAX_FIELD_CHARACTERS - label.encode_utf16().count() - 4;
            plain(format!("*{label}:*\n{}", mrkdwn(&field.text(alert), room)))
        };
        self.fields.iter().map(section).collect()
    }

    /// One line for notifications and for clients that cannot show blocks.
    fn fallback(&self, alert: &Alert) -> String {
        let values: Vec<_> = self
            .fields
            .iter()
            .map(|field| {
                let label = mrkdwn(&field.label, MAX_LABEL_CHARACTERS);
                format!("{label} {}", mrkdwn(&field.text(alert), MAX_FALLBACK_CHARACTERS))
            })
            .collect();
        let title = match alert.digest_of {
            None => "Anomaly detected".to_owned(),
            Some(count) => format!("{}, the last", more(count)),
        };
        format!("{title}: {}", values.join(", "))
    }
}

fn more(count: u64) -> String {
    match count {
        1 => "1 more anomaly".into(),
        count => format!("{count} more anomalies"),
    }
}

/// A link in Slack's form; the address is encoded.
fn linked(url: &str) -> Value {
    json!({ "type": "mrkdwn", "text": format!("<{url}|show the series>") })
}

/// Text in which Slack looks for no names or addresses of its own accord.
fn plain(text: String) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

impl Field {
    fn new(label: &str, column: &str, schema: &Schema) -> Self {
        let data_type = schema.field_with_name(column).map(|field| field.data_type()).ok();
        let form = match data_type.and_then(ColumnType::of) {
            Some(ColumnType::Timestamp) => Form::Time,
            Some(ColumnType::Float) if is_statistic(column) => Form::TwoDecimals,
            _ => Form::AsGiven,
        };
        Field { label: label.into(), column: column.into(), form }
    }

    fn text(&self, alert: &Alert) -> String {
        match (alert.row.get(&self.column), self.form) {
            (Some(Value::String(text)), Form::Time) => utc(text),
            (Some(Value::String(text)), _) if !text.is_empty() => text.clone(),
            (Some(Value::Number(number)), Form::TwoDecimals) => {
                number.as_f64().map_or_else(|| number.to_string(), |number| format!("{number:.2}"))
            }
            (Some(Value::Number(number)), _) => number.to_string(),
            (Some(Value::Bool(is_true)), _) => is_true.to_string(),
            _ => "–".into(),
        }
    }
}

/// What detectors compute has more digits than mean anything.
fn is_statistic(column: &str) -> bool {
    column == "score" || column.ends_with("_score") || SCORE_COLUMNS.contains(&column)
}

fn named(options: &[FieldOption], schema: &Schema) -> Result<Vec<Field>> {
    if options.is_empty() || MAX_FIELDS < options.len() {
        let message = format!("`fields` has {} entries, a message takes 1 to {MAX_FIELDS}", options.len());
        return Err(StageError::config(message).at_option("fields"));
    }
    let mut fields = Vec::new();
    for (idx, option) in options.iter().enumerate() {
        find_column(schema, &option.column).map_err(|error| error.at_option(format!("fields.{idx}.column")))?;
        fields.push(Field::new(option.label.as_ref().unwrap_or(&option.column), &option.column, schema));
    }
    Ok(fields)
}

/// The usual fields; if not all of their columns are there, the row's other columns as well, those of the key first.
fn usual(schema: &Schema, key: &[String]) -> Vec<Field> {
    let is_there = |column: &str| schema.index_of(column).is_ok();
    if USUAL.iter().all(|(_, column)| is_there(column)) {
        return USUAL.iter().map(|(label, column)| Field::new(label, column, schema)).collect();
    }
    let shown = schema.fields().iter().filter(|field| *field.data_type() != DataType::Null);
    let mut columns: Vec<&str> =
        shown.map(|field| field.name().as_str()).filter(|name| !SCORE_COLUMNS.contains(name)).collect();
    columns.sort_by_key(|column| key.iter().position(|part| part == column).unwrap_or(key.len()));
    let label =
        |column: &str| USUAL.iter().find(|usual| usual.1 == column).map_or(column.to_owned(), |usual| usual.0.into());
    columns.into_iter().take(MAX_FIELDS).map(|column| Field::new(&label(column), column, schema)).collect()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field as Column;
    use pipeline_stage::timestamp_type;

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(
            columns.iter().map(|(name, data_type)| Column::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
        )
    }

    fn spikes() -> Schema {
        schema(&[
            ("sensor_id", DataType::Utf8),
            ("metric_type", DataType::Utf8),
            ("value", DataType::Float64),
            ("timestamp", timestamp_type()),
            ("score", DataType::Float64),
            ("is_anomaly", DataType::Boolean),
            ("z_score", DataType::Float64),
        ])
    }

    fn layout(fields: Option<&[FieldOption]>, schema: &Schema, key: &[&str]) -> Result<Layout> {
        let key: Vec<_> = key.iter().map(|name| name.to_string()).collect();
        Layout::new(fields, schema, &key, Names { pipeline: "iot".into(), sink: "alerts".into() })
    }

    fn alert(sensor_id: &str) -> Alert {
        let row = json!({
            "sensor_id": sensor_id, "metric_type": "temperature", "value": 71.32,
            "timestamp": "2025-07-20T08:19:16Z", "score": 3.8, "is_anomaly": true, "z_score": 11.40328
        });
        let Value::Object(row) = row else { panic!("an object") };
        Alert { id: "7f3a-0412-88d1-9e00".into(), row, digest_of: None }
    }

    fn labels(layout: &Layout) -> Vec<&str> {
        layout.fields.iter().map(|field| field.label.as_str()).collect()
    }

    #[test]
    fn a_message_is_what_slack_wants() {
        let field = |text: &str| json!({ "type": "mrkdwn", "text": text, "verbatim": true });
        let expected = json!({
            "text": "Anomaly detected: Sensor ID sensor-04, Metric temperature, Anomalous Value 71.32, Z-Score 11.40, Timestamp (UTC) 2025-07-20 08:19:16 UTC",
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": ":warning: Anomaly Detected! :warning:", "emoji": true } },
                { "type": "section", "fields": [
                    field("*Sensor ID:*\nsensor-04"),
                    field("*Metric:*\ntemperature"),
                    field("*Anomalous Value:*\n71.32"),
                    field("*Z-Score:*\n11.40"),
                    field("*Timestamp (UTC):*\n2025-07-20 08:19:16 UTC"),
                ] },
                { "type": "divider" },
                { "type": "context", "elements": [field("iot · alerts · alert 7f3a-0412-88d1-9e00")] },
            ]
        });
        assert_eq!(layout(None, &spikes(), &[]).unwrap().message(&alert("sensor-04")), expected);
    }

    #[test]
    fn hostile_values_stay_values() {
        let message = layout(None, &spikes(), &[]).unwrap().message(&alert("<!channel> *x*\n> \"y\"\u{0}"));
        assert_eq!(
            message["blocks"][1]["fields"][0]["text"],
            "*Sensor ID:*\n`&lt;!channel&gt; *x*\\n&gt; \"y\"\\u{0}`"
        );
        let text = message["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt;") && !text.contains(['<', '>', '\n']), "{text}");
    }

    #[test]
    fn the_limits_of_slack_are_kept() {
        let columns: Vec<_> = (0..12).map(|idx| (format!("{}{idx}", "<".repeat(300)), DataType::Utf8)).collect();
        let columns: Vec<_> = columns.iter().map(|(name, data_type)| (name.as_str(), data_type.clone())).collect();
        let row = columns.iter().map(|(name, _)| (name.to_string(), Value::from("&".repeat(100_000)))).collect();
        let alert = Alert { id: "x".repeat(5_000), row, digest_of: Some(u64::MAX) };
        let message = layout(None, &schema(&columns), &[]).unwrap().message(&alert);
        let length = |value: &Value| value.as_str().unwrap().encode_utf16().count();
        let fields = message["blocks"][1]["fields"].as_array().unwrap();
        assert_eq!(fields.len(), 10);
        assert!(fields.iter().all(|field| (1_990..=2_000).contains(&length(&field["text"]))));
        assert!(length(&message["blocks"][0]["text"]["text"]) <= 150);
        assert!(length(&message["blocks"][3]["elements"][0]["text"]) <= 2_000);
        assert!(length(&message["text"]) <= 4_000);
    }

    #[test]
    fn a_digest_says_how_many() {
        let digest = Alert { digest_of: Some(42), ..alert("sensor-04") };
        let message = layout(None, &spikes(), &[]).unwrap().message(&digest);
        assert_eq!(message["blocks"][0]["text"]["text"], ":warning: 42 more anomalies :warning:");
        assert!(message["blocks"][1]["text"]["text"].as_str().unwrap().ends_with("The last one:"));
        assert!(message["text"].as_str().unwrap().starts_with("42 more anomalies, the last: Sensor ID sensor-04"));
    }

    #[test]
    fn other_columns_come_by_their_names_with_the_key_first() {
        let other = schema(&[
            ("timestamp", timestamp_type()),
            ("rpm", DataType::Float64),
            ("machine", DataType::Utf8),
            ("score", DataType::Float64),
            ("z_score", DataType::Float64),
        ]);
        let layout = layout(None, &other, &["machine"]).unwrap();
        assert_eq!(labels(&layout), ["machine", "Timestamp (UTC)", "rpm", "Z-Score"]);
        let row = [("machine", json!(null)), ("rpm", json!(1e300)), ("z_score", json!(3.0)), ("timestamp", json!(""))];
        let row = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let texts: Vec<_> =
            layout.fields.iter().map(|field| field.text(&Alert { row: Clone::clone(&row), ..alert("") })).collect();
        assert_eq!(texts, ["–", "", "1e+300", "3.00"]);
    }

    #[test]
    fn fields_can_be_named() {
        let field =
            |label: Option<&str>, column: &str| FieldOption { label: label.map(str::to_owned), column: column.into() };
        let layout = |fields: &[FieldOption]| layout(Some(fields), &spikes(), &[]);
        assert_eq!(
            labels(&layout(&[field(Some("Where"), "sensor_id"), field(None, "value")]).unwrap()),
            ["Where", "value"]
        );
        let error = layout(&[field(None, "value"), field(None, "valeu")]).err().unwrap();
        assert_eq!(error.option(), Some("fields.1.column"));
        for wrong in [vec![], vec![field(None, "value"); 11]] {
            let error = layout(&wrong).err().unwrap();
            assert_eq!(error.to_string(), format!("`fields` has {} entries, a message takes 1 to 10", wrong.len()));
        }
    }
}
