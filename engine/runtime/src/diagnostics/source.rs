//! The texts that diagnostics show lines of, with secrets hidden.

use std::ops::Range;

/// What is printed in place of a secret.
const MASK: &str = "***";

/// A text that is shown in diagnostics.
#[derive(Debug, Clone)]
pub struct SourceText {
    /// What it is called: the file's path as the user gave it, `--set`, `environment`.
    pub name: String,
    text: String,
    masked: String,
    secrets: Vec<Range<usize>>,
}

impl SourceText {
    /// A text without secrets.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        SourceText { name: name.into(), masked: text.clone(), text, secrets: Vec::new() }
    }

    /// The text itself. Holds secrets: never print it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as it may be shown.
    pub(super) fn masked(&self) -> &str {
        &self.masked
    }

    /// Hides these ranges of bytes.
    pub fn hide(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        self.secrets.extend(ranges.into_iter().filter(|range| !range.is_empty()));
        self.secrets.sort_by_key(|range| range.start);
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in self.secrets.drain(..) {
            match apart.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        self.secrets = apart;
        self.masked = self.write_masked();
    }

    fn write_masked(&self) -> String {
        let mut masked = String::with_capacity(self.text.len());
        let mut from = 0;
        for secret in &self.secrets {
            masked.push_str(&self.text[from..secret.start]);
            masked.push_str(MASK);
            // Lines keep their numbers when a secret stands on several.
            masked.extend(self.text[secret.clone()].chars().filter(|&character| character == '\n'));
            from = secret.end;
        }
        masked.push_str(&self.text[from..]);
        masked
    }

    /// Where a byte of the text stands in the masked text.
    pub(super) fn to_masked(&self, byte: usize) -> usize {
        let mut shift = 0isize;
        for secret in &self.secrets {
            let width = MASK.len() + self.text[secret.clone()].matches('\n').count();
            if secret.end <= byte {
                shift += width as isize - secret.len() as isize;
            } else if secret.start < byte {
                // Inside a secret: the whole of it is shown.
                return (secret.start as isize + shift) as usize + width;
            }
        }
        (byte as isize + shift) as usize
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_places_keep_their_columns() {
        let text = "a: {url: postgres://u:pw@h/d, tabel: x}\n";
        let mut source = SourceText::new("f", text);
        let url = text.find("postgres").unwrap();
        source.hide(std::iter::once(url..text.find(", tabel").unwrap()));
        assert_eq!(source.masked(), "a: {url: ***, tabel: x}\n");
        let tabel = text.find("tabel").unwrap();
        assert!(source.masked()[source.to_masked(tabel)..].starts_with("tabel"));
        assert_eq!(source.line_and_column(tabel), (1, tabel + 1));
        assert_eq!(source.to_masked(url), url);
        assert_eq!(source.to_masked(url + 9), url + 3);
    }

    #[test]
    fn a_secret_on_several_lines_leaves_the_numbers_of_the_others() {
        let text = "a: |\n  x\n  y\nb: 1\n";
        let mut source = SourceText::new("f", text);
        source.hide(std::iter::once(3..12));
        let b = text.find("b:").unwrap();
        assert_eq!(source.masked()[..source.to_masked(b)].matches('\n').count(), 3);
    }
}
