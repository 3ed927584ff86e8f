//! Diagnostics for programs.

use serde_json::{Value, json};

use super::{Label, Report, Severity};

impl Report {
    /// The report as a list, one object for each diagnostic: `severity`, `message`, `file`, `line`, `column`,
    /// `end_line`, `end_column` (lines and columns from 1, columns in characters, the end exclusive; null for what
    /// stands nowhere), `label`, `related` and `help`.
    pub fn to_json(&self) -> Value {
        self.diagnostics
            .iter()
            .map(|diagnostic| {
                let mut object = match diagnostic.labels.split_first() {
                    Some((first, _)) => self.place(first),
                    None => json!({
                        "file": self.sources.first().map(|source| &source.name), "line": null, "column": null,
                        "end_line": null, "end_column": null, "label": "",
                    }),
                };
                object["severity"] = match diagnostic.severity {
                    Severity::Error => "error".into(),
                    Severity::Warning => "warning".into(),
                };
                object["message"] = diagnostic.message.as_str().into();
                object["help"] = json!(diagnostic.notes);
                object["related"] = diagnostic.labels.iter().skip(1).map(|label| self.place(label)).collect();
                object
            })
            .collect()
    }

    fn place(&self, label: &Label) -> Value {
        let source = &self.sources[label.place.source];
        let (line, column) = source.line_and_column(label.place.range.start);
        let (end_line, end_column) = source.line_and_column(label.place.range.end);
        json!({
            "file": source.name, "line": line, "column": column, "end_line": end_line, "end_column": end_column,
            "label": label.message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, Place, SourceText};
    use super::*;

    #[test]
    fn places_are_counted_in_characters_from_one() {
        let source = SourceText::new("f.yaml", "é: 1\nü: wrong\n");
        let place = Place { source: 0, range: 10..15 };
        let report = Report::new(vec![source], vec![Diagnostic::error("no").at(place, "here").note("help")]);
        let json = report.to_json();
        assert_eq!(json[0]["line"], 2);
        assert_eq!(json[0]["column"], 4);
        assert_eq!(json[0]["end_column"], 9);
        assert_eq!(json[0]["help"], json!(["help"]));
    }
}
