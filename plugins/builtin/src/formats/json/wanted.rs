//! Values that columns want, read without a JSON parser.

use super::values::{other_than_text, short_float, text_end};
use crate::formats::building::{Building, SHORT, Texts};
use crate::formats::eight::plain_bytes;
use crate::formats::rows::{Making, Row};
use crate::formats::value::Value;

/// Reads the value at a place for a column of the row; gives the place behind it.
#[inline]
pub(super) fn wanted(payload: &[u8], at: usize, column: usize, row: &mut Row) -> Option<usize> {
    row.set_with(column, |mut making| value(payload, at, &mut making))
}

/// Reads the value at a place and adds it to a column; gives the place behind it. None, too, for a null that may not be.
#[inline(always)]
pub(super) fn value(payload: &[u8], at: usize, making: &mut Making<'_>) -> Option<usize> {
    let first = *payload.get(at)?;
    let usual = match (&mut *making.building, first) {
        (Building::Text(texts), b'"') => return text(payload, at, texts),
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

#[inline(never)]
fn unusual(payload: &[u8], at: usize, making: &mut Making<'_>) -> Option<usize> {
    let Making { building, column_type, is_nullable, days, zone } = making;
    if let (Building::Time(times), b'"') = (&mut **building, payload[at]) {
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
