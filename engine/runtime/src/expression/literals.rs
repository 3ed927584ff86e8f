//! Numbers, times and lengths of time as they are written in an expression.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DurationMicrosecondArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::DataType;
use chrono::Utc;

use super::types::Type;

/// A literal's value as an array of one row, and its type; or what is wrong with it and what would be right.
pub(super) type Literal = Result<(ArrayRef, Type), (String, &'static str)>;

/// `5`, `-5`, `5.0`, `5e3`.
pub(super) fn number(text: &str) -> Literal {
    let is_integer = !text.contains(['.', 'e', 'E']);
    if is_integer {
        return match text.parse::<i64>() {
            Ok(integer) => Ok((Arc::new(Int64Array::from(vec![integer])), Type::Integer)),
            Err(_) => Err((format!("`{text}` does not fit into an integer of 64 bits"), "write a float: `1e19`")),
        };
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok((Arc::new(Float64Array::from(vec![float])), Type::Float)),
        _ => Err((format!("`{text}` does not fit into a float of 64 bits"), "the greatest is about 1.8e308")),
    }
}

/// `'text'`
pub(super) fn text(text: &str) -> (ArrayRef, Type) {
    (Arc::new(StringArray::from(vec![text])), Type::Text)
}

/// `TRUE`, `FALSE`
pub(super) fn boolean(boolean: bool) -> (ArrayRef, Type) {
    (Arc::new(BooleanArray::from(vec![boolean])), Type::Boolean)
}

/// `NULL`
pub(super) fn null() -> (ArrayRef, Type) {
    (new_null_array(&DataType::Null, 1), Type::Null)
}

/// `TIMESTAMP 'text'`, and texts that are compared with timestamps.
pub(super) fn timestamp(text: &str) -> Literal {
    match parse_timestamp(text) {
        Some(micros) => {
            let array = TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC");
            Ok((Arc::new(array), Type::Timestamp))
        }
        None => Err((format!("`{text}` is not a timestamp"), "write it like '2025-07-20T08:19:16Z' or '2025-07-20'")),
    }
}

/// Microseconds since 1970 of RFC 3339 text; the time, its seconds' fraction and the zone (then UTC) may be missing.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    string_to_datetime(&Utc, text.trim()).ok().map(|time| time.timestamp_micros())
}

/// `INTERVAL 'text'`: numbers with units, as in `1 hour 30 minutes`; `unit` if it stands behind the text.
pub(super) fn interval(text: &str, unit: Option<&str>) -> Literal {
    const RIGHT: &str = "write it like INTERVAL '1 hour 30 minutes'";
    let mut parts = text.split_whitespace();
    let mut micros = Some(0_i64);
    let mut n_parts = 0;
    while let Some(number) = parts.next() {
        let unit = match (unit, parts.next()) {
            (Some(unit), None) if n_parts == 0 => unit,
            (None, Some(unit)) => unit,
            _ => return Err((format!("`{text}` is not an interval"), RIGHT)),
        };
        let part = match (number.parse::<f64>(), micros_of(unit)?) {
            (Ok(number), Some(unit)) if number.is_finite() => number * unit as f64,
            (_, None) => return Err((format!("`{unit}` is not a unit of time"), RIGHT)),
            _ => return Err((format!("`{number}` is not a number of {unit}"), RIGHT)),
        };
        // Intervals of this length lie within the exact floats, up to 285 years.
        let is_exact = part.abs() < 9e15;
        micros = micros.filter(|_| is_exact).and_then(|sum| sum.checked_add(part.round() as i64));
        n_parts += 1;
    }
    match (n_parts, micros) {
        (0, _) => Err(("the interval is empty".to_owned(), RIGHT)),
        (_, None) => Err((format!("`{text}` is too long for an interval"), "it may be up to 285 years")),
        (_, Some(micros)) => Ok((Arc::new(DurationMicrosecondArray::from(vec![micros])), Type::Interval)),
    }
}

fn micros_of(unit: &str) -> Result<Option<i64>, (String, &'static str)> {
    const SECOND: i64 = 1_000_000;
    Ok(Some(match unit.to_lowercase().as_str() {
        "us" | "microsecond" | "microseconds" => 1,
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "second" | "seconds" => SECOND,
        "m" | "min" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * SECOND,
        "month" | "months" | "year" | "years" => {
            return Err((format!("an interval of `{unit}` has no fixed length"), "write it in days"));
        }
        _ => return Ok(None),
    }))
}
