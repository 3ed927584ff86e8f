//! What a value of a row becomes in SQLite.

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use pipeline_stage::{Cell, Timestamp};

/// Whether a value can be stored as it is; the error says why not.
pub fn check(cell: &Cell<'_>) -> Result<(), String> {
    match cell {
        Cell::Float(value) if value.is_nan() => Err("is not a number (NaN), which SQLite cannot store".into()),
        Cell::Time(time) if text_of(*time).is_none() => Err(format!("{time} is outside of the years 0000 to 9999")),
        Cell::Other(_) => Err("is of a type that SQLite cannot store".into()),
        _ => Ok(()),
    }
}

/// A time as SQLite's own functions write it, in UTC, always with six decimals: `2025-07-20 08:19:16.412000`.
///
/// In this form the order of the texts is that of the times, and texts can be compared with `datetime('now')`. None
/// outside of the years 0000 to 9999.
pub fn text_of(time: Timestamp) -> Option<String> {
    let time = DateTime::from_timestamp_micros(time.0)?;
    let year = u32::try_from(time.year()).ok().filter(|year| *year <= 9999)?;
    let mut text = String::with_capacity(26);
    for (number, width, after) in [
        (year, 4, '-'),
        (time.month(), 2, '-'),
        (time.day(), 2, ' '),
        (time.hour(), 2, ':'),
        (time.minute(), 2, ':'),
        (time.second(), 2, '.'),
    ] {
        push_digits(number, width, &mut text);
        text.push(after);
    }
    push_digits(time.nanosecond() / 1_000, 6, &mut text);
    Some(text)
}

/// What stands for a time that has no text: one before or after all that have one, in their order.
pub fn edge_of(time: Timestamp) -> &'static str {
    match time {
        Timestamp(..0) => "",
        // The character after `9`.
        _ => ":",
    }
}

/// The time of a text, as [`text_of`] writes it, or another program: with fewer decimals, and with `T` and `Z`.
pub fn time_of(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f"));
    Some(Timestamp(time.ok()?.and_utc().timestamp_micros()))
}

fn push_digits(number: u32, width: u32, text: &mut String) {
    for power in (0..width).rev() {
        let digit = number / 10u32.pow(power) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_text_that_sorts() {
        let times = [
            (-62_167_219_200_000_000, "0000-01-01 00:00:00.000000"),
            (-1, "1969-12-31 23:59:59.999999"),
            (0, "1970-01-01 00:00:00.000000"),
            (1_752_999_556_412_000, "2025-07-20 08:19:16.412000"),
            (253_402_300_799_999_999, "9999-12-31 23:59:59.999999"),
        ];
        for (micros, text) in times {
            assert_eq!(text_of(Timestamp(micros)).as_deref(), Some(text));
            assert_eq!(time_of(text), Some(Timestamp(micros)));
            assert!(edge_of(Timestamp(i64::MIN)) < text && text < edge_of(Timestamp(i64::MAX)));
        }
        assert!(times.is_sorted_by_key(|(_, text)| text));
    }

    #[test]
    fn times_of_other_programs_are_read() {
        for text in ["1970-01-01 00:00:01", "1970-01-01T00:00:01.0", "1970-01-01T00:00:01.000000Z"] {
            assert_eq!(time_of(text), Some(Timestamp(1_000_000)), "{text}");
        }
        assert_eq!(time_of("yesterday"), None);
    }

    #[test]
    fn refuses_what_sqlite_would_change() {
        for cell in [
            Cell::Float(f64::NAN),
            Cell::Time(Timestamp(-62_167_219_200_000_001)),
            Cell::Time(Timestamp(253_402_300_800_000_000)),
            Cell::Time(Timestamp(i64::MAX)),
        ] {
            assert!(check(&cell).is_err(), "{cell:?}");
        }
        for cell in [Cell::Null, Cell::Text("\0"), Cell::Float(f64::INFINITY), Cell::Integer(i64::MIN)] {
            assert!(check(&cell).is_ok(), "{cell:?}");
        }
    }
}
