//! What can be wrong with a file as YAML, in words.

use crate::diagnostics::Diagnostic;

pub(super) fn second_document() -> Diagnostic {
    Diagnostic::error("a second document begins here, a file holds one pipeline")
        .note("put the other pipeline into a file of its own")
}

pub(super) fn alias() -> Diagnostic {
    Diagnostic::error("aliases are not part of pipeline files")
        .note("write the value out; what differs from place to place goes into `profiles:` or a variable `${NAME}`")
}

pub(super) fn anchor() -> Diagnostic {
    Diagnostic::error("anchors are not part of pipeline files")
        .note("write the value out; what differs from place to place goes into `profiles:` or a variable `${NAME}`")
}

pub(super) fn merge_key() -> Diagnostic {
    Diagnostic::error("merge keys are not part of pipeline files")
        .note("write the options out; what differs from place to place goes into `profiles:`")
}

pub(super) fn tag() -> Diagnostic {
    Diagnostic::error("tags are not part of pipeline files").note("to make text of a number, put it into quotes")
}

pub(super) fn duplicate_key(key: &str) -> Diagnostic {
    Diagnostic::error(format!("`{key}` stands twice")).note("one of them would be ignored: delete it or rename it")
}

pub(super) fn key_of_parts() -> Diagnostic {
    Diagnostic::error("a list or map cannot be a key").note("a value that begins with `${` must be put into quotes")
}

pub(super) fn too_deep(limit: usize) -> Diagnostic {
    Diagnostic::error(format!("the file is nested more than {limit} levels deep"))
}

/// The parser's own words, and what they mean for somebody who does not know its terms.
pub(super) fn syntax(info: &str, text: &str, at: usize) -> Diagnostic {
    let line_start = text[..at].rfind('\n').map_or(0, |line_feed| line_feed + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let indentation = &line[..line.len() - line.trim_start().len()];
    if indentation.contains('\t') || text[at..].starts_with('\t') {
        return Diagnostic::error("a tab indents this line, YAML takes spaces only").note("replace each tab by two spaces");
    }
    let diagnostic = Diagnostic::error(format!("this is not YAML: {info}"));
    let value = line.split_once(": ").map(|(_, value)| value.trim_start());
    match value.and_then(|value| value.chars().next()) {
        Some('@' | '`' | '%') => diagnostic.note("a value that begins with this sign must be put into quotes"),
        Some('*') => diagnostic.note("a value that begins with `*` must be put into quotes"),
        Some('"' | '\'') => diagnostic.note("the quotes of this value are not closed, or something follows them"),
        Some('[' | '{') => diagnostic.note("brackets and braces must be closed, with a comma between their parts"),
        Some(_) if info.contains("mapping values are not allowed") => {
            diagnostic.note("a value that holds `: ` must be put into quotes; or the line is indented too far")
        }
        Some(_) => diagnostic.note("compare the indentation with the lines above: what belongs together begins in the same column"),
        None => diagnostic.note("a line is `key: value`, with a blank after the colon; what belongs to a key is indented below it"),
    }
}
