//! Numbers in the binary form of PostgreSQL's `numeric`: groups of four decimal digits.

/// The sign word of a number that is not one.
const NAN: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const POSITIVE: u16 = 0x0000;

/// Appends the shortest decimal number that is read back as this float. Infinities must have been refused.
pub fn put_float(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        put_header(0, 0, NAN, 0, out);
        return;
    }
    // `{:e}` gives all digits and no more: `1.25e-7`.
    let text = format!("{:e}", value.abs());
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
    put_decimal(value.is_sign_negative(), &digits, exponent.parse().unwrap_or(0), out);
}

/// Appends a whole number.
pub fn put_integer(value: i64, out: &mut Vec<u8>) {
    let digits: Vec<u8> = value.unsigned_abs().to_string().bytes().map(|digit| digit - b'0').collect();
    put_decimal(value < 0, &digits, digits.len() as i32 - 1, out);
}

/// `exponent` is the power of ten of the first digit.
fn put_decimal(is_negative: bool, digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    if digits.iter().all(|digit| *digit == 0) {
        put_header(0, 0, POSITIVE, 0, out);
        return;
    }
    let weight = exponent.div_euclid(4);
    let n_leading_zeros = 3 - exponent.rem_euclid(4) as usize;
    let padded: Vec<u8> = std::iter::repeat_n(0, n_leading_zeros).chain(digits.iter().copied()).collect();
    let mut groups: Vec<u16> = padded.chunks(4).map(group).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let n_decimals = (digits.len() as i32 - 1 - exponent).max(0);
    let sign = if is_negative { NEGATIVE } else { POSITIVE };
    put_header(groups.len() as u16, weight as i16, sign, n_decimals as u16, out);
    groups.iter().for_each(|group| out.extend(group.to_be_bytes()));
}

/// Up to four digits as a number below 10,000; missing ones are zeros at the end.
fn group(digits: &[u8]) -> u16 {
    (0..4).fold(0, |number, i| number * 10 + u16::from(digits.get(i).copied().unwrap_or(0)))
}

fn put_header(n_groups: u16, weight: i16, sign: u16, n_decimals: u16, out: &mut Vec<u8>) {
    out.extend(n_groups.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(n_decimals.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(put: impl Fn(&mut Vec<u8>)) -> Vec<i16> {
        let mut out = Vec::new();
        put(&mut out);
        out.chunks(2).map(|word| i16::from_be_bytes([word[0], word[1]])).collect()
    }

    /// Groups, weight of the first group, sign, decimals, the groups.
    #[test]
    fn numbers_are_cut_into_groups_at_the_decimal_point() {
        for (value, expected) in [
            (0.0, vec![0, 0, 0, 0]),
            (-0.0, vec![0, 0, 0, 0]),
            (1.0, vec![1, 0, 0, 0, 1]),
            (-12345.678, vec![3, 1, 0x4000, 3, 1, 2345, 6780]),
            (0.0001, vec![1, -1, 0, 4, 1]),
            (0.00001, vec![1, -2, 0, 5, 1000]),
            (10000.0, vec![1, 1, 0, 0, 1]),
            (1e20, vec![1, 5, 0, 0, 1]),
        ] {
            assert_eq!(words(|out| put_float(value, out)), expected, "{value}");
        }
        assert_eq!(words(|out| put_integer(-10_0002, out)), [2, 1, 0x4000, 0, 10, 2]);
        assert_eq!(words(|out| put_integer(i64::MIN, out)), [5, 4, 0x4000, 0, 922, 3372, 368, 5477, 5808]);
        assert_eq!(words(|out| put_float(f64::NAN, out))[2], NAN as i16);
    }
}
