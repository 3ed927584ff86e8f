//! Options of stages: one struct is the option, its default, its documentation and its schema.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

/// What every options struct says about itself. Its doc comment is the stage's documentation.
///
/// The struct must carry `#[serde(deny_unknown_fields)]`: an unknown option is an error, not a surprise.
pub trait StageOptions: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// `type:` in the file.
    const NAME: &'static str;
    /// A YAML stage that works, as it would stand in a file (`spikes:` with everything below it). Docs print it,
    /// tests run it.
    const EXAMPLE: &'static str;
}

/// What the schema of an option says (`true`) that names the process to others, over restarts. The engine gives it the
/// name of the state where the file leaves it out and the state has one user.
pub const NAMES_PROCESS: &str = "x-names-process";

/// A duration as text with a unit: `50ms`, `10s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Span).map_err(|_| {
            format!("`{text}` is not a duration, it would be a number with a unit: `50ms`, `10s`, `5m`, `1h`")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

/// A number of bytes as text with a unit: `512B`, `64KiB`, `8MiB`, `1GB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a size, it would be a whole number with a unit: `512B`, `64KiB`, `8MiB`, `1GB`")
        };
        let (unit, factor) = BYTE_UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(wrong)?;
        let number: u64 = text[..text.len() - unit.len()].trim().parse().map_err(|_| wrong())?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A rate as text: `200 per second`, `6 per minute`, `100 per hour`.
#[derive(Clone, Copy, PartialEq)]
pub struct Rate {
    /// How many.
    pub count: f64,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// The time between two.
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64(self.per.as_secs_f64() / self.count)
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate, it would be like `200 per second` or `6 per minute`");
        let (count, unit) = text.split_once(" per ").ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            _ => return Err(wrong()),
        };
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        if count.is_nan() || count <= 0.0 || count > 1e9 {
            return Err(format!("the rate `{text}` must be above 0 and at most a thousand million"));
        }
        Ok(Rate { count, per: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "second",
            60 => "minute",
            3_600 => "hour",
            _ => "day",
        };
        write!(f, "{} per {unit}", self.count)
    }
}

/// Text that is never printed: passwords, tokens, URLs that hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself. Never log it, nor put it into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The value must not get into serde's own error (`invalid type: string "…"`).
        let value =
            serde_json::Value::deserialize(deserializer).map_err(|_| de::Error::custom("a secret must be text"))?;
        match value {
            serde_json::Value::String(text) => Ok(Secret(text)),
            _ => Err(de::Error::custom("a secret must be text; put it into quotes")),
        }
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// Text types that are parsed from a string: serde and schema by way of `FromStr` and a pattern.
macro_rules! text_option {
    ($type:ident, $pattern:literal, $examples:expr) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                let text = value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
                text.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "examples": $examples })
            }
        }
    };
}

text_option!(Span, r"^\s*[0-9]+\s*[a-zA-Zµ]+(\s*[0-9]+\s*[a-zA-Zµ]+)*\s*$", ["50ms", "10s", "5m", "1h"]);
text_option!(ByteSize, r"^\s*[0-9]+\s*(B|kB|KiB|MB|MiB|GB|GiB)$", ["64KiB", "8MiB", "1GB"]);
text_option!(Rate, r"^\s*[0-9.]+([eE][0-9]+)? per\s+(second|minute|hour|day)\s*$", ["200 per second", "6 per minute"]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One name or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_units_are_read_and_written() {
        assert_eq!("50ms".parse::<Span>().unwrap().0, Duration::from_millis(50));
        assert_eq!("8MiB".parse::<ByteSize>().unwrap(), ByteSize(8 << 20));
        assert_eq!("8MiB".parse::<ByteSize>().unwrap().to_string(), "8MiB");
        assert_eq!("6 per minute".parse::<Rate>().unwrap().interval(), Duration::from_secs(10));
        assert_eq!("6 per minute".parse::<Rate>().unwrap().to_string(), "6 per minute");
    }

    #[test]
    fn refuses_texts_without_a_unit() {
        for text in ["50", "", "fast", "10 parsecs"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["50", "", "-1B", "1.5MiB", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["50", "0 per second", "NaN per second", "1 per fortnight"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_quoted_in_the_error() {
        let error = serde_json::from_str::<Span>("50").unwrap_err().to_string();
        assert!(error.starts_with("`50` is not a duration"), "{error}");
    }

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::new("hush");
        assert_eq!(format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap()), "*** *** \"***\"");
        let error = serde_json::from_str::<Secret>("4711").unwrap_err().to_string();
        assert!(!error.contains("4711"), "{error}");
    }
}
