//! Single JSON values that are neither objects nor arrays, checked byte by byte (RFC 8259, sections 3, 6 and 7).
//!
//! What is unusual (escapes in a text, whole numbers of more than 18 digits) is not read here: that is for the JSON parser.

use crate::formats::eight::{count_digits, eight_at, number_of_digits, plain_blocks, plain_bytes};
use crate::formats::value::Found;

/// The value at a place, which is no text, as the JSON parser would give it, and the place behind it. None: there is none,
/// or it is unusual.
#[inline]
pub(super) fn other_than_text(payload: &[u8], at: usize) -> Option<(Found<'static>, usize)> {
    match payload.get(at)? {
        b't' => word(payload, at, b"true", Found::Boolean(true)),
        b'f' => word(payload, at, b"false", Found::Boolean(false)),
        b'n' => word(payload, at, b"null", Found::Null),
        _ => {
            let digits = Digits::read(payload, at)?;
            Some((digits.value(payload)?, digits.end))
        }
    }
}

/// The place behind the value at a place, which nobody wants to know.
pub(super) fn skip(payload: &[u8], at: usize) -> Option<usize> {
    match payload.get(at)? {
        b'"' => text_end(payload, at + 1).map(|end| end + 1),
        b't' | b'f' | b'n' => other_than_text(payload, at).map(|(_, end)| end),
        _ => Digits::read(payload, at).map(|digits| digits.end),
    }
}

fn word(payload: &[u8], at: usize, word: &[u8], found: Found<'static>) -> Option<(Found<'static>, usize)> {
    payload[at..].starts_with(word).then(|| (found, at + word.len()))
}

/// Where the text ends that begins at a place. None for one with escapes or control characters, or that is not UTF-8.
pub(super) fn text_end(payload: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut is_ascii) = (start, true);
    while let Some(near) = payload.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        let n_plain = plain_bytes(near);
        at += n_plain;
        match near.get(n_plain) {
            // A long one: what comes next need not wait for this count.
            None => at += plain_blocks(&payload[at..]),
            Some(b'"') => return is_text(payload, start, at, is_ascii),
            Some(0x80..) => (at, is_ascii) = (at + 1, false),
            Some(_) => return None,
        }
    }
    loop {
        match payload.get(at)? {
            b'"' => return is_text(payload, start, at, is_ascii),
            b'\\' | 0..0x20 => return None,
            byte => is_ascii &= byte.is_ascii(),
        }
        at += 1;
    }
}

#[inline]
fn is_text(payload: &[u8], start: usize, end: usize, is_ascii: bool) -> Option<usize> {
    (is_ascii || std::str::from_utf8(&payload[start..end]).is_ok()).then_some(end)
}

/// The number at a place as a float, as the JSON parser would give it, and the place behind it. None: there is none, or it
/// does not lie within eight bytes, with what follows, or has an exponent; then [`other_than_text`] has to be asked.
#[inline]
pub(super) fn short_float(payload: &[u8], at: usize) -> Option<(f64, usize)> {
    let is_negative = *payload.get(at)? == b'-';
    let first = at + usize::from(is_negative);
    let near = eight_at(payload, first)?;
    let n_whole = count_digits(near);
    let begins_with_zero = near as u8 == b'0';
    if n_whole == 0 || n_whole == 8 || (begins_with_zero && 1 < n_whole) {
        return None;
    }
    let whole_bits = 8 * n_whole;
    let behind_whole = near >> whole_bits;
    let (number, length) = match behind_whole as u8 {
        b'.' => {
            // Without the point it is one number, whose last byte is no digit.
            let digits = (near & ((1 << whole_bits) - 1)) | (behind_whole >> 8 << whole_bits);
            let n_digits = count_digits(digits);
            if n_digits == n_whole || n_digits == 7 {
                return None;
            }
            (number_of_digits(digits, n_digits) as f64 / TENS[n_digits - n_whole], n_digits + 1)
        }
        _ => (number_of_digits(near, n_whole) as f64, n_whole),
    };
    let has_exponent = (near >> (8 * length)) as u8 | 0x20 == b'e';
    (!has_exponent).then_some((if is_negative { -number } else { number }, first + length))
}

/// A number as it is written.
struct Digits {
    start: usize,
    end: usize,
    is_negative: bool,
    /// All its digits as one number, without the point; wrong when there are more than 18.
    mantissa: u64,
    n_digits: usize,
    /// How many digits stand behind the point; none without a point.
    n_decimals: Option<usize>,
    has_exponent: bool,
}

/// Up to here every whole number is a float.
const MAX_EXACT: u64 = 1 << 53;

/// Powers of ten that are floats without rounding.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl Digits {
    /// Reads a number by the grammar; none when it is not one.
    #[inline]
    fn read(payload: &[u8], start: usize) -> Option<Self> {
        let is_negative = payload.get(start) == Some(&b'-');
        let first = start + usize::from(is_negative);
        let (mut mantissa, mut at) = (0, first);
        digits(payload, &mut at, &mut mantissa);
        let n_whole = at - first;
        if n_whole == 0 || (1 < n_whole && payload[first] == b'0') {
            return None;
        }
        let mut n_decimals = None;
        if payload.get(at) == Some(&b'.') {
            at += 1;
            let first = at;
            digits(payload, &mut at, &mut mantissa);
            n_decimals = Some(at - first).filter(|n_decimals| 0 < *n_decimals);
            n_decimals?;
        }
        let has_exponent = matches!(payload.get(at), Some(b'e' | b'E'));
        if has_exponent {
            at += 1 + usize::from(matches!(payload.get(at + 1), Some(b'+' | b'-')));
            let first = at;
            digits(payload, &mut at, &mut 0);
            if at == first {
                return None;
            }
        }
        let n_digits = n_whole + n_decimals.unwrap_or(0);
        Some(Digits { start, end: at, is_negative, mantissa, n_digits, n_decimals, has_exponent })
    }

    #[inline]
    fn value(&self, payload: &[u8]) -> Option<Found<'static>> {
        let n_decimals = match (self.n_decimals, self.has_exponent) {
            (None, false) => return self.whole(),
            (n_decimals, false) => n_decimals.unwrap_or(0),
            (_, true) => return self.parsed(payload),
        };
        // Both are exact, so their quotient is the nearest float (Clinger, "How to read floating point numbers
        // accurately", 1990).
        if self.n_digits <= 18 && self.mantissa <= MAX_EXACT && n_decimals < TENS.len() {
            let number = self.mantissa as f64 / TENS[n_decimals];
            return Some(Found::Float(if self.is_negative { -number } else { number }));
        }
        self.parsed(payload)
    }

    fn whole(&self) -> Option<Found<'static>> {
        match self.is_negative {
            _ if 18 < self.n_digits => None,
            false => Some(Found::Unsigned(self.mantissa)),
            // The JSON parser makes a float of it.
            true if self.mantissa == 0 => None,
            true => Some(Found::Integer(-(self.mantissa as i64))),
        }
    }

    fn parsed(&self, payload: &[u8]) -> Option<Found<'static>> {
        let number: f64 = std::str::from_utf8(&payload[self.start..self.end]).ok()?.parse().ok()?;
        number.is_finite().then_some(Found::Float(number))
    }
}

/// Reads digits, as many as there are.
#[inline]
fn digits(payload: &[u8], at: &mut usize, number: &mut u64) {
    while let Some(digit) = payload.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_text_wherever_it_stands() {
        for length in 0..120 {
            for before in 0..9 {
                let text = format!("{}{}\" and more", "x".repeat(before), "y".repeat(length));
                assert_eq!(text_end(text.as_bytes(), before), Some(before + length), "{text}");
                let open = &text[..before + length];
                assert_eq!(text_end(open.as_bytes(), before), None, "{open}");
            }
        }
    }

    #[test]
    fn leaves_unusual_texts_to_the_parser() {
        let plain = b"0123456789abcdefghij".repeat(6);
        for place in 0..plain.len() {
            for (special, is_read) in [
                (&b"\\"[..], false),
                (b"\n", false),
                (b"\x1f", false),
                (b"\xff", false),
                ("é".as_bytes(), true),
                (b"\x7f", true),
            ] {
                let text = [&plain[..place], special, &plain[..7], b"\" and more"].concat();
                assert_eq!(text_end(&text, 0).is_some(), is_read, "{text:?}");
            }
        }
    }

    #[test]
    fn short_floats_are_those_of_the_json_parser() {
        let mut n_read = 0;
        for digits in 0..200_000 {
            for n_decimals in 0..=digits % 6 {
                let number = f64::from(digits) / f64::from(10i32.pow(n_decimals));
                let text = format!("{}{number:.*}", if digits % 7 == 3 { "-" } else { "" }, n_decimals as usize);
                for behind in [",         ", "}", "e1        ", "E5,       ", "5,       ", "."] {
                    let found = short_float(format!("{text}{behind}").as_bytes(), 0);
                    let right = (text.parse::<f64>().unwrap().to_bits(), text.len());
                    if behind.starts_with([',', '}'])
                        && let Some((found, end)) = found
                    {
                        assert_eq!((found.to_bits(), end), right, "{text}{behind}");
                        n_read += 1;
                    } else {
                        assert!(found.is_none_or(|(_, end)| end != text.len() || behind == "."), "{text}{behind}");
                    }
                }
            }
        }
        assert!(500_000 < n_read, "{n_read}");
        for bad in ["-", "01      ", "00.5    ", "1.      ", ".5      ", "+1      ", "x       ", "--1     "] {
            assert_eq!(short_float(bad.as_bytes(), 0), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_json_parser() {
        let numbers = [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "5",
            "-5",
            "22.13",
            "-1013.25",
            "0.1",
            "123456789012345678",
            "1234567890123456789",
            "9007199254740993.0",
            "0.30000000000000004",
            "22.133742915487213",
            "1e3",
            "1E-7",
            "-2.5e+10",
            "1e400",
            "1e-400",
            "179769313486231570000.0",
            "0.00000000000000000000001",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e+",
            "--1",
            "1.2.3",
        ];
        for text in numbers {
            let as_float = serde_json::from_str::<f64>(text).ok().map(f64::to_bits);
            let short = short_float(format!("{text}, \"more\"").as_bytes(), 0).filter(|(_, end)| *end == text.len());
            assert!(short.is_none() || short.map(|(number, _)| number.to_bits()) == as_float, "{text}: {short:?}");
            let payload = [text.as_bytes(), b", \"more\": 1"].concat();
            let parsed = serde_json::from_str::<serde_json::Value>(text).ok();
            match (other_than_text(&payload, 0).filter(|(_, end)| *end == text.len()), parsed) {
                (Some((Found::Float(found), _)), Some(right)) => {
                    assert!(right.is_f64() && right.as_f64().map(f64::to_bits) == Some(found.to_bits()), "{text}");
                }
                (Some((Found::Unsigned(found), _)), Some(right)) => {
                    assert_eq!(right.as_u64(), Some(found))
                }
                (Some((Found::Integer(found), _)), Some(right)) => {
                    assert_eq!(right.as_i64(), Some(found))
                }
                (Some(found), right) => panic!("{text}: {found:?}, not {right:?}"),
                (None, _) => {}
            }
        }
    }
}
