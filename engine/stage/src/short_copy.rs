//! Copies of texts that are mostly short.

use std::ops::Range;

/// Most texts of sensors are not longer, in bytes: a copy of a known size needs no call.
pub(crate) const SHORT: usize = 16;

/// Appends a part of some bytes. For many short texts that is faster than `extend_from_slice`.
///
/// The part must lie in `source`.
#[inline]
pub fn extend_from_part(out: &mut Vec<u8>, source: &[u8], part: Range<usize>) {
    match source.get(part.start..).and_then(<[u8]>::first_chunk::<SHORT>) {
        Some(more) if part.len() <= SHORT => extend_from_first(out, more, part.len()),
        _ => out.extend_from_slice(&source[part]),
    }
}

/// Appends the first of some bytes, so many of them: all are copied, and what is too much is taken back.
#[inline]
pub fn extend_from_first<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N], length: usize) {
    let end = out.len() + length;
    out.extend_from_slice(bytes);
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_copied_whatever_its_length_and_place() {
        let source: Vec<u8> = (0..60).collect();
        for start in 0..source.len() {
            for end in start..source.len() {
                let mut out = vec![7];
                extend_from_part(&mut out, &source, start..end);
                assert_eq!((out[0], &out[1..]), (7, &source[start..end]));
            }
        }
    }
}
