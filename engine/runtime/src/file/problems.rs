//! What can be wrong with a file as YAML, in words.

use std::ops::Range;

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

/// The parser's own words, and what they mean for somebody who does not know its terms; with the place where the cause
/// stands, when it is another one.
pub(super) fn syntax(info: &str, text: &str, at: usize) -> (Diagnostic, Option<Range<usize>>) {
    if let Some(place) = tab(info, text, at) {
        let tab = Diagnostic::error("a tab indents this line, YAML takes blanks only");
        return (tab.note("replace each tab by two blanks"), Some(place));
    }
    if info.contains("unknown anchor") {
        return (alias(), None);
    }
    if info.contains("mapping values are not allowed")
        && let Some((place, has_colon)) = line_without_key(text, at)
    {
        let problem = Diagnostic::error("this line is not `key: value`");
        let note = if has_colon { "put a blank after the colon" } else { "put a colon and a blank after the key" };
        return (problem.note(note), Some(place));
    }
    // The parser quotes as `x'.
    let info = info.replace("'", "`");
    let problem = Diagnostic::error(format!("this is not YAML: {info}"));
    (problem.note(hint(&info, text, at)), None)
}

/// What usually helps.
fn hint(info: &str, text: &str, at: usize) -> &'static str {
    let line = line_at(text, at);
    let value = text[line.clone()].split_once(": ").map(|(_, value)| value.trim_start()).unwrap_or_default();
    if text[line.clone()].contains(": ${") && text[line.clone()].contains('{') && info.contains("flow mapping") {
        return "inside `{ }` a value with `${…}` must be put into quotes";
    }
    if is_open_above(text, &line) {
        return "a bracket or brace that is opened above is not closed";
    }
    match value.chars().next() {
        Some('@' | '`' | '%' | '*' | '!' | '&') => "a value that begins with this sign must be put into quotes",
        Some('"' | '\'') => "the quotes of this value are not closed, or something follows them",
        Some('[' | '{') => "brackets and braces must be closed, with a comma between their parts",
        _ if info.contains("mapping values are not allowed") => {
            "a value that holds `: ` must be put into quotes; or the line is indented too far"
        }
        Some(_) => "compare the indentation with the lines above: what belongs together begins in the same column",
        None => "a line is `key: value`, with a blank after the colon; what belongs to a key is indented below it",
    }
}

/// The tab that indents the line of the error or, where the parser has stopped before it, the next one.
fn tab(info: &str, text: &str, at: usize) -> Option<Range<usize>> {
    let line = line_at(text, at);
    let of_line = |line: Range<usize>| {
        let blanks = text[line.clone()].len() - text[line.clone()].trim_start().len();
        text[line.start..line.start + blanks].find('\t').map(|tab| line.start + tab..line.start + tab + 1)
    };
    if let Some(tab) = of_line(line.clone()) {
        return Some(tab);
    }
    if text[at..].starts_with('\t') {
        return Some(at..at + 1);
    }
    if !info.contains("tab") || text.len() <= line.end {
        return None;
    }
    of_line(line_at(text, line.end + 1))
}

/// The line before the error, if it has no key though it stands as high as a line that has one.
fn line_without_key(text: &str, at: usize) -> Option<(Range<usize>, bool)> {
    let line = line_at(text, at);
    let before = line_at(text, text[..line.start].trim_end().len());
    let shown = text[before.clone()].trim_start();
    let has_key =
        shown.contains(": ") || shown.trim_end().ends_with(':') || shown.starts_with(['-', '#', '[', '{', '"']);
    let indentation = |line: &Range<usize>| text[line.clone()].len() - text[line.clone()].trim_start().len();
    if line.start == 0 || shown.is_empty() || has_key || indentation(&line) != indentation(&before) {
        return None;
    }
    let start = before.end - shown.len();
    Some((start..start + shown.trim_end().len(), shown.contains(':')))
}

/// Whether one of the few lines above opens more brackets than it closes.
fn is_open_above(text: &str, line: &Range<usize>) -> bool {
    let opens = |line: &str| {
        let code = line.split(" #").next().unwrap_or_default();
        code.matches(['[', '{']).count() > code.matches([']', '}']).count()
    };
    text[..line.start].lines().rev().take(5).any(opens)
}

fn line_at(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |line_feed| line_feed + 1);
    start..text[start..].find('\n').map_or(text.len(), |length| start + length)
}
