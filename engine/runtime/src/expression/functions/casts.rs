//! Values as other types: `CAST`, `::`, and the silent ones (integers where floats are wanted, texts for `||`).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::{DateTime, SecondsFormat};

use super::literal;
use crate::expression::cells::finite;
use crate::expression::error::ExpressionError;
use crate::expression::literals::parse_timestamp;
use crate::expression::tree::{Arguments, Nulls, Operation, Typed};
use crate::expression::types::Type;

/// `CAST(value AS type)`; the second argument is the type's name.
pub fn cast(arguments: &[Typed]) -> Result<Operation, ExpressionError> {
    let [value, type_name] = arguments else {
        return Err(ExpressionError::new(0..0, "a cast has a value and a type"));
    };
    let name = literal(type_name, "type")?;
    let Some(to) = Type::named(name) else {
        let error = ExpressionError::new(type_name.span.clone(), format!("no type is called `{name}`"));
        let dates = "there are no dates; `DATE_TRUNC('day', …)` gives the beginning of a day";
        return Err(match name.to_ascii_uppercase().as_str() {
            "DATE" => error.with_help(dates),
            _ => error.with_help("there are STRING, INTEGER, FLOAT, BOOLEAN and TIMESTAMP"),
        });
    };
    convert(value.data_type, to).ok_or_else(|| {
        let message = format!("{} cannot be turned into {}", value.data_type.described(), to.described());
        let error = ExpressionError::new(value.span.clone(), message);
        match value.data_type {
            Type::Timestamp | Type::Interval => error.with_help("`EXTRACT(EPOCH FROM …)` gives seconds"),
            _ => error,
        }
    })
}

/// Turns a value into a text; none for what cannot be written.
pub fn print(value: Type) -> Option<Operation> {
    convert(value, Type::Text)
}

/// Turns values of one type into another; null for those that cannot be read as such.
pub fn convert(from: Type, to: Type) -> Option<Operation> {
    Some(match (from, to) {
        (Type::Null, _) => Operation::new(to, Nulls::Possible, move |_| Ok(new_null_array(&to.arrow(), 1))),
        (one, same) if one == same => Operation::new(to, Nulls::OfAny, |arguments| arguments.expanded(0)),
        (Type::Text, Type::Integer) => Operation::new(to, Nulls::Possible, |arguments| {
            let texts = arguments.texts(0);
            Ok(arguments.compute_numbers::<Int64Type>(|row| texts.at(row).trim().parse().ok()))
        }),
        (Type::Text, Type::Float) => Operation::new(to, Nulls::Possible, |arguments| {
            let texts = arguments.texts(0);
            Ok(arguments.compute_numbers::<Float64Type>(|row| texts.at(row).trim().parse().ok().and_then(finite)))
        }),
        (Type::Text, Type::Timestamp) => Operation::new(to, Nulls::Possible, |arguments| {
            let texts = arguments.texts(0);
            Ok(arguments.compute_timestamps(|row| parse_timestamp(texts.at(row))))
        }),
        (Type::Text, Type::Boolean) => Operation::new(to, Nulls::Possible, |arguments| Ok(booleans(arguments))),
        (Type::Integer, Type::Float) => Operation::new(to, Nulls::OfAny, |arguments| {
            let integers = arguments.numbers::<Int64Type>(0);
            Ok(arguments.compute_numbers::<Float64Type>(|row| Some(integers.at(row) as f64)))
        }),
        (Type::Float, Type::Integer) => Operation::new(to, Nulls::Possible, |arguments| {
            let floats = arguments.numbers::<Float64Type>(0);
            Ok(arguments.compute_numbers::<Int64Type>(|row| nearest_integer(floats.at(row))))
        }),
        (Type::Integer, Type::Boolean) => Operation::new(to, Nulls::OfAny, |arguments| {
            let integers = arguments.expanded(0)?;
            Ok(Arc::new(BooleanArray::from_unary(integers.as_primitive::<Int64Type>(), |integer| integer != 0)))
        }),
        (Type::Boolean, Type::Integer) => Operation::new(to, Nulls::OfAny, |arguments| {
            let array = arguments.expanded(0)?;
            let booleans = array.as_boolean();
            Ok(arguments.compute_numbers::<Int64Type>(|row| Some(i64::from(booleans.value(row)))))
        }),
        (Type::Integer | Type::Float | Type::Boolean | Type::Timestamp, Type::Text) => {
            Operation::new(to, Nulls::OfAny, move |arguments| written(from, arguments))
        }
        _ => return None,
    })
}

fn written(from: Type, arguments: &Arguments) -> Result<ArrayRef, ArrowError> {
    Ok(match from {
        Type::Integer => {
            let integers = arguments.numbers::<Int64Type>(0);
            arguments.compute_texts(|row| Some(integers.at(row).to_string()))
        }
        Type::Float => {
            let floats = arguments.numbers::<Float64Type>(0);
            // The shortest text that reads as the same float, `2.0` and `1e300` included.
            arguments.compute_texts(|row| Some(format!("{:?}", floats.at(row))))
        }
        Type::Timestamp => {
            let times = arguments.numbers::<TimestampMicrosecondType>(0);
            arguments.compute_texts(|row| {
                let time = DateTime::from_timestamp_micros(times.at(row))?;
                Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            })
        }
        _ => {
            let array = arguments.expanded(0)?;
            let booleans = array.as_boolean();
            arguments.compute_texts(|row| Some(if booleans.value(row) { "true" } else { "false" }))
        }
    })
}

fn booleans(arguments: &Arguments) -> ArrayRef {
    let texts = arguments.texts(0);
    let read = |row| match texts.at(row).trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "1" => Some(true),
        "false" | "f" | "no" | "0" => Some(false),
        _ => None,
    };
    let all = (0..arguments.n_rows).map(|row| if texts.is_null(row) { None } else { read(row) });
    Arc::new(all.collect::<BooleanArray>())
}

/// Halves away from zero; none beyond the range of integers.
fn nearest_integer(float: f64) -> Option<i64> {
    let rounded = float.round();
    // Both bounds are floats without error, -2^63 and 2^63; NaN is in no range.
    let is_in_range = (i64::MIN as f64..-(i64::MIN as f64)).contains(&rounded);
    is_in_range.then_some(rounded as i64)
}
