//! Parts and beginnings of UTC times. Arrow's own kernels need a database of time zones for this.

use arrow::datatypes::{DurationMicrosecondType, Float64Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Days, NaiveDate, Timelike, Utc};

use super::literal;
use crate::expression::error::{ExpressionError, nearest};
use crate::expression::tree::{Nulls, Operation, Typed};
use crate::expression::types::Type;

type Made = Result<Operation, ExpressionError>;

const MICROS_PER_SECOND: i64 = 1_000_000;

pub fn extract(arguments: &[Typed]) -> Made {
    let part = literal(&arguments[0], "part")?;
    let is_interval = arguments[1].data_type == Type::Interval;
    if part.eq_ignore_ascii_case("epoch") {
        return Ok(Operation::new(Type::Float, Nulls::OfAny, move |arguments| {
            let seconds = |micros: i64| Some(micros as f64 / MICROS_PER_SECOND as f64);
            Ok(match is_interval {
                true => {
                    let intervals = arguments.numbers::<DurationMicrosecondType>(1);
                    arguments.compute_numbers::<Float64Type>(|row| seconds(intervals.at(row)))
                }
                false => {
                    let times = arguments.numbers::<TimestampMicrosecondType>(1);
                    arguments.compute_numbers::<Float64Type>(|row| seconds(times.at(row)))
                }
            })
        }));
    }
    if is_interval {
        let message = format!("an interval has no `{part}`");
        let error = ExpressionError::new(arguments[0].span.clone(), message);
        return Err(error.with_help("`EPOCH` gives its length in seconds"));
    }
    let of_time = find(&PARTS, part, &arguments[0])?;
    Ok(Operation::new(Type::Integer, Nulls::Possible, move |arguments| {
        let times = arguments.numbers::<TimestampMicrosecondType>(1);
        let read = |micros| DateTime::from_timestamp_micros(micros).map(of_time);
        Ok(arguments.compute_numbers::<Int64Type>(|row| read(times.at(row))))
    }))
}

pub fn truncate(arguments: &[Typed]) -> Made {
    let part = literal(&arguments[0], "part")?;
    let beginning = find(&BEGINNINGS, part, &arguments[0])?;
    Ok(Operation::new(Type::Timestamp, Nulls::Possible, move |arguments| {
        let times = arguments.numbers::<TimestampMicrosecondType>(1);
        Ok(arguments.compute_timestamps(|row| beginning(times.at(row))))
    }))
}

type Part = fn(DateTime<Utc>) -> i64;

static PARTS: [(&str, Part); 11] = [
    ("year", |time| time.year().into()),
    ("quarter", |time| time.quarter().into()),
    ("month", |time| time.month().into()),
    ("week", |time| time.iso_week().week().into()),
    ("day", |time| time.day().into()),
    ("doy", |time| time.ordinal().into()),
    ("dow", |time| time.weekday().num_days_from_sunday().into()),
    ("isodow", |time| time.weekday().number_from_monday().into()),
    ("hour", |time| time.hour().into()),
    ("minute", |time| time.minute().into()),
    ("second", |time| time.second().into()),
];

/// From microseconds to microseconds.
type Beginning = fn(i64) -> Option<i64>;

static BEGINNINGS: [(&str, Beginning); 8] = [
    ("year", |micros| of_date(micros, |date| date.with_ordinal(1))),
    ("quarter", |micros| of_date(micros, |date| date.with_day(1)?.with_month0(date.month0() / 3 * 3))),
    ("month", |micros| of_date(micros, |date| date.with_day(1))),
    ("week", |micros| of_date(micros, |date| date.checked_sub_days(Days::new(since_monday(date))))),
    ("day", |micros| multiple(micros, 24 * 60 * 60 * MICROS_PER_SECOND)),
    ("hour", |micros| multiple(micros, 60 * 60 * MICROS_PER_SECOND)),
    ("minute", |micros| multiple(micros, 60 * MICROS_PER_SECOND)),
    ("second", |micros| multiple(micros, MICROS_PER_SECOND)),
];

fn find<T: Copy>(table: &[(&'static str, T)], part: &str, argument: &Typed) -> Result<T, ExpressionError> {
    let names = || table.iter().map(|(name, _)| *name);
    if let Some((_, of_part)) = table.iter().find(|(name, _)| name.eq_ignore_ascii_case(part)) {
        return Ok(*of_part);
    }
    let error = ExpressionError::new(argument.span.clone(), format!("no part of a time is called `{part}`"));
    Err(match nearest(part, names()) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None => error.with_help(format!("there are {}", names().collect::<Vec<_>>().join(", "))),
    })
}

fn of_date(micros: i64, beginning: impl Fn(NaiveDate) -> Option<NaiveDate>) -> Option<i64> {
    let date = DateTime::from_timestamp_micros(micros)?.date_naive();
    Some(beginning(date)?.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

fn since_monday(date: NaiveDate) -> u64 {
    date.weekday().num_days_from_monday().into()
}

/// The greatest multiple that is not above it, also for times before 1970.
fn multiple(micros: i64, of: i64) -> Option<i64> {
    micros.checked_sub(micros.rem_euclid(of))
}
