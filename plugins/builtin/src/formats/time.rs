//! Moments, as text and as numbers.

use chrono::{NaiveDate, NaiveTime, Timelike};
use pipeline_stage::Zone;

use super::eight::{clock, count_digits, eight_at, number_of_digits};

/// 0000-01-01T00:00:00Z: RFC 3339 has no year before 0.
const EARLIEST_MICROS: i64 = -62_167_219_200_000_000;
/// 9999-12-31T23:59:59.999999Z: RFC 3339 has no year after 9999.
const LATEST_MICROS: i64 = 253_402_300_799_999_999;

/// Numbers below this are seconds (up to the year 5138), numbers from it on milliseconds (from 1973 on).
const FIRST_MILLISECONDS: f64 = 1e11;

/// Why something is not a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotATime {
    /// It is not written like one.
    Form,
    /// It is before the year 0 or after the year 9999.
    Range,
}

/// Microseconds since 1970 of a text: RFC 3339, with what ISO 8601 and databases make of it.
///
/// `2025-07-20T08:19:16.25+02:00`; a space for the `T`; no seconds; a comma before the decimals; the zone as `Z`,
/// `+02:00`, `+0200`, `+02` or none, which means `zone`; the date alone, which means its midnight. Decimals beyond
/// microseconds are cut off. The second 60 is the first of the next minute.
pub(crate) fn time_of_text(text: &str, zone: Zone) -> Result<i64, NotATime> {
    time_of_bytes(text.as_bytes(), zone)
}

/// The same of a text's bytes.
pub(crate) fn time_of_bytes(text: &[u8], zone: Zone) -> Result<i64, NotATime> {
    let mut rest = Rest(text);
    let (date, time) = date_and_time(&mut rest).ok_or(NotATime::Form)?;
    let east = match rest.zone().ok_or(NotATime::Form)? {
        Some(seconds) => seconds,
        None => match zone {
            Zone::Utc => 0,
            Zone::Fixed(seconds) => seconds,
        },
    };
    in_range(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros() + time - i64::from(east) * 1_000_000)
}

/// Reads many texts of the same day, as they come from sensors: its midnight is computed once.
#[derive(Debug)]
pub(crate) struct DayReader {
    /// As it is written: `2025-07-20`.
    day: [u8; 10],
    midnight: i64,
}

impl Default for DayReader {
    fn default() -> Self {
        DayReader { day: *b"1970-01-01", midnight: 0 }
    }
}

impl DayReader {
    /// The same as [`time_of_bytes`].
    #[inline]
    pub fn time(&mut self, text: &[u8], zone: Zone) -> Result<i64, NotATime> {
        if let Some((day, time)) = text.split_first_chunk::<10>() {
            if *day == self.day
                && let Some((micros, [])) = micros_of_day(time)
            {
                return Ok(self.midnight + micros);
            }
            if let Ok(midnight) = time_of_bytes(day, Zone::Utc) {
                (self.day, self.midnight) = (*day, midnight);
            }
        }
        time_of_bytes(text, zone)
    }

    /// Reads the time that stands between a quote and the next one, and gives the place behind that. None when it is not of
    /// the day of the last one, or not in the usual form: then [`Self::time`] has to be asked.
    #[inline]
    pub fn quoted(&self, source: &[u8], start: usize) -> Option<(i64, usize)> {
        // `2025-07-20T08:19:16.`: of a known length, so that the places in it are known to be there.
        let head = source.get(start..)?.first_chunk::<20>()?;
        if head[..10] != self.day || head[10] != b'T' {
            return None;
        }
        let seconds = seconds_of_day(eight_at(head, 11)?)?;
        let (micros, end) = match head[19] {
            b'.' => {
                let (micros, n_digits) = micros_of_decimals(source.get(start + 20..)?)?;
                (micros, start + 20 + n_digits)
            }
            _ => (0, start + 19),
        };
        let end = match source.get(end..)? {
            [b'Z', b'"', ..] => end + 2,
            [b'+', b'0', b'0', b':', b'0', b'0', b'"', ..] => end + 7,
            _ => return None,
        };
        Some((self.midnight + seconds * 1_000_000 + micros, end))
    }
}

/// Microseconds of `T08:19:16.25Z`, or with `+00:00`, and what follows. None for what is written in another way, and for
/// leap seconds.
#[inline]
fn micros_of_day(time: &[u8]) -> Option<(i64, &[u8])> {
    let (b'T', time) = time.split_first()? else { return None };
    let seconds = seconds_of_day(eight_at(time, 0)?)?;
    let (micros, rest) = match &time[8..] {
        [b'.', decimals @ ..] => {
            let (micros, n_digits) = micros_of_decimals(decimals)?;
            (micros, &decimals[n_digits..])
        }
        rest => (0, rest),
    };
    let rest = rest.strip_prefix(b"Z").or_else(|| rest.strip_prefix(b"+00:00"))?;
    Some((seconds * 1_000_000 + micros, rest))
}

#[inline]
fn seconds_of_day(time: u64) -> Option<i64> {
    let (hour, minute, second) = clock(time)?;
    Some((hour * 3_600 + minute * 60 + second) as i64)
}

fn n_digits_at(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Microseconds, from at least one decimal of a second, and how many decimals there are.
#[inline]
fn micros_of_decimals(decimals: &[u8]) -> Option<(i64, usize)> {
    /// By which number so many decimals are multiplied.
    const UNITS: [i64; 7] = [0, 100_000, 10_000, 1_000, 100, 10, 1];
    if let Some(near) = eight_at(decimals, 0)
        && let n_digits @ 1.. = count_digits(near)
    {
        let (n_read, n_more) = (n_digits.min(6), if n_digits == 8 { n_digits_at(&decimals[8..]) } else { 0 });
        return Some((number_of_digits(near, n_read) as i64 * UNITS[n_read], n_digits + n_more));
    }
    let n_digits = n_digits_at(decimals);
    let digit = |place: usize| decimals[..n_digits].get(place).map_or(0, |byte| i64::from(byte - b'0'));
    let micros = (0..6).fold(0, |micros, place| micros * 10 + digit(place));
    (0 < n_digits).then_some((micros, n_digits))
}

/// Microseconds since 1970 of a whole number of seconds or milliseconds.
pub(crate) fn time_of_integer(number: i64) -> Result<i64, NotATime> {
    let is_seconds = (number.unsigned_abs() as f64) < FIRST_MILLISECONDS;
    let factor = if is_seconds { 1_000_000 } else { 1_000 };
    in_range(number.checked_mul(factor).ok_or(NotATime::Range)?)
}

/// Microseconds since 1970 of a number of seconds or milliseconds with decimals, rounded to the nearest.
pub(crate) fn time_of_float(number: f64) -> Result<i64, NotATime> {
    let is_seconds = number.abs() < FIRST_MILLISECONDS;
    let micros = number * if is_seconds { 1e6 } else { 1e3 };
    // A cast of what is too large gives the largest integer, which is out of range too.
    in_range(micros.round() as i64)
}

fn in_range(micros: i64) -> Result<i64, NotATime> {
    match (EARLIEST_MICROS..=LATEST_MICROS).contains(&micros) {
        true => Ok(micros),
        false => Err(NotATime::Range),
    }
}

/// The date and the microseconds since its midnight.
fn date_and_time(rest: &mut Rest<'_>) -> Option<(NaiveDate, i64)> {
    let year = rest.number(4)?;
    let (month, day) = (rest.after(b"-")?.number(2)?, rest.after(b"-")?.number(2)?);
    let date = NaiveDate::from_ymd_opt(year as i32, month, day)?;
    if rest.0.is_empty() {
        return Some((date, 0));
    }
    let (hour, minute) = (rest.after(b"Tt ")?.number(2)?, rest.after(b":")?.number(2)?);
    let second = match rest.after(b":") {
        Some(rest) => rest.number(2)?,
        None => 0,
    };
    let micros = match rest.after(b".,") {
        Some(rest) => rest.decimals()?,
        None => 0,
    };
    let is_leap_second = second == 60;
    let time = NaiveTime::from_hms_opt(hour, minute, if is_leap_second { 59 } else { second })?;
    let seconds = i64::from(time.num_seconds_from_midnight()) + i64::from(is_leap_second);
    Some((date, seconds * 1_000_000 + i64::from(micros)))
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Skips one byte, if it is one of these.
    fn after(&mut self, any_of: &[u8]) -> Option<&mut Self> {
        let (first, rest) = self.0.split_first()?;
        any_of.contains(first).then(|| {
            self.0 = rest;
            self
        })
    }

    /// A number of so many digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    }

    /// Microseconds, from at least one decimal of a second.
    fn decimals(&mut self) -> Option<u32> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (decimals, rest) = self.0.split_at(count);
        self.0 = rest;
        let six = (0..6).map(|i| decimals.get(i).map_or(0, |byte| u32::from(byte - b'0')));
        (0 < count).then(|| six.fold(0, |sum, digit| sum * 10 + digit))
    }

    /// The zone in seconds east of Greenwich, none if there is none; all must be read then.
    fn zone(&mut self) -> Option<Option<i32>> {
        if self.0.is_empty() {
            return Some(None);
        }
        if self.after(b"Zz").is_some() {
            return self.0.is_empty().then_some(Some(0));
        }
        // PostgreSQL and Python's `print` may leave a space before the sign.
        self.after(b" ");
        let sign = match self.0.first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.after(b"+-");
        let hours = self.number(2)?;
        self.after(b":");
        let minutes = if self.0.is_empty() { 0 } else { self.number(2)? };
        let is_whole = self.0.is_empty() && hours < 24 && minutes < 60;
        is_whole.then_some(Some(sign * (hours * 3_600 + minutes * 60) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORNING: i64 = 1_752_999_556_000_000;

    #[test]
    fn reads_moments_as_they_are_written() {
        for (text, micros) in [
            ("2025-07-20T08:19:16Z", MORNING),
            ("2025-07-20t08:19:16z", MORNING),
            ("2025-07-20 08:19:16+00:00", MORNING),
            ("2025-07-20 08:19:16 +00", MORNING),
            ("2025-07-20T10:19:16+0200", MORNING),
            ("2025-07-20T02:49:16-05:30", MORNING),
            ("2025-07-20T08:19:16", MORNING),
            ("2025-07-20T08:19:16.5", MORNING + 500_000),
            ("2025-07-20T08:19:16,123456789Z", MORNING + 123_456),
            ("2025-07-20 08:19", MORNING - 16_000_000),
            ("2025-07-20", MORNING - 29_956_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("0000-01-01T00:00:00Z", EARLIEST_MICROS),
            ("9999-12-31T23:59:59.999999Z", LATEST_MICROS),
            ("2024-02-29", 1_709_164_800_000_000),
        ] {
            assert_eq!(time_of_text(text, Zone::Utc), Ok(micros), "{text}");
        }
    }

    #[test]
    fn many_of_one_day_are_read_as_one_alone() {
        let (mut days, mut n_quoted) = (DayReader::default(), 0);
        let texts = [
            "2025-07-20T08:19:16Z",
            "2025-07-20T23:59:59.999999999Z",
            "2025-07-20T23:59:59.9999999Z",
            "2025-07-20T23:59:59.12345678+00:00",
            "2025-07-20T23:59:59.999999Z",
            "2025-07-20T23:59:59.123Z",
            "2025-07-20T00:00:00.5+00:00",
            "2025-07-20T08:19:16.Z",
            "2025-07-20T24:00:00Z",
            "2025-07-20T08:60:00Z",
            "2025-07-20T08:19:60Z",
            "2025-07-20T08:19:16",
            "2025-07-20T08:19:16+02:00",
            "2025-07-20T08:19",
            "2025-07-20",
            "2025-07-2",
            "2025-07-20T0x:19:16Z",
            "2025-07-20 08:19:16Z",
            "2025-02-30T08:19:16Z",
            "2024-02-29T08:19:16Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ];
        for text in texts.iter().chain(texts.iter().rev()) {
            for _ in 0..2 {
                let alone = time_of_text(text, Zone::Fixed(7_200));
                for behind in ["\"", "\", \"more\": 12345678", "1\"", ""] {
                    let (found, quoted) = (days.quoted(format!("\"{text}{behind}").as_bytes(), 1), (text.len() + 2));
                    assert!(
                        found.is_none() || (found == alone.ok().map(|time| (time, quoted)) && behind.starts_with('"'))
                    );
                    n_quoted += usize::from(found.is_some());
                }
                assert_eq!(days.time(text.as_bytes(), Zone::Fixed(7_200)), alone, "{text}");
            }
        }
        assert!(20 < n_quoted, "{n_quoted}");
    }

    #[test]
    fn a_time_without_a_zone_is_local() {
        let zone = Zone::Fixed(7_200);
        assert_eq!(time_of_text("2025-07-20T10:19:16", zone), Ok(MORNING));
        assert_eq!(time_of_text("2025-07-20T08:19:16Z", zone), Ok(MORNING));
        assert_eq!(time_of_text("1970-01-01", zone), Ok(-7_200_000_000));
    }

    #[test]
    fn refuses_what_is_no_moment() {
        for text in [
            "",
            "now",
            "2025",
            "2025-07",
            "2025-13-01",
            "2025-02-29",
            "20250720",
            "25-07-20",
            "2025-07-20T",
            "2025-07-20T24:00:00",
            "2025-07-20T08:60:00",
            "2025-07-20T08:19:61",
            "2025-07-20T08:19:16.",
            "2025-07-20T08:19:16 ",
            "2025-07-20T08:19:16UTC",
            "2025-07-20T08:19:16+",
            "2025-07-20T08:19:16+2",
            "2025-07-20T08:19:16+24:00",
            "2025-07-20T08:19:16+02:00x",
            "2025-07-20T08:19:16ZZ",
            "+2025-07-20",
            "-001-01-01",
            "10000-01-01",
            "２０２５-07-20",
        ] {
            assert_eq!(time_of_text(text, Zone::Utc), Err(NotATime::Form), "{text}");
        }
        for text in ["0000-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:60Z"] {
            assert_eq!(time_of_text(text, Zone::Utc), Err(NotATime::Range), "{text}");
        }
    }

    #[test]
    fn numbers_are_seconds_or_milliseconds_by_their_size() {
        for (number, micros) in [
            (1_752_999_556, Ok(MORNING)),
            (1_752_999_556_000, Ok(MORNING)),
            (99_999_999_999, Ok(99_999_999_999_000_000)),
            (100_000_000_000, Ok(100_000_000_000_000)),
            (-1, Ok(-1_000_000)),
            // Microseconds are not guessed: as milliseconds they are far in the future.
            (1_752_999_556_000_000, Err(NotATime::Range)),
            (i64::MAX, Err(NotATime::Range)),
            (i64::MIN, Err(NotATime::Range)),
        ] {
            assert_eq!(time_of_integer(number), micros, "{number}");
            assert_eq!(time_of_float(number as f64), micros, "{number}");
        }
        assert_eq!(time_of_float(1_752_999_556.25), Ok(MORNING + 250_000));
        assert_eq!(time_of_float(1e300), Err(NotATime::Range));
        assert_eq!(time_of_float(-1e300), Err(NotATime::Range));
    }
}
