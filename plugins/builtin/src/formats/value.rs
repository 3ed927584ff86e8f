//! What is found in a payload, as a value of the type that its column has, or why it cannot be one.

use std::num::IntErrorKind;

use pipeline_stage::{ColumnType, Zone, printable};

use super::time::{NotATime, time_of_float, time_of_integer, time_of_text};

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Microseconds since 1970.
    Time(i64),
}

/// What a payload holds in the place of a column; of the types that JSON has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Found<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    /// A whole number, usually one above the range of `Integer`.
    Unsigned(u64),
    Float(f64),
    Boolean(bool),
    Array,
    Object,
}

impl<'a> From<&'a serde_json::Value> for Found<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Found::Null,
            serde_json::Value::Bool(is_true) => Found::Boolean(*is_true),
            serde_json::Value::String(text) => Found::Text(text),
            serde_json::Value::Array(_) => Found::Array,
            serde_json::Value::Object(_) => Found::Object,
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => Found::Integer(number),
                (_, Some(number), _) => Found::Unsigned(number),
                (_, _, Some(number)) => Found::Float(number),
                // Without arbitrary precision each number is one of these.
                (None, None, None) => Found::Null,
            },
        }
    }
}

/// How much of a wrong value is shown, in characters.
const SHOWN: usize = 60;

/// From 2⁵³ on floats skip whole numbers: it may not be the one that was meant.
const FIRST_UNSURE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// 2⁶³, the first that 64 bits with a sign do not hold.
const FIRST_TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;

impl<'a> Found<'a> {
    /// As a value of a column. The error is a part of a sentence: `is the text …, it must be a number`.
    pub fn as_value(self, column_type: ColumnType, zone: Zone) -> Result<Value<'a>, String> {
        let value = match (self, column_type) {
            (Found::Null, _) => Value::Null,
            (Found::Text(text), ColumnType::String) => Value::Text(text),
            (Found::Integer(number), ColumnType::Integer) => Value::Integer(number),
            (Found::Unsigned(number), ColumnType::Integer) => {
                Value::Integer(i64::try_from(number).map_err(|_| self.does_not_fit())?)
            }
            (Found::Float(number), ColumnType::Integer) => return self.whole(number),
            (Found::Integer(number), ColumnType::Float) => Value::Float(number as f64),
            (Found::Unsigned(number), ColumnType::Float) => Value::Float(number as f64),
            (Found::Float(number), ColumnType::Float) => Value::Float(number),
            (Found::Boolean(is_true), ColumnType::Boolean) => Value::Boolean(is_true),
            (Found::Text(text), ColumnType::Timestamp) => self.time(time_of_text(text, zone))?,
            (Found::Integer(number), ColumnType::Timestamp) => self.time(time_of_integer(number))?,
            (Found::Unsigned(number), ColumnType::Timestamp) => self.time(time_of_float(number as f64))?,
            (Found::Float(number), ColumnType::Timestamp) => self.time(time_of_float(number))?,
            _ => return Err(format!("is {}, it must be {}", self.words(), expected(column_type))),
        };
        Ok(value)
    }

    /// The number `5.0` is as whole as `5`.
    fn whole(self, number: f64) -> Result<Value<'a>, String> {
        if number.fract() != 0.0 {
            return Err(format!("is {}, it must be {}", self.words(), expected(ColumnType::Integer)));
        }
        if FIRST_TOO_LARGE <= number.abs() {
            return Err(self.does_not_fit());
        }
        if FIRST_UNSURE_FLOAT <= number.abs() {
            return Err(format!("is {}, a whole number that large must be written without a point", self.words()));
        }
        Ok(Value::Integer(number as i64))
    }

    fn time(self, time: Result<i64, NotATime>) -> Result<Value<'a>, String> {
        time.map(Value::Time).map_err(|problem| match problem {
            NotATime::Form => format!("is {}, it must be {}", self.words(), expected(ColumnType::Timestamp)),
            NotATime::Range => format!("is {}, it must be in the years 0 to 9999", self.words()),
        })
    }

    fn does_not_fit(self) -> String {
        format!("is {}, it must fit in 64 bits", self.words())
    }

    /// For the sentence of an error.
    pub fn words(self) -> String {
        match self {
            Found::Null => "null".into(),
            Found::Text(text) => format!("the text `{}`", printable(text, SHOWN)),
            Found::Integer(number) => format!("the number `{number}`"),
            Found::Unsigned(number) => format!("the number `{number}`"),
            // `{:?}` writes 1e300 as that, `{}` as 301 digits.
            Found::Float(number) => format!("the number `{number:?}`"),
            Found::Boolean(is_true) => format!("`{is_true}`"),
            Found::Array => "an array".into(),
            Found::Object => "an object".into(),
        }
    }
}

/// A field that is text whatever it means (CSV), as a value of a column. The error is a part of a sentence.
///
/// Spaces around anything but text do not count. Numbers and times as in JSON; `true` and `false` in any case.
pub(crate) fn value_of_field(field: &str, column_type: ColumnType, zone: Zone) -> Result<Value<'_>, String> {
    let bare = field.trim();
    let wrong = || format!("is `{}`, it must be {}", printable(field, SHOWN), expected(column_type));
    let number = || bare.parse::<f64>().ok().filter(|number| number.is_finite());
    match column_type {
        ColumnType::String => Ok(Value::Text(field)),
        ColumnType::Float => number().map(Value::Float).ok_or_else(wrong),
        ColumnType::Integer => match bare.parse::<i64>() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(error) => match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                    Err(format!("is `{}`, it must fit in 64 bits", printable(field, SHOWN)))
                }
                _ => Found::Float(number().ok_or_else(wrong)?).as_value(column_type, zone),
            },
        },
        ColumnType::Boolean => match bare.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err(wrong()),
        },
        ColumnType::Timestamp => match (bare.parse::<i64>(), number()) {
            (Ok(number), _) => Found::Integer(number).as_value(column_type, zone),
            (_, Some(number)) => Found::Float(number).as_value(column_type, zone),
            _ => Found::Text(bare).as_value(column_type, zone),
        },
    }
}

/// What a column takes, for the sentence of an error.
pub(crate) fn expected(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::String => "text",
        ColumnType::Integer => "a whole number",
        ColumnType::Float => "a number",
        ColumnType::Boolean => "true or false",
        ColumnType::Timestamp => "a time like `2025-07-20T08:19:16Z`, or seconds or milliseconds since 1970",
    }
}
