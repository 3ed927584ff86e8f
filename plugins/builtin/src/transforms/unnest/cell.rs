//! What a column of a row is filled with: a value of the document, a text around some, or the same for every row.

use std::fmt::Write;

use pipeline_stage::{ColumnType, Zone, printable};
use serde_json::Value as Json;

use super::path::{Key, Path};
use crate::formats::value::{Found, Value, expected, value_of_field};

/// What a column is filled with.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    /// The value at a place.
    Place(Path),
    /// Text with the values at places in it.
    Text(Vec<Part>),
    /// A number, true or false.
    Constant(Json),
}

#[derive(Debug, Clone)]
pub(super) enum Part {
    Plain(String),
    Place(Path),
}

/// The column that is filled.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub column_type: ColumnType,
    pub nullable: bool,
}

/// A time without a zone is UTC: the pipeline's own zone is not told to transforms.
const ZONE: Zone = Zone::Utc;

impl Cell {
    /// Reads what `rows` says of a column.
    ///
    /// # Errors
    /// In words, for a text that cannot be read and for a constant that the column cannot take.
    pub fn parse(value: &Json, column: &Column) -> Result<Self, String> {
        let cell = match value {
            Json::String(text) => Self::of_text(text)?,
            Json::Number(_) | Json::Bool(_) => Cell::Constant(value.clone()),
            other => {
                return Err(format!("is {}, it must be text, a number, true or false", Found::from(other).words()));
            }
        };
        if cell.paths().next().is_none() {
            cell.value(column, &Json::Null, &[], &mut String::new())?;
        }
        Ok(cell)
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let (mut plain, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..];
            if brace.starts_with("{{") || brace.starts_with("}}") {
                plain.push_str(&brace[..1]);
                rest = &brace[2..];
                continue;
            }
            let end = brace.find('}').filter(|end| 0 < *end);
            let end = end.ok_or_else(|| {
                format!("is `{text}`, a path in it stands between `{{` and `}}`; a brace itself is written twice")
            })?;
            if !plain.is_empty() {
                parts.push(Part::Plain(std::mem::take(&mut plain)));
            }
            parts.push(Part::Place(Path::parse(brace[1..end].trim())?));
            rest = &brace[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        match parts.pop() {
            Some(Part::Place(path)) if parts.is_empty() => Ok(Cell::Place(path)),
            last => {
                parts.extend(last);
                Ok(Cell::Text(parts))
            }
        }
    }

    /// The places that it names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (path, parts) = match self {
            Cell::Place(path) => (Some(path), &[][..]),
            Cell::Text(parts) => (None, parts.as_slice()),
            Cell::Constant(_) => (None, &[][..]),
        };
        let of_parts = parts.iter().filter_map(|part| match part {
            Part::Place(path) => Some(path),
            Part::Plain(_) => None,
        });
        path.into_iter().chain(of_parts)
    }

    /// The value for a row. `text` is where texts are put together.
    ///
    /// # Errors
    /// In words, when the document does not have it or the column cannot take it.
    pub fn value<'a>(
        &'a self,
        column: &Column,
        document: &'a Json,
        stars: &[Key<'a>],
        text: &'a mut String,
    ) -> Result<Value<'a>, String> {
        let value = match self {
            Cell::Constant(constant) => Found::from(constant).as_value(column.column_type, ZONE),
            Cell::Place(path) => match found(path, document, stars) {
                Some(found) => found.as_value(column.column_type, ZONE),
                None => Ok(Value::Null),
            },
            Cell::Text(parts) => match put_together(parts, document, stars, text)? {
                Some(text) => value_of_field(text, column.column_type, ZONE),
                None => Ok(Value::Null),
            },
        };
        match value.map_err(|why| format!("{} {why}", self.describe(column, stars)))? {
            Value::Null if !column.nullable => Err(self.lacks(column, document, stars)),
            value => Ok(value),
        }
    }

    fn lacks(&self, column: &Column, document: &Json, stars: &[Key<'_>]) -> String {
        let is_absent = |path: &&Path| found(path, document, stars).is_none();
        let problem = if self.paths().any(|path| is_absent(&path)) { "is missing" } else { "is null" };
        let wanted = expected(column.column_type);
        format!("{} {problem}, it must be {wanted} (or `nullable: true`)", self.describe(column, stars))
    }

    /// `` column `value` (from `main.temp`) ``
    fn describe(&self, column: &Column, stars: &[Key<'_>]) -> String {
        let places: Vec<String> = self.paths().map(|path| format!("`{}`", path.words(stars))).collect();
        let name = printable(&column.name, usize::MAX);
        match places.is_empty() || places == [format!("`{name}`")] {
            true => format!("column `{name}`"),
            false => format!("column `{name}` (from {})", places.join(", ")),
        }
    }
}

/// What the document has at a place.
fn found<'a>(path: &Path, document: &'a Json, stars: &[Key<'a>]) -> Option<Found<'a>> {
    match path.asks_key() {
        true => path.key(stars).map(Found::from),
        false => path.find(document, stars).map(Found::from),
    }
}

impl<'a> From<Key<'a>> for Found<'a> {
    fn from(key: Key<'a>) -> Self {
        match key {
            Key::Name(name) => Found::Text(name),
            Key::Number(number) => Found::Integer(number as i64),
        }
    }
}

/// The text with the values in it; none when one of them is missing or null.
fn put_together<'a>(
    parts: &[Part],
    document: &Json,
    stars: &[Key<'_>],
    text: &'a mut String,
) -> Result<Option<&'a str>, String> {
    text.clear();
    for part in parts {
        let path = match part {
            Part::Plain(plain) => {
                text.push_str(plain);
                continue;
            }
            Part::Place(path) => path,
        };
        let Some(found) = found(path, document, stars) else { return Ok(None) };
        match found {
            Found::Null => return Ok(None),
            Found::Text(inner) => text.push_str(inner),
            Found::Integer(number) => write!(text, "{number}").expect("memory takes it"),
            Found::Unsigned(number) => write!(text, "{number}").expect("memory takes it"),
            Found::Float(number) => write!(text, "{number:?}").expect("memory takes it"),
            Found::Boolean(is_true) => write!(text, "{is_true}").expect("memory takes it"),
            Found::Array | Found::Object => {
                return Err(format!("`{}` is {}, it cannot stand in a text", path.words(stars), found.words()));
            }
        }
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(column_type: ColumnType, nullable: bool) -> Column {
        Column { name: "c".into(), column_type, nullable }
    }

    fn value(cell: Json, column_type: ColumnType, document: &Json) -> Result<String, String> {
        let column = column(column_type, true);
        let cell = Cell::parse(&cell, &column)?;
        let mut text = String::new();
        cell.value(&column, document, &[Key::Number(1), Key::Name("x")], &mut text).map(|value| format!("{value:?}"))
    }

    #[test]
    fn a_text_takes_the_values_that_it_names() {
        let document = json!({"name": "Köln", "n": 5, "f": 1e300, "b": true, "none": null, "list": [{}, {"x": 7}]});
        for (cell, column_type, expected) in [
            (json!("{name}-temp"), ColumnType::String, "Text(\"Köln-temp\")"),
            (json!("{{{name}}}"), ColumnType::String, "Text(\"{Köln}\")"),
            (json!("{n}/{ f }/{b}/{/list/*/x}"), ColumnType::String, "Text(\"5/1e300/true/7\")"),
            (json!("{list.*#}:{list.*.*#}"), ColumnType::String, "Text(\"1:x\")"),
            (json!("temperature"), ColumnType::String, "Text(\"temperature\")"),
            (json!(""), ColumnType::String, "Text(\"\")"),
            (json!("{n}"), ColumnType::Integer, "Integer(5)"),
            (json!("{list.*#}"), ColumnType::Integer, "Integer(1)"),
            (json!("{n}5"), ColumnType::Integer, "Integer(55)"),
            (json!("{n}.25"), ColumnType::Float, "Float(5.25)"),
            (json!("202{n}-01-01"), ColumnType::Timestamp, "Time(1735689600000000)"),
            (json!(2.5), ColumnType::Float, "Float(2.5)"),
            (json!(false), ColumnType::Boolean, "Boolean(false)"),
            (json!("true"), ColumnType::Boolean, "Boolean(true)"),
            (json!("{none}"), ColumnType::String, "Null"),
            (json!("x{none}"), ColumnType::String, "Null"),
            (json!("x{nothing}"), ColumnType::String, "Null"),
        ] {
            assert_eq!(value(cell.clone(), column_type, &document), Ok(expected.into()), "{cell}");
        }
    }

    #[test]
    fn says_what_cannot_be_taken() {
        let document = json!({"name": "Köln", "list": [1], "n": 5});
        for (cell, column_type, why) in [
            (
                json!("{name"),
                ColumnType::String,
                "is `{name`, a path in it stands between `{` and `}`; a brace itself is written twice",
            ),
            (
                json!("name}"),
                ColumnType::String,
                "is `name}`, a path in it stands between `{` and `}`; a brace itself is written twice",
            ),
            (json!("{}"), ColumnType::String, "`` is no path, it would be like `main.temp` or `/main/temp`"),
            (json!([1]), ColumnType::String, "is an array, it must be text, a number, true or false"),
            (json!("warm"), ColumnType::Float, "column `c` is `warm`, it must be a number"),
            (json!(5), ColumnType::String, "column `c` is the number `5`, it must be text"),
            (json!("{n}"), ColumnType::String, "column `c` (from `n`) is the number `5`, it must be text"),
            (json!("a{list}"), ColumnType::String, "`list` is an array, it cannot stand in a text"),
            (json!("{name}{n}"), ColumnType::Float, "column `c` (from `name`, `n`) is `Köln5`, it must be a number"),
        ] {
            assert_eq!(value(cell.clone(), column_type, &document), Err(why.into()), "{cell}");
        }
    }

    #[test]
    fn a_column_that_must_have_a_value_says_what_it_lacks() {
        let column = column(ColumnType::Float, false);
        for (document, problem) in [(json!({"a": {}}), "is missing"), (json!({"a": {"x": null}}), "is null")] {
            let cell = Cell::parse(&json!("{a.*}"), &column).unwrap();
            let error = cell.value(&column, &document, &[Key::Name("x")], &mut String::new()).unwrap_err();
            assert_eq!(error, format!("column `c` (from `a.x`) {problem}, it must be a number (or `nullable: true`)"));
        }
    }
}
