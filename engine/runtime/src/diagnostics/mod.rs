//! What is wrong with a pipeline, and where: mistakes as data, to be printed for people or as JSON.

mod json;
mod nearest;
mod render;
mod source;

use std::ops::Range;

pub use nearest::{did_you_mean, list, nearest};
pub use source::SourceText;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pipeline is not started.
    Error,
    /// It is, but somebody should know.
    Warning,
}

/// A range of bytes in one of a report's sources: the pipeline file, an argument or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Report::sources`].
    pub source: usize,
    /// Bytes of its text.
    pub range: Range<usize>,
}

/// A place with words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What is said beside the caret; may be empty.
    pub message: String,
}

/// One mistake, or one thing worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, no full stop, the user's words in backticks.
    pub message: String,
    /// Where; the first is the place that is named, the others belong to it. None for what stands nowhere.
    pub labels: Vec<Label>,
    /// What helps.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error that stands nowhere yet.
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Error, message: message.into(), labels: Vec::new(), notes: Vec::new() }
    }

    /// A warning that stands nowhere yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Adds a place; `message` may be empty.
    pub fn at(mut self, place: Place, message: impl Into<String>) -> Self {
        self.labels.push(Label { place, message: message.into() });
        self
    }

    /// Adds what helps.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// All that is to be said about a pipeline file, with the texts it is said about.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The pipeline file, then the arguments and variables that changed it.
    pub sources: Vec<SourceText>,
    /// In the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report of the mistakes given, in the order of their places; each once.
    pub fn new(sources: Vec<SourceText>, mut diagnostics: Vec<Diagnostic>) -> Self {
        // Errors before warnings, what has a place in the file before what has none.
        diagnostics.sort_by_key(|diagnostic| {
            let place = diagnostic.labels.first().map(|label| (label.place.source, label.place.range.start));
            (diagnostic.severity, place.is_none(), place)
        });
        diagnostics.dedup();
        Report { sources, diagnostics }
    }

    /// A report of one mistake that stands nowhere.
    pub fn of(diagnostic: Diagnostic) -> Self {
        Report { sources: Vec::new(), diagnostics: vec![diagnostic] }
    }

    /// Whether there is an error.
    pub fn has_errors(&self) -> bool {
        0 < self.count(Severity::Error)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// `2 errors, 1 warning`; empty when there are none.
    pub fn summary(&self) -> String {
        let counted = [(Severity::Error, "error"), (Severity::Warning, "warning")].map(|(severity, name)| {
            match self.count(severity) {
                0 => None,
                1 => Some(format!("1 {name}")),
                count => Some(format!("{count} {name}s")),
            }
        });
        counted.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
