//! `${NAME}`, `${NAME:-default}` and `${file:/run/secrets/x}` in the texts of a file.
//!
//! They are replaced after parsing, so a value cannot change the structure. `$${` stands for `${`. A text that is
//! nothing but a variable is then read as YAML reads a plain scalar: `port: ${PORT}` is a number.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};

use super::environment::Environment;
use super::parse::read_scalar;
use super::pointer::Pointer;
use crate::diagnostics::{Diagnostic, nearest};

/// Where the values of variables come from.
pub struct Lookup<'a> {
    /// `${NAME}`
    pub environment: &'a Environment,
    /// Relative paths of `${file:…}` start here.
    pub directory: &'a Path,
    /// `${secret:/sinks/x/url}`, which stands in stored definitions for a secret that the file holds itself.
    pub secrets: &'a BTreeMap<String, String>,
}

/// Values with their variables replaced.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// The values. Hold secrets: never print them.
    pub value: Value,
    /// The texts that held variables, by place: which variables.
    pub variables: BTreeMap<Pointer, Vec<String>>,
    /// What scalars that were a variable and nothing else were as text.
    pub texts: BTreeMap<Pointer, String>,
    /// What is wrong, with the bytes of the text.
    pub problems: Vec<(Pointer, Range<usize>, Diagnostic)>,
}

/// Replaces all variables.
pub fn resolve(value: &Value, lookup: &Lookup<'_>) -> Resolved {
    let mut resolved = Resolved::default();
    resolved.value = walk(value, &Pointer::default(), lookup, &mut resolved);
    resolved
}

fn walk(value: &Value, at: &Pointer, lookup: &Lookup<'_>, resolved: &mut Resolved) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (key.clone(), walk(value, &at.join(key), lookup, resolved)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(i, item)| walk(item, &at.join(i), lookup, resolved)).collect()
        }
        Value::String(text) if text.contains("${") => leaf(text, at, lookup, resolved),
        other => other.clone(),
    }
}

fn leaf(text: &str, at: &Pointer, lookup: &Lookup<'_>, resolved: &mut Resolved) -> Value {
    let pieces = match pieces(text) {
        Ok(pieces) => pieces,
        Err((range, problem)) => {
            resolved.problems.push((at.clone(), range, problem));
            return Value::Null;
        }
    };
    let mut whole = String::new();
    let mut is_complete = true;
    for piece in &pieces {
        match piece {
            Piece::Text(text) => whole.push_str(text),
            Piece::Variable(range, reference) => {
                resolved.variables.entry(at.clone()).or_default().push(reference.name().into());
                match reference.value(lookup) {
                    Ok(value) => whole.push_str(&value),
                    Err(problem) => {
                        resolved.problems.push((at.clone(), range.clone(), problem));
                        is_complete = false;
                    }
                }
            }
        }
    }
    match pieces.as_slice() {
        // What is missing has been said: nothing else is to be said about this value.
        _ if !is_complete => Value::Null,
        [Piece::Variable(..)] => {
            let value = read_scalar(whole.trim());
            resolved.texts.insert(at.clone(), whole);
            value
        }
        _ => whole.into(),
    }
}

enum Piece<'a> {
    Text(&'a str),
    Variable(Range<usize>, Reference<'a>),
}

/// What stands between `${` and `}`.
enum Reference<'a> {
    Variable { name: &'a str, default: Option<&'a str> },
    File(&'a str),
    Secret(&'a str),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, (Range<usize>, Diagnostic)> {
    let mut pieces = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find("${") {
        let at = from + found;
        if text[..at].ends_with('$') && from < at {
            pieces.push(Piece::Text(&text[from..at - 1]));
            pieces.push(Piece::Text("${"));
            from = at + 2;
            continue;
        }
        if from < at {
            pieces.push(Piece::Text(&text[from..at]));
        }
        let Some(length) = text[at..].find('}') else {
            let problem = Diagnostic::error("this variable is not closed by `}`").note("`$${` stands for `${` itself");
            return Err((at..text.len(), problem));
        };
        let range = at..at + length + 1;
        let reference = Reference::parse(&text[at + 2..at + length]).map_err(|problem| (range.clone(), problem))?;
        pieces.push(Piece::Variable(range.clone(), reference));
        from = range.end;
    }
    if from < text.len() {
        pieces.push(Piece::Text(&text[from..]));
    }
    Ok(pieces)
}

impl<'a> Reference<'a> {
    fn parse(inside: &'a str) -> Result<Self, Diagnostic> {
        if let Some(path) = inside.strip_prefix("file:") {
            return Ok(Reference::File(path));
        }
        if let Some(pointer) = inside.strip_prefix("secret:") {
            return Ok(Reference::Secret(pointer));
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match is_name {
            true => Ok(Reference::Variable { name, default }),
            false => Err(Diagnostic::error(format!("`{inside}` names no variable"))
                .note("a variable is `${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` stands for `${` itself")),
        }
    }

    fn name(&self) -> &'a str {
        match self {
            Reference::Variable { name, .. } => name,
            Reference::File(path) | Reference::Secret(path) => path,
        }
    }

    fn value(&self, lookup: &Lookup<'_>) -> Result<String, Diagnostic> {
        match self {
            Reference::Variable { name, default } => match (lookup.environment.get(name), default) {
                // As a shell has it: `:-` is also for a variable that is there and empty.
                (Some(""), Some(default)) | (None, Some(default)) => Ok((*default).into()),
                (Some(value), _) => Ok(value.into()),
                (None, None) => Err(unset(name, lookup.environment)),
            },
            Reference::File(path) => {
                let text = std::fs::read_to_string(lookup.directory.join(path)).map_err(|error| {
                    Diagnostic::error(format!("the file `{path}` cannot be read")).note(super::why_unreadable(&error))
                })?;
                // Editors and `echo` end a file with a line feed that is no part of the secret.
                Ok(text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text).into())
            }
            Reference::Secret(pointer) => lookup.secrets.get(*pointer).cloned().ok_or_else(|| {
                Diagnostic::error(format!("the secret at `{pointer}` is no longer in the pipeline file"))
            }),
        }
    }
}

fn unset(name: &str, environment: &Environment) -> Diagnostic {
    let problem = Diagnostic::error(format!("the variable `{name}` is not set"));
    let problem = match nearest(name, environment.names()) {
        Some(meant) => problem.note(format!("there is one called `{meant}`")),
        None => problem,
    };
    problem.note(format!("set it in the environment or in `.env`, or give it a default: `${{{name}:-…}}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(value: Value) -> Resolved {
        let environment = Environment::default().with("PORT", "5432").with("HOST", "db").with("EMPTY", "");
        let secrets = BTreeMap::from([("/sinks/x/url".to_string(), "hush".to_string())]);
        resolve(&value, &Lookup { environment: &environment, directory: Path::new("."), secrets: &secrets })
    }

    #[test]
    fn replaces_variables_in_texts() {
        for (text, value) in [
            ("${PORT}", json!(5432)),
            ("${HOST}:${PORT}", json!("db:5432")),
            ("a${HOST}b", json!("adbb")),
            ("${NONE:-x y}", json!("x y")),
            ("${NONE:-}", json!(null)),
            ("${EMPTY:-x}", json!("x")),
            ("$${HOST}", json!("${HOST}")),
            ("a$${HOST}b", json!("a${HOST}b")),
            ("$HOST", json!("$HOST")),
            ("${secret:/sinks/x/url}", json!("hush")),
        ] {
            let resolved = resolved(json!({ "a": [text] }));
            assert!(resolved.problems.is_empty(), "{text}: {:?}", resolved.problems);
            assert_eq!(resolved.value["a"][0], value, "{text}");
        }
    }

    #[test]
    fn says_what_is_missing_and_where() {
        for (text, range, message) in [
            ("a${NONE}", 1..8, "the variable `NONE` is not set"),
            ("${PORT", 0..6, "this variable is not closed by `}`"),
            ("${a b}", 0..6, "`a b` names no variable"),
            ("${file:/does/not/exist}", 0..23, "the file `/does/not/exist` cannot be read"),
        ] {
            let resolved = resolved(json!({ "a": text }));
            let (pointer, found, problem) = &resolved.problems[0];
            assert_eq!((pointer.to_string(), found, problem.message.as_str()), ("/a".into(), &range, message));
        }
    }
}
