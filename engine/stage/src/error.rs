//! What can go wrong in a stage, and what the engine does about it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The result of every call into a stage.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

/// What the engine does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The options are wrong: the pipeline is not started. Also what `validate` reports.
    Config,
    /// These rows cannot be processed: they become dead letters and the run goes on.
    Data,
    /// It may work later: tried again with growing pauses, while backpressure holds the rest.
    Transient,
    /// The stage's state is gone (its process died): the task restarts from its checkpoint. From a sink: another owner
    /// has the task.
    Lost,
    /// Another process has the task: it is dropped here at once, and begun again only if the source says so.
    TakenOver,
    /// Nothing helps: the pipeline stops at its last commit.
    Fatal,
}

/// An error in words: lower case, no full stop, the user's words in backticks, and what would be right.
///
/// It never names the stage it comes from; the engine does that.
#[derive(Debug)]
pub struct StageError {
    kind: ErrorKind,
    message: String,
    option: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StageError {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        StageError { kind, message: message.into(), option: None, retry_after: None, source: None }
    }

    /// See [`ErrorKind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// See [`ErrorKind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// See [`ErrorKind::Transient`].
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    /// See [`ErrorKind::Lost`].
    pub fn lost(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Lost, message)
    }

    /// See [`ErrorKind::TakenOver`].
    pub fn taken_over(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TakenOver, message)
    }

    /// See [`ErrorKind::Fatal`].
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, message)
    }

    /// Names the option that is wrong, as a path inside the stage (`table`, `columns.2`), so that the
    /// report can point at its place in the file.
    pub fn at_option(mut self, option: impl Into<String>) -> Self {
        self.option = Some(option.into());
        self
    }

    /// How long the other side asked to be left alone (HTTP's `Retry-After`).
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Keeps the error that caused this one. Its words must hold no secret: they are printed.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the engine does next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The option that is wrong, if one is.
    pub fn option(&self) -> Option<&str> {
        self.option.as_deref()
    }

    /// How long to wait before the next try, if the other side said so.
    pub fn pause(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same kind of error with the stage's id before its words; for the engine, which knows it.
    pub fn named(&self, id: &str) -> Self {
        Self::new(self.kind, format!("{id}: {}", self.chain()))
    }

    /// The message with those of its causes, separated by `: `.
    pub fn chain(&self) -> String {
        let mut words = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries repeat the cause's words in their own.
            if !words.contains(&text) {
                words.push_str(": ");
                words.push_str(&text);
            }
            cause = error.source();
        }
        words
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Arrow's errors in a compute stage are mistakes of the stage, not of the data.
impl From<arrow_schema::ArrowError> for StageError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        StageError::fatal("an Arrow computation failed").because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_cause_once() {
        let error = StageError::transient("no answer from `db`").because("connection refused");
        assert_eq!(error.chain(), "no answer from `db`: connection refused");
        assert_eq!(StageError::transient("a: b").because("b").chain(), "a: b");
    }
}
