//! What is wrong with an expression, and where.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// One mistake in an expression, in words, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// What is wrong: lower case, no full stop, the user's words in backticks.
    pub message: String,
    /// The bytes of the expression's text it is about, for a caret; empty at the end of the text if something is
    /// missing there.
    pub span: Range<usize>,
    /// What would be right, if that is known.
    pub help: Option<String>,
}

impl ExpressionError {
    /// An error without help.
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        ExpressionError { message: message.into(), span, help: None }
    }

    /// Says what would be right.
    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ExpressionError {}

/// The name most like `word`, if one is so near that it is probably meant; capitals count little.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    // A third of the letters may be wrong, but one always: more would suggest unrelated short names.
    let most_edits = (wanted.chars().count() / 3).max(1);
    let with_distance =
        names.into_iter().map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name));
    let (distance, name) = with_distance.min_by_key(|(distance, _)| *distance)?;
    (distance <= most_edits).then_some(name)
}

/// Names in backticks, for lists in messages.
pub(super) fn in_backticks<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
