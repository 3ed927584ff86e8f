//! Diagnostics for people: the line, a caret under it, what was found and what would be right.

use std::fmt::Write as _;
use std::ops::Range;

use codespan_reporting::diagnostic::{Diagnostic as Shown, Label as ShownLabel};
use codespan_reporting::files::{Error, Files, line_starts};
use codespan_reporting::term::termcolor::{Ansi, NoColor, WriteColor};
use codespan_reporting::term::{Config, emit_to_write_style};

use super::{Diagnostic, Report, Severity, SourceText};

impl Report {
    /// The report as it is printed on standard error, with the summary as its last line.
    pub fn render(&self, in_colour: bool) -> String {
        let mut bytes = Vec::new();
        match in_colour {
            true => self.write(&mut Ansi::new(&mut bytes)),
            false => self.write(&mut NoColor::new(&mut bytes)),
        }
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if !self.is_empty() {
            let _ = writeln!(text, "{}", self.summary());
        }
        text
    }

    fn write(&self, out: &mut impl WriteColor) {
        let files = Sources::new(&self.sources);
        for diagnostic in &self.diagnostics {
            // Fails only when a label names no source; then the words are shown without the line.
            if emit_to_write_style(out, &Config::default(), &files, &self.shown(diagnostic)).is_err() {
                let _ = writeln!(out, "{}", diagnostic.message);
            }
        }
    }

    fn shown(&self, diagnostic: &Diagnostic) -> Shown<usize> {
        let shown = match diagnostic.severity {
            Severity::Error => Shown::error(),
            Severity::Warning => Shown::warning(),
        };
        let labels = diagnostic.labels.iter().enumerate().map(|(i, label)| {
            let source = &self.sources[label.place.source];
            let range = source.to_masked(label.place.range.start)..source.to_masked(label.place.range.end);
            let label_of = if i == 0 { ShownLabel::primary } else { ShownLabel::secondary };
            label_of(label.place.source, range).with_message(&label.message)
        });
        shown.with_message(&diagnostic.message).with_labels(labels.collect()).with_notes(diagnostic.notes.clone())
    }
}

/// The masked texts, as the renderer wants them; columns are those of the real texts.
struct Sources<'a> {
    sources: &'a [SourceText],
    lines: Vec<Vec<usize>>,
}

impl<'a> Sources<'a> {
    fn new(sources: &'a [SourceText]) -> Self {
        Sources { sources, lines: sources.iter().map(|source| line_starts(source.masked()).collect()).collect() }
    }

    /// The byte of the real text that stands at this byte of the masked one.
    fn unmasked(&self, id: usize, byte: usize) -> usize {
        let source = &self.sources[id];
        let (mut low, mut high) = (0, source.text().len());
        while low < high {
            let middle = (low + high) / 2;
            match source.to_masked(middle) < byte {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

impl<'a> Files<'a> for Sources<'a> {
    type FileId = usize;
    type Name = &'a str;
    type Source = &'a str;

    fn name(&'a self, id: usize) -> Result<&'a str, Error> {
        self.sources.get(id).map(|source| source.name.as_str()).ok_or(Error::FileMissing)
    }

    fn source(&'a self, id: usize) -> Result<&'a str, Error> {
        self.sources.get(id).map(SourceText::masked).ok_or(Error::FileMissing)
    }

    fn line_index(&'a self, id: usize, byte: usize) -> Result<usize, Error> {
        let lines = self.lines.get(id).ok_or(Error::FileMissing)?;
        Ok(lines.partition_point(|&start| start <= byte).saturating_sub(1))
    }

    fn column_number(&'a self, id: usize, _line: usize, byte: usize) -> Result<usize, Error> {
        let source = self.sources.get(id).ok_or(Error::FileMissing)?;
        Ok(source.line_and_column(self.unmasked(id, byte)).1)
    }

    fn line_range(&'a self, id: usize, line: usize) -> Result<Range<usize>, Error> {
        let lines = self.lines.get(id).ok_or(Error::FileMissing)?;
        let end_of_text = self.sources[id].masked().len();
        let start = *lines.get(line).ok_or(Error::LineTooLarge { given: line, max: lines.len() })?;
        Ok(start..lines.get(line + 1).copied().unwrap_or(end_of_text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    #[test]
    fn shows_the_line_with_a_caret_and_hides_secrets() {
        let text = "a: 1\nb: { url: postgres://u:hush@h/d, tabel: x }\n";
        let mut source = SourceText::new("iot.yaml", text);
        let url = text.find("postgres").unwrap()..text.find(", tabel").unwrap();
        source.hide(std::iter::once(url));
        let at = text.find("tabel").unwrap();
        let column = at - text.find("b:").unwrap() + 1;
        let place = Place { source: 0, range: at..at + 5 };
        let diagnostic = Diagnostic::error("unknown option `tabel`").at(place, "did you mean `table`?").note("help");
        let shown = Report::new(vec![source], vec![diagnostic]).render(false);
        assert!(shown.contains(&format!("iot.yaml:2:{column}")), "{shown}");
        assert!(shown.contains("2 │ b: { url: ***, tabel: x }"), "{shown}");
        assert!(shown.contains("  │                ^^^^^ did you mean `table`?"), "{shown}");
        assert!(shown.contains("= help"), "{shown}");
        assert!(shown.ends_with("1 error\n"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
