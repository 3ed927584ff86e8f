//! From bytes of a text to bytes of the file: quotes and escapes stand between them.

use std::ops::Range;

use saphyr_parser::ScalarStyle;

use super::tree::Node;

/// The bytes of the file that bytes of a scalar's text come from; the whole scalar where that cannot be told (texts on
/// several lines, escapes in double quotes).
pub fn inside(file: &str, node: &Node, part: Range<usize>) -> Range<usize> {
    let Some(scalar) = node.scalar() else { return node.range.clone() };
    let written = &file[node.range.clone()];
    let start = node.range.start;
    match scalar.style {
        ScalarStyle::Plain if written == scalar.text => start + part.start..start + part.end,
        ScalarStyle::DoubleQuoted if quoted(written, '"') == Some(&scalar.text) => {
            start + 1 + part.start..start + 1 + part.end
        }
        ScalarStyle::SingleQuoted
            if quoted(written, '\'').is_some_and(|text| text.replace("''", "'") == scalar.text) =>
        {
            let doubled = |end: usize| scalar.text.get(..end).map_or(0, |text| text.matches('\'').count());
            let byte = |at: usize| start + 1 + at + doubled(at);
            byte(part.start)..byte(part.end)
        }
        _ => node.range.clone(),
    }
}

fn quoted(written: &str, quote: char) -> Option<&str> {
    written.strip_prefix(quote)?.strip_suffix(quote)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    #[test]
    fn finds_a_part_of_a_text_in_the_file() {
        for (file, text, part, found) in [
            ("a: value > x  # c", "value > x", "x", "x"),
            ("a: \"value > x\"", "value > x", "x", "x"),
            ("a: 'it''s > x'", "it's > x", "x", "x"),
            ("a: 'it''s > x'", "it's > x", "it's", "it''s"),
            ("a: \"\\u0061 > x\"", "a > x", "x", "\"\\u0061 > x\""),
            ("a: value\n   > x", "value > x", "x", "value\n   > x"),
        ] {
            let root = parse(file, 0).unwrap();
            let node = root.at(["a"]).unwrap();
            assert_eq!(node.scalar().unwrap().text, text);
            let at = text.find(part).unwrap();
            assert_eq!(&file[inside(file, node, at..at + part.len())], found, "{file}");
        }
    }
}
