//! Reads YAML into a tree.
//!
//! The YAML of pipeline files is version 1.2 with the core schema, without anchors, aliases, merge keys and tags: a
//! stage is read where it stands, and what repeats goes into profiles and variables. A key stands once.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::Value;

use super::problems;
use super::tree::{Content, Entry, Node, Scalar};
use crate::diagnostics::{Diagnostic, Place};

/// Deeper nesting than this is a mistake or an attack; options of stages need four levels.
const MAX_DEPTH: usize = 32;

/// Reads one value. `source` numbers the text in the report.
///
/// # Errors
/// Everything that is wrong with the text as YAML, up to the place where it can no longer be read.
pub fn parse(text: &str, source: usize) -> Result<Node, Vec<Diagnostic>> {
    let mut builder = Builder::new(text, source);
    for event in Parser::new_from_str(text) {
        let went_on = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => builder.fail(&error),
        };
        if !went_on {
            break;
        }
    }
    match builder.problems.is_empty() {
        true => Ok(builder.root.unwrap_or_else(|| empty(text.len()..text.len()))),
        false => Err(builder.problems),
    }
}

/// A scalar as YAML reads it when it is not quoted. This is the one place where `serde_yaml` is used: it knows what the
/// text of a scalar means, but not where it stands.
pub fn read_scalar(text: &str) -> Value {
    let is_more_than_a_scalar = text.contains(['#', '\n', '\r']);
    match serde_yaml::from_str(text) {
        _ if is_more_than_a_scalar => text.into(),
        Ok(serde_yaml::Value::Null) => Value::Null,
        Ok(serde_yaml::Value::Bool(truth)) => truth.into(),
        Ok(serde_yaml::Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => {
            serde_json::to_value(number).unwrap_or_else(|_| text.into())
        }
        // So does what JSON has no number for (`.inf`): no option takes it.
        _ => text.into(),
    }
}

fn empty(range: Range<usize>) -> Node {
    let scalar = Scalar { text: String::new(), style: ScalarStyle::Plain, value: Value::Null };
    Node { range, content: Content::Scalar(scalar) }
}

/// A list or map that is not finished.
struct Open {
    node: Node,
    key: Option<(String, Range<usize>)>,
}

struct Builder<'a> {
    text: &'a str,
    /// The byte of each character: the parser counts characters.
    bytes: Vec<usize>,
    source: usize,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    problems: Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, source: usize) -> Self {
        let bytes = text.char_indices().map(|(byte, _)| byte).collect();
        Builder { text, bytes, source, open: Vec::new(), root: None, documents: 0, problems: Vec::new() }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).copied().unwrap_or(self.text.len())
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        let end = self.byte(span.end.index()).max(start);
        // The parser's spans of plain scalars may reach over the blanks after them.
        start..start + self.text[start..end].trim_end().len()
    }

    fn problem(&mut self, range: Range<usize>, diagnostic: Diagnostic) {
        self.problems.push(diagnostic.at(Place { source: self.source, range }, ""));
    }

    /// Takes the next event; false when nothing after it can be read.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let range = self.range(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.problem(range, problems::second_document());
                    return false;
                }
            }
            Event::Alias(_) => {
                self.problem(range.clone(), problems::alias());
                self.put(empty(range));
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_anchor_and_tag(&range, anchor, tag.is_some());
                self.scalar(text.into_owned(), style, range);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_anchor_and_tag(&range, anchor, tag.is_some());
                return self.begin(Content::List(Vec::new()), range);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_anchor_and_tag(&range, anchor, tag.is_some());
                return self.begin(Content::Map(Vec::new()), range);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(range),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn fail(&mut self, error: &ScanError) -> bool {
        // The end of the text has no character to point at: point at the last one.
        let at = self.byte(error.marker().index()).min(self.text.trim_end().len());
        let at = (0..=at).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0);
        let width = self.text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let (diagnostic, elsewhere) = problems::syntax(error.info(), self.text, at);
        self.problem(elsewhere.unwrap_or(at..at + width), diagnostic);
        false
    }

    fn refuse_anchor_and_tag(&mut self, range: &Range<usize>, anchor: usize, has_tag: bool) {
        if anchor != 0 {
            let sign = self.text[..range.start].rfind('&').unwrap_or(range.start);
            self.problem(word_at(self.text, sign), problems::anchor());
        }
        if has_tag {
            let sign = self.text[..range.start].rfind('!').unwrap_or(range.start);
            let sign = if self.text[..sign].ends_with('!') { sign - 1 } else { sign };
            self.problem(word_at(self.text, sign), problems::tag());
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, range: Range<usize>) {
        let wants_key =
            self.open.last().is_some_and(|open| matches!(open.node.content, Content::Map(_)) && open.key.is_none());
        if wants_key {
            self.key(text, range);
            return;
        }
        let value = match style {
            ScalarStyle::Plain => read_scalar(&text),
            _ => Value::String(text.clone()),
        };
        self.put(Node { range, content: Content::Scalar(Scalar { text, style, value }) });
    }

    fn key(&mut self, key: String, range: Range<usize>) {
        let Some(open) = self.open.last_mut() else { return };
        let earlier = open.node.entry(&key).map(|entry| entry.key_range.clone());
        open.key = Some((key.clone(), range.clone()));
        if key == "<<" {
            self.problem(range, problems::merge_key());
        } else if let Some(earlier) = earlier {
            let first = Place { source: self.source, range: earlier };
            let diagnostic = problems::duplicate_key(&key).at(Place { source: self.source, range }, "the second one");
            self.problems.push(diagnostic.at(first, "the first one"));
        }
    }

    fn begin(&mut self, content: Content, range: Range<usize>) -> bool {
        let is_key =
            self.open.last().is_some_and(|open| matches!(open.node.content, Content::Map(_)) && open.key.is_none());
        if is_key {
            self.problem(range, problems::key_of_parts());
            return false;
        }
        if self.open.len() == MAX_DEPTH {
            self.problem(range, problems::too_deep(MAX_DEPTH));
            return false;
        }
        self.open.push(Open { node: Node { range, content }, key: None });
        true
    }

    fn end(&mut self, range: Range<usize>) {
        let Some(Open { mut node, .. }) = self.open.pop() else { return };
        let last = match &node.content {
            Content::Map(entries) => entries.last().map(|entry| entry.node.range.end),
            Content::List(items) => items.last().map(|item| item.range.end),
            Content::Scalar(_) => None,
        };
        // A block has no sign for its end: it ends with its last value. A flow list ends with its bracket.
        let is_flow = self.text[node.range.start..].starts_with(['{', '[']);
        node.range.end = if is_flow { range.end } else { last.unwrap_or(node.range.end) };
        self.put(node);
    }

    fn put(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut open.node.content, open.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Map(entries), Some((key, key_range))) => entries.push(Entry { key, key_range, node }),
            _ => {}
        }
    }
}

/// The bytes from `start` to the next blank or sign.
fn word_at(text: &str, start: usize) -> Range<usize> {
    let ends = |character: char| character.is_whitespace() || ",]}".contains(character);
    start..text[start..].find(ends).map_or(text.len(), |length| start + length)
}
