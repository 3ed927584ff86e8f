//! Values that columns want, read without a JSON parser.

use super::values::{other_than_text, short_float, text_end};
use crate::formats::building::{Building, SHORT, Texts, Values};
use crate::formats::eight::plain_bytes;
use crate::formats::rows::{Making, Row};
use crate::formats::time::DayReader;
use crate::formats::value::Value;

/// Reads the value at a place for a column of the row; gives the place behind it. None, too, for a null that may not be.
#[inline]
pub(super) fn wanted(payload: &[u8], at: usize, column: usize, row: &mut Row) -> Option<usize> {
    row.set_with(column, |mut making| {
        let usual = match &mut *making.building {
            Building::Text(texts) => text(payload, at, texts),
            Building::Float(values) => float(payload, at, values),
            Building::Time(times) => time(payload, at, times, making.days),
            _ => None,
        };
        usual.or_else(|| unusual(payload, at, &mut making))
    })
}

/// Reads a number of the usual length.
#[inline(always)]
pub(super) fn float(payload: &[u8], at: usize, values: &mut Values<f64>) -> Option<usize> {
    let (value, end) = short_float(payload, at)?;
    values.push(value);
    Some(end)
}

/// Reads a time of the usual form.
#[inline(always)]
pub(super) fn time(payload: &[u8], at: usize, times: &mut Values<i64>, days: &DayReader) -> Option<usize> {
    if *payload.get(at)? != b'"' {
        return None;
    }
    let (time, end) = days.quoted(payload, at + 1)?;
    times.push(time);
    Some(end)
}

/// Reads the text at a place.
#[inline(always)]
pub(super) fn text(payload: &[u8], at: usize, texts: &mut Texts) -> Option<usize> {
    let (quote, rest) = payload.get(at..)?.split_first()?;
    if *quote != b'"' {
        return None;
    }
    let start = at + 1;
    // Nearly all are short, and end within what is looked at and copied at once.
    if let Some(near) = rest.first_chunk::<SHORT>() {
        let (first, second) = (near.first_chunk()?, near.last_chunk()?);
        let length = match plain_bytes(first) {
            16 => 16 + plain_bytes(second),
            length => length,
        };
        if near.get(length) == Some(&b'"') {
            texts.push_short(near, length);
            return Some(start + length + 1);
        }
    }
    let end = text_end(payload, start)?;
    texts.push(payload, start, end);
    Some(end + 1)
}

/// Reads a value that is none of the usual ones of its column.
#[inline(never)]
pub(super) fn unusual(payload: &[u8], at: usize, making: &mut Making<'_>) -> Option<usize> {
    let Making { building, column_type, is_nullable, days, zone } = making;
    if let (Building::Time(times), b'"') = (&mut **building, *payload.get(at)?) {
        let end = text_end(payload, at + 1)?;
        times.push(days.time(&payload[at + 1..end], *zone).ok()?);
        return Some(end + 1);
    }
    let (found, end) = other_than_text(payload, at)?;
    match found.as_value(*column_type, *zone).ok()? {
        Value::Null if !*is_nullable => None,
        value => {
            building.push(value);
            Some(end)
        }
    }
}
