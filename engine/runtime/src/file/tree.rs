//! YAML as a tree of values that know where they were written.

use std::ops::Range;

use saphyr_parser::ScalarStyle;
use serde_json::Value;

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its bytes in the text.
    pub range: Range<usize>,
    /// What it is.
    pub content: Content,
}

/// The three forms of a value.
#[derive(Debug, Clone)]
pub enum Content {
    /// A text, number, truth value or null.
    Scalar(Scalar),
    /// `[a, b]`
    List(Vec<Node>),
    /// `a: b`, in the order of the text.
    Map(Vec<Entry>),
}

/// A value without parts.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// As it is meant, quotes and escapes resolved.
    pub text: String,
    /// How it is quoted.
    pub style: ScalarStyle,
    /// What it is read as.
    pub value: Value,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's bytes in the text.
    pub key_range: Range<usize>,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The entries of a map; none for other values.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value below a path of keys and list positions.
    pub fn at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Node> {
        path.into_iter().try_fold(self, |node, key| match &node.content {
            Content::List(items) => items.get(key.parse::<usize>().ok()?),
            _ => node.entry(key).map(|entry| &entry.node),
        })
    }

    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The value as JSON, variables not replaced.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(scalar) => scalar.value.clone(),
            Content::List(items) => items.iter().map(Node::to_json).collect(),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect())
            }
        }
    }

    /// Whether it is null, or nothing was written.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.value.is_null())
    }
}
