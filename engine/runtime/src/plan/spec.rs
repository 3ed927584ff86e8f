//! The options that belong to the engine, not to a stage's type: what every pipeline file and every stage may say.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use pipeline_stage::{ColumnType, Meta, OneOrMany, Span, Zone};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Map, Value};

/// What a pipeline file says beside its stages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipelineOptions {
    /// What the pipeline is called. Its state and its marks in sinks carry this name: another name is another pipeline.
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// The columns that make a series, one or a list: the default for every detector. Without it all rows are one series.
    #[serde(default)]
    pub key: Option<OneOrMany>,
    /// Where state is kept: a folder, or a PostgreSQL URL that several machines share. Default: `.pipeline/` and the name.
    #[serde(default)]
    pub state: Option<String>,
    /// How long a row may wait before it is committed, with a unit.
    #[serde(default = "default_commit_every")]
    pub commit_every: Span,
    /// How often all state is written to the store, with a unit.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: Span,
    /// What a time without a zone means: `UTC`, or a fixed difference such as `+02:00`.
    #[serde(default)]
    pub time_zone: TimeZone,
    /// Plugins, shared libraries or Python files, whose stages the file names beside the built-in ones: a list of paths, bare names to be searched for, or maps with `path`. Run only plugins that you trust: they can do whatever the pipeline's user can.
    #[serde(default)]
    #[expect(dead_code, reason = "read before all else, by `plugins::load`; here for the schema and its check")]
    pub plugins: Vec<PluginChoice>,
}

/// `./libheartbeat.so`, or `{ path: ./libheartbeat.so, … }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PluginChoice {
    /// Its path or name.
    Path(String),
    /// Its path or name and more.
    Options(PluginOptions),
}

/// A library in its long form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginOptions {
    /// Where the plugin is: a path, or a bare name. A relative path with a `/` starts at the file's folder; a name such as `heartbeat` is searched for as `libheartbeat.so`, `heartbeat.py` or a package `heartbeat` in the folders of `--plugin-path` and `PIPELINE_PLUGIN_PATH`.
    pub path: String,
    /// The Python that runs a plugin in Python, such as `.venv/bin/python`: a path, which starts at the file's folder, or a name. Default: the variable `PIPELINE_PYTHON`, else `python3`.
    #[serde(default)]
    pub python: Option<String>,
    /// Refuse the plugin unless its SHA-256 is this: 64 hexadecimal digits, as `sha256sum` prints them.
    #[serde(default)]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// Whether its stages take the place of built-in ones of the same name; otherwise a name that is taken is an error.
    #[serde(default)]
    pub replaces: bool,
}

/// A letter, then letters, digits, `_` and `-`: it names a folder and rows of tables.
pub(crate) const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,62}$";

/// Short enough that an alert is on time, long enough that PostgreSQL's commits are no burden.
fn default_commit_every() -> Span {
    Span(Duration::from_millis(50))
}

/// Rarer makes a restart slower, more often makes the disk busier.
fn default_checkpoint_every() -> Span {
    Span(Duration::from_secs(10))
}

/// What every stage but a source may say.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct StageOptions {
    /// The stages whose rows it takes: an id, or a list of ids.
    #[serde(default)]
    pub inputs: Option<OneOrMany>,
    /// An SQL expression such as `is_anomaly and value > 50`: only rows for which it is true are taken.
    #[serde(default)]
    pub when: Option<String>,
}

/// What every source may say.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct SourceOptions {
    /// How payloads are decoded: the name of a format, or a map with its `type` and options.
    #[serde(default)]
    pub format: Option<FormatChoice>,
    /// The columns that payloads are decoded into: `name: type`, or `name: { type: float, from: data.value, nullable: true }`.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, ColumnChoice>>")]
    pub schema: Option<Map<String, Value>>,
    /// The columns whose values decide in which partition a row stands, as its producer does it. Only to warn of series that are split.
    #[serde(default)]
    pub partitioned_by: Option<OneOrMany>,
    /// For sources without partitions of their own: over how many tasks the rows are spread, by their key.
    #[serde(default = "default_tasks")]
    #[schemars(range(min = 1, max = 1024))]
    pub tasks: u32,
    /// An SQL expression such as `value is not null`: only rows for which it is true are given.
    #[serde(default)]
    pub when: Option<String>,
}

fn default_tasks() -> u32 {
    1
}

/// `json`, or `{ type: json, … }`; the options are checked by the format.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum FormatChoice {
    /// Its name.
    Name(String),
    /// Its name and options.
    Options(Map<String, Value>),
}

/// `float`, or `{ type: float, … }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ColumnChoice {
    /// Its type.
    Short(ColumnType),
    /// Its type and where its value stands.
    Long(ColumnOptions),
}

/// A column in its long form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnOptions {
    /// Its type; may be left out with `meta`, which has one.
    #[serde(default)]
    pub r#type: Option<ColumnType>,
    /// The field of the payload that holds the value, names from the outside in with dots between them: `data.value`. Default: the column's name.
    #[serde(default)]
    pub from: Option<String>,
    /// Whether a row may lack the value; otherwise such a row becomes a dead letter. Default: no, but for `meta: key` and `meta: time`.
    #[serde(default)]
    pub nullable: Option<bool>,
    /// What the source knows beside the payload, instead of a field of it.
    #[serde(default)]
    pub meta: Option<Meta>,
    /// Of `meta: topic` and `meta: key`, which have parts with slashes between them, this one; 1 is the first. It is read as the column's type, which is `string` when it is left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub part: Option<u16>,
}

/// `UTC` or `+02:00`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimeZone(pub Zone);

impl FromStr for TimeZone {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("utc") || text == "Z" {
            return Ok(TimeZone(Zone::Utc));
        }
        seconds_east(text).map(|seconds| TimeZone(Zone::Fixed(seconds))).ok_or_else(|| {
            let why = "it must be `UTC` or a fixed difference such as `+02:00`";
            match text.contains('/') {
                true => format!("`time_zone` is `{text}`, {why}: zones with summer time have hours that exist twice"),
                false => format!("`time_zone` is `{text}`, {why}"),
            }
        })
    }
}

fn seconds_east(text: &str) -> Option<i32> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let is_two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_two_digits(hours) || !is_two_digits(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    // No place on earth is further away than 14 hours.
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A plain +02:00 is text in YAML 1.2, a lone number is not.
        let value = Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for TimeZone {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeZone".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(UTC|utc|Z|[+-][0-9]{2}:[0-9]{2})$", "examples": ["UTC", "+02:00"] })
    }
}

/// The JSON Schema of an options struct.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_zones() {
        for (text, zone) in [
            ("UTC", Some(Zone::Utc)),
            ("+02:00", Some(Zone::Fixed(7_200))),
            ("-03:30", Some(Zone::Fixed(-12_600))),
            ("Europe/Berlin", None),
            ("+2", None),
            ("+15:00", None),
            ("+01:60", None),
            ("+é:00", None),
        ] {
            assert_eq!(text.parse::<TimeZone>().ok().map(|zone| zone.0), zone, "{text}");
        }
    }
}
