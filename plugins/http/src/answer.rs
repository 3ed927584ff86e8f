//! What an answer of the other side means for an alert.
//!
//! | answer | meaning | the alert |
//! |---|---|---|
//! | 2xx | taken | is delivered |
//! | 408, 425, 429, 5xx | later | waits, as long as `Retry-After` says |
//! | 3xx, 401, 403, 404, 405, 407, 410 | the address, or the right to use it, is wrong for every alert | waits until somebody has mended it |
//! | other 4xx | this alert is not understood | becomes a dead letter, with the answer's words |

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use pipeline_stage::{StageError, printable};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// No answer may silence us for longer, whatever its `Retry-After` says.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// How often an address that does not work is tried: soon enough after it was mended, too seldom to annoy anybody.
const MISDIRECTED_PAUSE: Duration = Duration::from_secs(60);

/// The longest text of an answer that is repeated in an error, in characters.
const MAX_WORDS: usize = 300;

/// Judges an answer that is not a success. `host` and `body` stand in the message: they must hold no secret.
pub fn refusal(host: &str, status: StatusCode, headers: &HeaderMap, body: &str) -> StageError {
    let mut message = in_words(host, status, body);
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => {
            let error = StageError::transient(message);
            match retry_after(headers) {
                Some(pause) => error.retry_after(pause),
                None => error,
            }
        }
        300..=399 => {
            message.push_str("; redirects are not followed: the URL must name the place itself");
            StageError::transient(message).retry_after(MISDIRECTED_PAUSE)
        }
        401 | 403 | 404 | 405 | 407 | 410 => {
            message.push_str(
                "; alerts wait until the URL works again: it may have been revoked, or what it posts to is gone",
            );
            StageError::transient(message).retry_after(MISDIRECTED_PAUSE)
        }
        _ => StageError::data(message),
    }
}

/// What was answered, in words. `host` and `body` must hold no secret.
pub fn in_words(host: &str, status: StatusCode, body: &str) -> String {
    match body.trim() {
        "" => format!("`{host}` answered {status}"),
        body => format!("`{host}` answered {status}: `{}`", printable(body, MAX_WORDS)),
    }
}

/// How long the other side wants to be left alone, if it says so; at most an hour.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    pause_of(headers, Utc::now())
}

/// How long to wait: `Retry-After` has seconds or a date. A date is compared with the answer's own `Date`, if it has
/// one: the clocks of the two sides may differ.
fn pause_of(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wanted = text(RETRY_AFTER)?;
    if !wanted.is_empty() && wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than 64 bits hold are a long time, too.
        let seconds = wanted.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_PAUSE));
    }
    let now = text(DATE).and_then(http_date).unwrap_or(now);
    let pause = (http_date(wanted)? - now).to_std().unwrap_or(Duration::ZERO);
    Some(pause.min(LONGEST_PAUSE))
}

/// A date in one of the three forms that RFC 9110 names.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .into_iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use pipeline_stage::ErrorKind;
    use reqwest::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn pauses_are_seconds_or_dates() {
        let now = http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap();
        for (value, seconds) in [
            ("37", Some(37)),
            (" 0 ", Some(0)),
            ("99999999999999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:00:00 GMT", None),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(3_600)),
            ("-5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let pause = pause_of(&headers(&[("retry-after", value)]), now);
            assert_eq!(pause, seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(pause_of(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_date_is_compared_with_the_clock_of_the_other_side() {
        let now = http_date("Sun, 06 Nov 1994 11:00:00 GMT").unwrap();
        let both =
            headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:30 GMT")]);
        assert_eq!(pause_of(&both, now), Some(Duration::from_secs(7)));
    }

    #[test]
    fn every_answer_has_its_meaning() {
        let pause = Duration::from_secs(60);
        for (status, kind, expected) in [
            (301, ErrorKind::Transient, Some(pause)),
            (400, ErrorKind::Data, None),
            (403, ErrorKind::Transient, Some(pause)),
            (404, ErrorKind::Transient, Some(pause)),
            (408, ErrorKind::Transient, Some(Duration::from_secs(5))),
            (410, ErrorKind::Transient, Some(pause)),
            (413, ErrorKind::Data, None),
            (422, ErrorKind::Data, None),
            (429, ErrorKind::Transient, Some(Duration::from_secs(5))),
            (500, ErrorKind::Transient, Some(Duration::from_secs(5))),
            (503, ErrorKind::Transient, Some(Duration::from_secs(5))),
        ] {
            let answer = headers(&[("retry-after", "5")]);
            let error = refusal("h", StatusCode::from_u16(status).unwrap(), &answer, "");
            assert_eq!((error.kind(), error.pause()), (kind, expected), "{status}");
        }
    }

    #[test]
    fn the_words_of_the_answer_are_repeated_safely() {
        let error = refusal("h", StatusCode::BAD_REQUEST, &HeaderMap::new(), "invalid\u{1b}[2J\nblocks\n");
        assert_eq!(error.to_string(), r"`h` answered 400 Bad Request: `invalid\u{1b}[2J\nblocks`");
    }
}
