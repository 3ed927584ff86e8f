//! Digits eight bytes at a time, texts sixteen: what that costs does not depend on how many they are, so nothing is guessed
//! wrongly.
//!
//! Digits are numbers of 64 bits whose lowest byte is the first one (little endian).

use wide::{i8x16, u8x16};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;

/// The eight bytes at a place, if there are as many.
#[inline]
pub(crate) fn eight_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// How many digits the bytes begin with.
#[inline]
pub(crate) fn count_digits(bytes: u64) -> usize {
    let values = digit_values(bytes);
    // Adding this sets the highest bit of a byte from ten on, without a carry into the next one.
    let others = (values | ((values & !HIGHS) + 0x76 * ONES)) & HIGHS;
    (others.trailing_zeros() / 8) as usize
}

/// The number that the first digits are, at least one of them.
#[inline]
pub(crate) fn number_of_digits(bytes: u64, n_digits: usize) -> u64 {
    debug_assert!((1..=8).contains(&n_digits));
    // Behind zeros, so that there are eight. Then pairs, fours and all eight become one number each (Lemire, "Number
    // parsing at a gigabyte per second", 2021).
    let digits = digit_values(bytes) << (64 - 8 * n_digits);
    let pairs = digits.wrapping_mul(10) + (digits >> 8);
    const PAIR: u64 = 0x0000_00ff_0000_00ff;
    const FIRST_AND_THIRD: u64 = 100 + (1_000_000 << 32);
    const SECOND_AND_FOURTH: u64 = 1 + (10_000 << 32);
    let first_and_third = (pairs & PAIR).wrapping_mul(FIRST_AND_THIRD);
    let second_and_fourth = (pairs >> 16 & PAIR).wrapping_mul(SECOND_AND_FOURTH);
    first_and_third.wrapping_add(second_and_fourth) >> 32
}

/// What each byte is worth as a digit; ten or more when it is none.
#[inline]
fn digit_values(bytes: u64) -> u64 {
    bytes ^ (b'0' as u64 * ONES)
}

/// How many bytes of a text there are before the first quote, backslash, control character or part of a character that is
/// not ASCII.
#[inline]
pub(crate) fn plain_bytes(bytes: &[u8; 16]) -> usize {
    (are_special(bytes).to_bitmask() | 1 << 16).trailing_zeros() as usize
}

/// How many bytes there are in the whole blocks of 32 before the first one that has any such byte.
#[inline]
pub(crate) fn plain_blocks(bytes: &[u8]) -> usize {
    let (halves, _) = bytes.as_chunks::<16>();
    let (blocks, _) = halves.as_chunks::<2>();
    let is_plain = |[first, second]: &&[[u8; 16]; 2]| (are_special(first) | are_special(second)).none();
    32 * blocks.iter().take_while(is_plain).count()
}

/// All bits of each byte that is special in a text.
#[inline]
fn are_special(bytes: &[u8; 16]) -> u8x16 {
    let bytes = u8x16::new(*bytes);
    // As signed numbers, what is not ASCII lies below the control characters.
    let below = bytes.cast_signed().simd_lt(i8x16::splat(0x20)).cast_unsigned();
    bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | below
}

/// Hours, minutes and seconds of `08:19:16`. None for what is not written so, and for what no clock shows.
#[inline]
pub(crate) fn clock(bytes: u64) -> Option<(u64, u64, u64)> {
    const FORM: u64 = u64::from_le_bytes(*b"00:00:00");
    const DIGITS: u64 = 0x0f0f_000f_0f00_0f0f;
    const ABOVE_NINE: u64 = 0x0606_0006_0600_0606;
    let values = bytes ^ FORM;
    if (values | ((values & DIGITS) + ABOVE_NINE)) & !DIGITS != 0 {
        return None;
    }
    let pairs = values.wrapping_mul(10) + (values >> 8);
    let (hour, minute, second) = (pairs & 0xff, pairs >> 24 & 0xff, pairs >> 48 & 0xff);
    (hour < 24 && minute < 60 && second < 60).then_some((hour, minute, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eight(text: &str) -> u64 {
        eight_at(text.as_bytes(), 0).unwrap()
    }

    #[test]
    fn digits_are_counted_and_read_whatever_follows_them() {
        for n_digits in 0..=8 {
            for other in 0..=255u8 {
                let mut bytes = *b"90817263";
                bytes[n_digits..].fill(other);
                if other.is_ascii_digit() && n_digits < 8 {
                    continue;
                }
                let bytes = u64::from_le_bytes(bytes);
                assert_eq!(count_digits(bytes), n_digits, "{other}");
                if 0 < n_digits {
                    let right: u64 = "90817263"[..n_digits].parse().unwrap();
                    assert_eq!(number_of_digits(bytes, n_digits), right, "{other}");
                }
            }
        }
        assert_eq!(number_of_digits(eight("99999999"), 8), 99_999_999);
        assert_eq!(eight_at(b"1234567", 0), None);
        assert_eq!(eight_at(b"12345678", 1), None);
    }

    #[test]
    fn plain_blocks_end_before_the_one_with_a_byte_that_is_special() {
        let plain = b" !#[]~\x7f0aZ".repeat(10);
        assert_eq!((plain_blocks(&plain), plain_blocks(&plain[..31])), (96, 0));
        for place in 0..plain.len() {
            for special in (0..0x20).chain([b'"', b'\\']).chain(0x80..=0xff) {
                let mut bytes = plain.clone();
                bytes[place] = special;
                assert_eq!(plain_blocks(&bytes), (place / 32 * 32).min(96), "{special} at {place}");
            }
        }
    }

    #[test]
    fn plain_bytes_end_before_the_first_that_is_special() {
        let is_plain =
            |byte: u8| byte.is_ascii() && !byte.is_ascii_control() && byte != b'"' && byte != b'\\' || byte == 0x7f;
        for place in 0..16 {
            for byte in 0..=255u8 {
                for behind in [b'x', b'"', 0, b'!', b'#', 0x1f, 0x80, byte.wrapping_add(1)] {
                    let mut bytes = *b"0123456789abcdef";
                    bytes[place..].fill(behind);
                    bytes[place] = byte;
                    let right = bytes.iter().take_while(|byte| is_plain(**byte)).count();
                    assert_eq!(plain_bytes(&bytes), right, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn clocks_are_read_and_nothing_else() {
        for (text, time) in [
            ("08:19:16", Some((8, 19, 16))),
            ("23:59:59", Some((23, 59, 59))),
            ("24:00:00", None),
            ("00:60:00", None),
            ("00:00:60", None),
        ] {
            assert_eq!(clock(eight(text)), time, "{text}");
        }
        for place in 0..8 {
            for other in 0..=255u8 {
                let mut bytes = *b"00:00:00";
                bytes[place] = other;
                let is_good = if place % 3 == 2 { other == b':' } else { other.is_ascii_digit() };
                // Tens of hours go to 2, those of minutes and seconds to 5.
                let is_good = is_good && (place % 3 != 0 || other <= if place == 0 { b'2' } else { b'5' });
                assert_eq!(clock(u64::from_le_bytes(bytes)).is_some(), is_good, "{other} at {place}");
            }
        }
    }
}
