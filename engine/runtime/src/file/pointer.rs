//! The path of a value in a pipeline file.

use std::fmt;

/// Keys and list positions from the outside in; written as a JSON pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// A pointer of these parts.
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        Pointer(parts.into_iter().map(str::to_owned).collect())
    }

    /// The pointer of a value below this one.
    pub fn join(&self, part: impl ToString) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_string());
        Pointer(parts)
    }

    /// The pointer of a value some levels below this one.
    pub fn join_all<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = self.0.clone();
        all.extend(parts.into_iter().map(str::to_owned));
        Pointer(all)
    }

    /// The value around it; none for the whole file.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, parent)| Pointer(parent.to_vec()))
    }

    /// Its parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Its last part; empty for the whole file.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// Whether it is `other` or lies below it.
    pub fn starts_with(&self, other: &Pointer) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            write!(f, "/{}", part.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}
