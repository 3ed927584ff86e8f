//! Values that columns want, read without a JSON parser.

use super::values::{other_than_text, short_float, text_end};
use crate::formats::building::Building;
use crate::formats::rows::{Making, Row};
use crate::formats::value::Value;

/// Reads the value at a place for a column of the row; gives the place behind it.
#[inline]
pub(super) fn wanted(payload: &[u8], at: usize, column: usize, row: &mut Row) -> Option<usize> {
    row.set_with(column, |mut making| value(payload, at, &mut making)).or_else(|| {
        let (found, end) = other_than_text(payload, at)?;
        row.set_found(column, found).ok()?;
        Some(end)
    })
}

/// Reads the value at a place, unless it is null, and adds it to a column; gives the place behind it.
#[inline]
pub(super) fn value(payload: &[u8], at: usize, making: &mut Making<'_>) -> Option<usize> {
    let first = *payload.get(at)?;
    let usual = match (&mut *making.building, first) {
        (Building::Text(texts), b'"') => {
            let end = text_end(payload, at + 1)?;
            texts.push(payload, at + 1, end);
            return Some(end + 1);
        }
        (Building::Time(times), b'"') => making.days.quoted(payload, at + 1).map(|(time, end)| {
            times.push(time);
            end
        }),
        (Building::Float(values), _) => short_float(payload, at).map(|(value, end)| {
            values.push(value);
            end
        }),
        _ => None,
    };
    usual.or_else(|| unusual(payload, at, making))
}

#[inline(never)]
fn unusual(payload: &[u8], at: usize, making: &mut Making<'_>) -> Option<usize> {
    let Making { building, column_type, days, zone } = making;
    if let (Building::Time(times), b'"') = (&mut **building, payload[at]) {
        let end = text_end(payload, at + 1)?;
        times.push(days.time(&payload[at + 1..end], *zone).ok()?);
        return Some(end + 1);
    }
    let (found, end) = other_than_text(payload, at)?;
    match found.as_value(*column_type, *zone).ok()? {
        Value::Null => None,
        value => {
            building.push(value);
            Some(end)
        }
    }
}
