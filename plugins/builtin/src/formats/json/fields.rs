//! Which fields of a JSON object go into which columns, and the walk that takes them from there.

use std::fmt;

use pipeline_stage::{Column, ColumnFrom, printable};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::formats::rows::Row;
use crate::formats::value::Found;

/// The declared fields as a tree: `data.value` is `value` below `data`. All others are skipped.
pub(super) struct Fields {
    fields: Vec<Field>,
}

/// One field, or the whole payload, which is the first.
struct Field {
    name: String,
    /// Its place if what holds it is an array: `0` is the first.
    index: Option<usize>,
    /// From the outside in, for people: `data.value`.
    path: String,
    columns: Vec<usize>,
    below: Vec<usize>,
}

/// The whole payload.
pub(super) const ROOT: usize = 0;

impl Fields {
    /// The fields that columns come from.
    pub fn new(columns: &[Column]) -> Self {
        let mut tree = Fields { fields: vec![Field::new("", String::new())] };
        for (idx, column) in columns.iter().enumerate() {
            let ColumnFrom::Field(path) = &column.from else { continue };
            let mut at = ROOT;
            for name in path {
                at = tree.below_or_new(at, name);
            }
            tree.fields[at].columns.push(idx);
        }
        tree
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// What a field is called in a sentence.
    pub fn words(&self, field: usize) -> String {
        match field {
            ROOT => "it".into(),
            _ => format!("field `{}`", self.fields[field].path),
        }
    }

    fn below_or_new(&mut self, at: usize, name: &str) -> usize {
        match self.find(at, name) {
            Some(field) => field,
            None => {
                let path = match at {
                    ROOT => name.to_owned(),
                    _ => format!("{}.{name}", self.fields[at].path),
                };
                self.fields.push(Field::new(name, path));
                let field = self.fields.len() - 1;
                self.fields[at].below.push(field);
                field
            }
        }
    }

    /// The columns that want the value of a field itself; none for a field that must be an object or null.
    pub fn columns(&self, field: usize) -> Option<&[usize]> {
        let Field { columns, below, .. } = &self.fields[field];
        below.is_empty().then_some(columns)
    }

    /// The field of that name below another. Payloads have a handful: a map would be slower.
    pub fn find(&self, at: usize, name: &str) -> Option<usize> {
        self.fields[at].below.iter().copied().find(|&field| self.fields[field].name == name)
    }

    /// The same of an array's place.
    pub fn find_index(&self, at: usize, index: usize) -> Option<usize> {
        self.fields[at].below.iter().copied().find(|&field| self.fields[field].index == Some(index))
    }
}

impl Field {
    fn new(name: &str, path: String) -> Self {
        Field { name: name.into(), index: name.parse().ok(), path, columns: Vec::new(), below: Vec::new() }
    }
}

/// One walk through one payload. Read with it, as a seed, to fill the row.
pub(super) struct Walk<'w> {
    pub fields: &'w Fields,
    pub row: &'w mut Row,
    /// Which fields were there already; one for each, all false at the start.
    pub seen: &'w mut [bool],
    /// The field that is being read: where the payload breaks off, if it does.
    pub at: usize,
    /// What is wrong, if it is not the JSON itself: serde's errors have no room for it.
    pub problem: Option<String>,
}

impl<'w> Walk<'w> {
    /// At the start of a payload.
    pub fn new(fields: &'w Fields, row: &'w mut Row, seen: &'w mut [bool]) -> Self {
        seen.fill(false);
        Walk { fields, row, seen, at: ROOT, problem: None }
    }

    /// The seed that reads the whole payload.
    pub fn root(&mut self) -> ValueOf<'_, 'w> {
        ValueOf { walk: self, field: ROOT }
    }

    fn refuse<E: Error>(&mut self, why: String) -> E {
        self.problem = Some(why);
        E::custom("refused")
    }

    /// A field that has no fields below it.
    fn leaf<E: Error>(&mut self, field: usize, found: Found<'_>) -> Result<(), E> {
        let Field { columns, below, .. } = &self.fields.fields[field];
        let is_wanted_as_object = field == ROOT || (!below.is_empty() && found != Found::Null);
        if is_wanted_as_object {
            let why = format!("{} is {}, it must be an object", self.fields.words(field), found.words());
            return Err(self.refuse(why));
        }
        for &column in columns {
            self.row.set_found(column, found).map_err(|why| self.refuse(why))?;
        }
        Ok(())
    }

    /// An object or array must not stand where a column wants a value of its own.
    fn inner<E: Error>(&mut self, field: usize, found: Found<'_>) -> Result<(), E> {
        for &column in &self.fields.fields[field].columns {
            self.row.set_found(column, found).map_err(|why| self.refuse(why))?;
        }
        Ok(())
    }

    fn enter<E: Error>(&mut self, field: usize) -> Result<(), E> {
        if std::mem::replace(&mut self.seen[field], true) {
            let why = format!("{} is there twice", self.fields.words(field));
            return Err(self.refuse(why));
        }
        Ok(())
    }
}

/// Reads the value of a field.
pub(super) struct ValueOf<'v, 'w> {
    walk: &'v mut Walk<'w>,
    field: usize,
}

impl<'de> DeserializeSeed<'de> for ValueOf<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let ValueOf { walk, field } = self;
        let around = std::mem::replace(&mut walk.at, field);
        deserializer.deserialize_any(ValueOf { walk: &mut *walk, field })?;
        walk.at = around;
        Ok(())
    }
}

impl<'de> Visitor<'de> for ValueOf<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.walk.leaf(self.field, Found::Null)
    }

    fn visit_bool<E: Error>(self, is_true: bool) -> Result<(), E> {
        self.walk.leaf(self.field, Found::Boolean(is_true))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.walk.leaf(self.field, Found::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.walk.leaf(self.field, Found::Unsigned(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.walk.leaf(self.field, Found::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.walk.leaf(self.field, Found::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let ValueOf { walk, field } = self;
        if field == ROOT {
            return walk.leaf(field, Found::Array);
        }
        walk.inner(field, Found::Array)?;
        let mut index = 0;
        loop {
            let item = match walk.fields.find_index(field, index) {
                Some(item) => {
                    walk.enter(item)?;
                    items.next_element_seed(ValueOf { walk: &mut *walk, field: item })?
                }
                None => items.next_element::<IgnoredAny>()?.map(drop),
            };
            if item.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let ValueOf { walk, field } = self;
        walk.inner(field, Found::Object)?;
        while let Some(member) = members.next_key_seed(MemberOf { fields: walk.fields, field })? {
            match member {
                Some(member) => {
                    walk.enter(member)?;
                    members.next_value_seed(ValueOf { walk: &mut *walk, field: member })?;
                }
                // serde_json skips without recursion: depth does not matter here.
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads the name of a member: the field it is, if it was declared.
struct MemberOf<'f> {
    fields: &'f Fields,
    field: usize,
}

impl<'de> DeserializeSeed<'de> for MemberOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for MemberOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.fields.find(self.field, name))
    }
}

/// What is wrong with the JSON itself, in words. `field` is the one that was being read.
pub(super) fn not_json(error: &serde_json::Error, text: &str, fields: &Fields, field: usize) -> String {
    let words = error.to_string();
    let what = words.split(" at line ").next().unwrap_or_default();
    let place = match error.line() {
        1 => format!("at byte {}", error.column()),
        line => format!("at line {line}, byte {}", error.column()),
    };
    let inside = match field {
        ROOT => String::new(),
        _ => format!(", in {}", fields.words(field)),
    };
    if error.is_eof() {
        return format!("the JSON is cut off {place}{inside}: {what}");
    }
    if what == "number out of range" {
        return format!("{} is a number too large for a float, {place}", fields.words(field));
    }
    format!("it is not JSON: {what} {place}{inside}: `{}`", printable(text_at(error, text), SHOWN))
}

/// How much of the text is shown, in characters.
const SHOWN: usize = 20;

/// The text from the error on.
fn text_at<'t>(error: &serde_json::Error, text: &'t str) -> &'t str {
    let line = text.split_inclusive('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    // serde counts the bytes up to the wrong one, which may be in the middle of a character.
    let start = (0..error.column().min(line.len() + 1)).rev().find(|&start| line.is_char_boundary(start));
    &line[start.unwrap_or_default()..]
}
