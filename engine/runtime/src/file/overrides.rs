//! Values from outside the file: `--set sources.readings.topic=x` and `PIPELINE__SOURCES__READINGS__TOPIC=x`.

use std::ops::Range;

use saphyr_parser::ScalarStyle;
use serde_json::Value;

use super::layers::{Layer, Rank};
use super::parse::{self, read_scalar};
use super::pointer::Pointer;
use super::tree::{Content, Entry, Node, Scalar};
use crate::diagnostics::{Diagnostic, Place, SourceText};

/// What the names of variables that change the file begin with.
pub const PREFIX: &str = "PIPELINE__";

/// A key with its bytes in the text.
type Part = (String, Range<usize>);

/// The layer that a `--set` argument makes. `source` is the index its text will have.
pub fn argument(text: &str, source: usize) -> (SourceText, Result<Layer, Vec<Diagnostic>>) {
    let layer = path_of_argument(text, source)
        .and_then(|(parts, value_at)| layer(&parts, text, value_at, source, Rank::Argument));
    (SourceText::new("--set", text), layer)
}

/// The layer that an environment variable makes.
pub fn variable(name: &str, value: &str, source: usize) -> (SourceText, Result<Layer, Vec<Diagnostic>>) {
    let text = format!("{name}={value}");
    let mut parts = Vec::new();
    let mut from = PREFIX.len();
    for part in name[PREFIX.len()..].split("__") {
        parts.push((part.to_lowercase(), from..from + part.len()));
        from += part.len() + 2;
    }
    let layer = match parts.iter().find(|(part, _)| part.is_empty()) {
        Some((_, range)) => Err(vec![
            Diagnostic::error(format!("`{name}` names no value of the file"))
                .at(Place { source, range: range.clone() }, "")
                .note(format!(
                    "such a variable is like `{PREFIX}SOURCES__READINGS__TOPIC`, with two underscores between the names"
                )),
        ]),
        None => layer(&parts, &text, name.len() + 1, source, Rank::Environment),
    };
    (SourceText::new("environment", text), layer)
}

/// The path before the first `=` and where the value begins. A part that holds dots is put into quotes.
fn path_of_argument(text: &str, source: usize) -> Result<(Vec<Part>, usize), Vec<Diagnostic>> {
    let wrong =
        |range: Range<usize>, message: String| {
            vec![Diagnostic::error(message).at(Place { source, range }, "").note(
                "an argument is like `--set sources.readings.topic=x`; a name with dots is put into double quotes",
            )]
        };
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        let (part, end) = match text[at..].strip_prefix('"') {
            Some(quoted) => {
                let Some(length) = quoted.find('"') else {
                    return Err(wrong(at..text.len(), "the quotes are not closed".into()));
                };
                (&quoted[..length], at + length + 2)
            }
            None => {
                let length = text[at..].find(['.', '=']).unwrap_or(text.len() - at);
                (text[at..at + length].trim(), at + length)
            }
        };
        if part.is_empty() {
            return Err(wrong(at..end, "a name is missing here".into()));
        }
        parts.push((part.to_owned(), at..end));
        match text[end..].chars().next() {
            Some('.') => at = end + 1,
            Some('=') => return Ok((parts, end + 1)),
            _ => return Err(wrong(0..text.len(), format!("`{text}` sets no value, there is no `=`"))),
        }
    }
}

fn layer(parts: &[Part], text: &str, value_at: usize, source: usize, rank: Rank) -> Result<Layer, Vec<Diagnostic>> {
    let mut node = value(text, value_at, source)?;
    for (key, key_range) in parts.iter().rev() {
        let range = key_range.start..text.len();
        let entry = Entry { key: key.clone(), key_range: key_range.clone(), node };
        node = Node { range, content: Content::Map(vec![entry]) };
    }
    Ok(Layer { source, root: Pointer::default(), rank, node })
}

/// A list or map in brackets, a scalar in quotes, or the text as YAML reads a plain scalar: it may hold anything.
fn value(text: &str, at: usize, source: usize) -> Result<Node, Vec<Diagnostic>> {
    let value = text[at..].trim();
    if value.starts_with(['[', '{', '"', '\'']) {
        // Blanks before it keep the places right.
        let help = "a list is `[a, b]`, a map `{a: 1}`; to keep the shell out, put the whole argument into quotes";
        return parse::parse(&format!("{}{}", blanks(&text[..at]), &text[at..]), source).map_err(|mut problems| {
            problems.iter_mut().for_each(|problem| problem.notes = vec![help.to_owned()]);
            problems
        });
    }
    let value_of = |value: &str| if value.is_empty() { Value::String(String::new()) } else { read_scalar(value) };
    let scalar = Scalar { text: value.to_owned(), style: ScalarStyle::Plain, value: value_of(value) };
    let start = at + (text[at..].len() - text[at..].trim_start().len());
    Ok(Node { range: start..start + value.len(), content: Content::Scalar(scalar) })
}

/// As many blanks as the text has bytes.
fn blanks(text: &str) -> String {
    " ".repeat(text.len())
}
