//! A JSON value as a parameter of the type that its column has.

use std::str::FromStr;

use chrono::DateTime;
use pipeline_stage::{ColumnType, Result, StageError, Timestamp};
use serde_json::Value;

use super::{HistoryColumn, Parameter};

/// The value of a column in a question, as [`row_to_json`](pipeline_stage::row_to_json) writes it; none for null.
///
/// Numbers and booleans may be text, as people type them: browsers cannot write every whole number otherwise. Floats that
/// JSON cannot hold are the texts `Infinity`, `-Infinity` and `NaN`.
///
/// # Errors
/// Of kind `Config` when it is of another type than the column.
pub fn parameter(column: &HistoryColumn, value: &Value) -> Result<Option<Parameter>> {
    if value.is_null() {
        return Ok(None);
    }
    let parameter = match column.column_type {
        ColumnType::String => value.as_str().map(|text| Parameter::Text(text.into())),
        ColumnType::Integer => value.as_i64().or_else(|| typed(value)).map(Parameter::Integer),
        ColumnType::Float => value.as_f64().or_else(|| typed(value)).map(Parameter::Float),
        ColumnType::Boolean => value.as_bool().or_else(|| typed(value)).map(Parameter::Boolean),
        ColumnType::Timestamp => value.as_str().and_then(time).map(Parameter::Time),
    };
    if parameter.is_none() {
        let HistoryColumn { name, column_type, .. } = column;
        let expected = match column_type {
            ColumnType::Timestamp => "a timestamp, which is written like `2025-07-20T08:19:16.412Z`".into(),
            other => format!("of type {}", other.name()),
        };
        return Err(StageError::config(format!("column `{name}` is asked for {value}, expected {expected}")));
    }
    Ok(parameter)
}

/// What text says, with blanks around it or not.
fn typed<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.trim().parse().ok()
}

fn time(text: &str) -> Option<Timestamp> {
    Some(Timestamp(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(column_type: ColumnType) -> HistoryColumn {
        HistoryColumn { name: "x".into(), table_name: "y".into(), column_type }
    }

    #[test]
    fn values_have_the_type_of_their_column() {
        for (column_type, value, expected) in [
            (ColumnType::String, json!("7"), Parameter::Text("7".into())),
            (ColumnType::Integer, json!(i64::MIN), Parameter::Integer(i64::MIN)),
            (ColumnType::Float, json!(7), Parameter::Float(7.0)),
            (ColumnType::Float, json!("-Infinity"), Parameter::Float(f64::NEG_INFINITY)),
            (ColumnType::Boolean, json!(false), Parameter::Boolean(false)),
            (ColumnType::Integer, json!("9007199254740993"), Parameter::Integer(9_007_199_254_740_993)),
            (ColumnType::Integer, json!(" -7 "), Parameter::Integer(-7)),
            (ColumnType::Float, json!("7.5"), Parameter::Float(7.5)),
            (ColumnType::Boolean, json!("true"), Parameter::Boolean(true)),
            (
                ColumnType::Timestamp,
                json!("1970-01-01T02:00:00.000001+01:00"),
                Parameter::Time(Timestamp(3_600_000_001)),
            ),
        ] {
            assert_eq!(parameter(&column(column_type), &value).unwrap(), Some(expected));
            assert_eq!(parameter(&column(column_type), &Value::Null).unwrap(), None);
        }
    }

    #[test]
    fn values_of_other_types_are_refused() {
        for (column_type, value, message) in [
            (ColumnType::String, json!(7), "column `x` is asked for 7, expected of type string"),
            (ColumnType::Integer, json!(7.5), "column `x` is asked for 7.5, expected of type integer"),
            (ColumnType::Integer, json!("7.5"), "column `x` is asked for \"7.5\", expected of type integer"),
            (
                ColumnType::Integer,
                json!("9223372036854775808"),
                "column `x` is asked for \"9223372036854775808\", expected of type integer",
            ),
            (ColumnType::Float, json!("much"), "column `x` is asked for \"much\", expected of type float"),
            (ColumnType::Boolean, json!("yes"), "column `x` is asked for \"yes\", expected of type boolean"),
            (ColumnType::Boolean, json!(1), "column `x` is asked for 1, expected of type boolean"),
            (
                ColumnType::Timestamp,
                json!("yesterday"),
                "column `x` is asked for \"yesterday\", expected a timestamp, which is written like `2025-07-20T08:19:16.412Z`",
            ),
        ] {
            assert_eq!(parameter(&column(column_type), &value).unwrap_err().to_string(), message);
        }
    }
}
