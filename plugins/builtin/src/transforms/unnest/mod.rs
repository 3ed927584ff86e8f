//! `unnest`: one JSON document becomes rows.

mod cell;
mod path;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::keyed::find_column;
use pipeline_stage::{
    ColumnType, Output, Result, SavedState, StageContext, StageError, StageOptions, Transform, TransformOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::formats::value::Found;
use cell::{Cell, Column};
use path::Path;
use rows::{Rows, bytes_of};

/// Turns a JSON document into rows: one row, one for each element of an array in it, or several for each.
///
/// `column` names the text column that holds the document, `columns` those of the rows. A column takes the value
/// that `from` names: `main.temp` is the field `temp` of the object `main`, `list.0` the first element of the array
/// `list`. A JSON Pointer (RFC 6901, `/main/temp`) says the same, also for names with dots in them. The columns that
/// stand beside the document are kept in every row.
///
/// With `each` there is a row for each place that fits it: `list.*` is every element of the array `list`, or every
/// field of the object `list`; there may be several `*`. In other paths a `*` stands for the element of that row,
/// the first for the first and so on: with `each: stations.*.readings.*` the path `stations.*.name` is the name of
/// the station that the reading is of. Arrays that lie side by side go together in the same way: with
/// `each: hourly.time.*` the path `hourly.temperature.*` is the temperature of that hour. `*#` at the end of a path
/// is not the value but the name of the field, or the number of the element from 0.
///
/// With `rows` there are several rows for the document, or for each element. Each says what is in its columns: text,
/// in which paths stand in braces (`'{name}-temp'`), or a number, or true or false. A text that is nothing but one
/// path in braces is that value itself, so that numbers stay numbers. A brace itself is written twice. Columns that a
/// row does not mention have their value from `from`.
///
/// Types are not guessed, as in format `json`: text is not a number, nor a number text; but a text put together of
/// several parts is read as what its column is. A `timestamp` takes RFC 3339 text, which is UTC if it names no zone,
/// or seconds or milliseconds since 1970. What is missing or null is null in a column that is `nullable`.
///
/// A document gives all its rows or none: it becomes a dead letter, with the reason, when it is no JSON, when a
/// column cannot take what it finds, or when what `each` goes through is missing. A document whose array is empty
/// gives no row, and is counted as filtered.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnnestOptions {
    /// The column with the document, of type `string`. It is not kept.
    pub column: String,
    /// The columns of the rows, in this order: `name: type`, or `name: { type: float, from: main.temp, nullable: true }`.
    #[schemars(with = "BTreeMap<String, ColumnChoice>")]
    pub columns: Map<String, Value>,
    /// The path of what gives a row each, with a `*` for the elements: `list.*`. Default: the document itself.
    #[serde(default)]
    pub each: Option<String>,
    /// Several rows for one: a list of maps from columns to what is in them, such as `{ sensor_id: '{name}-temp', value: '{main.temp}' }`.
    #[serde(default)]
    #[schemars(with = "Option<Vec<BTreeMap<String, CellChoice>>>")]
    pub rows: Option<Vec<Map<String, Value>>>,
}

/// `float`, or `{ type: float, … }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum ColumnChoice {
    /// Its type.
    Short(ColumnType),
    /// Its type and where its value stands.
    Long(ColumnOptions),
}

/// A column in its long form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnOptions {
    /// Its type.
    r#type: ColumnType,
    /// The path of its value in the document. Default: the field of the column's name, in the document or the element.
    #[serde(default)]
    from: Option<String>,
    /// Whether a row may lack the value; otherwise such a document becomes a dead letter.
    #[serde(default)]
    nullable: bool,
}

/// What is in a column; for the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "`Cell::parse` reads it, and says in its own words what is wrong")]
enum CellChoice {
    /// Text, with paths in braces.
    Text(String),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

impl StageOptions for UnnestOptions {
    const NAME: &'static str = "unnest";
    const EXAMPLE: &'static str = "
readings:
  type: unnest
  inputs: [documents]
  column: document
  columns:
    sensor_id: string
    metric_type: string
    value: float
    timestamp: { type: timestamp, from: dt }
  rows:
    - { sensor_id: '{name}-temp', metric_type: temperature, value: '{main.temp}' }
    - { sensor_id: '{name}-humidity', metric_type: humidity, value: '{main.humidity}' }
";
}

impl TransformOptions for UnnestOptions {
    fn build(self, _: &StageContext, inputs: &[SchemaRef], _: SavedState) -> Result<Box<dyn Transform>> {
        let given = inputs.first().ok_or_else(|| StageError::config("it reads no stage"))?;
        if inputs.iter().any(|other| other.fields() != given.fields()) {
            let message = "its inputs give different columns; a stage of its own for each can read them";
            return Err(StageError::config(message).at_option("inputs"));
        }
        let document = find_column(given, &self.column).map_err(|error| error.at_option("column"))?;
        if given.field(document).data_type() != &DataType::Utf8 {
            let message = format!("column `{}` holds no text, a document must be of type `string`", self.column);
            return Err(StageError::config(message).at_option("column"));
        }
        let each = self.each()?;
        let (columns, usual) = self.columns(each.as_ref())?;
        let templates = self.templates(&columns, &usual, each.as_ref())?;
        let kept: Vec<usize> = (0..given.fields().len()).filter(|column| *column != document).collect();
        let schema = schema_of(given, &kept, &columns)?;
        Ok(Box::new(Unnest { schema, document, kept, each, columns, templates }))
    }
}

impl UnnestOptions {
    fn each(&self) -> Result<Option<Path>> {
        let Some(text) = &self.each else { return Ok(None) };
        let wrong = |message: String| StageError::config(message).at_option("each");
        let path = Path::parse(text).map_err(wrong)?;
        if path.n_stars() == 0 {
            let like = if text.starts_with('/') { format!("{text}/*") } else { format!("{text}.*") };
            return Err(wrong(format!("`each` is `{text}`, it must have a `*` for the elements: `{like}`")));
        }
        match path.asks_key() {
            true => Err(wrong(format!("`each` is `{text}`, it must lead to values, not to their names"))),
            false => Ok(Some(path)),
        }
    }

    /// The columns, and what each is filled with where no row says otherwise.
    fn columns(&self, each: Option<&Path>) -> Result<(Vec<Column>, Vec<Cell>)> {
        if self.columns.is_empty() {
            return Err(StageError::config("`columns` names no column, it must name at least one").at_option("columns"));
        }
        let (mut columns, mut cells) = (Vec::new(), Vec::new());
        for (name, value) in &self.columns {
            let at = format!("columns.{name}");
            let choice = ColumnChoice::deserialize(value).map_err(|_| {
                let right = "it would be like `float` or `{ type: float, from: main.temp, nullable: true }`";
                StageError::config(format!("column `{name}` cannot be read, {right}")).at_option(&at)
            })?;
            let (column_type, from, nullable) = match choice {
                ColumnChoice::Short(column_type) => (column_type, None, false),
                ColumnChoice::Long(options) => (options.r#type, options.from, options.nullable),
            };
            let path = match &from {
                Some(from) => {
                    Path::parse(from).map_err(|why| StageError::config(why).at_option(format!("{at}.from")))?
                }
                None => each.map_or_else(|| Path::of_field(name), |each| each.join(name)),
            };
            let cell = Cell::Place(path);
            check_stars(&cell, each).map_err(|error| error.at_option(format!("{at}.from")))?;
            columns.push(Column { name: name.clone(), column_type, nullable });
            cells.push(cell);
        }
        Ok((columns, cells))
    }

    /// For each row of a document, or of an element, what its columns are filled with.
    fn templates(&self, columns: &[Column], usual: &[Cell], each: Option<&Path>) -> Result<Vec<Vec<Cell>>> {
        let Some(rows) = &self.rows else { return Ok(vec![usual.to_vec()]) };
        if rows.is_empty() {
            return Err(StageError::config("`rows` is empty, it must have at least one row").at_option("rows"));
        }
        let mut templates = Vec::with_capacity(rows.len());
        for (number, row) in rows.iter().enumerate() {
            let mut cells = usual.to_vec();
            for (name, value) in row {
                let wrong = |message: String| StageError::config(message).at_option(format!("rows.{number}.{name}"));
                let Some(idx) = columns.iter().position(|column| column.name == *name) else {
                    return Err(wrong(format!("`{name}` is none of the `columns`")));
                };
                let cell = Cell::parse(value, &columns[idx]).map_err(wrong)?;
                check_stars(&cell, each).map_err(|error| error.at_option(format!("rows.{number}.{name}")))?;
                cells[idx] = cell;
            }
            templates.push(cells);
        }
        Ok(templates)
    }
}

/// A `*` must stand for one of `each`.
fn check_stars(cell: &Cell, each: Option<&Path>) -> Result<()> {
    let n_stars = each.map_or(0, Path::n_stars);
    match cell.paths().find(|path| n_stars < path.n_stars()) {
        Some(path) => {
            let message = format!("`{}` has more `*` than `each`, which they are to stand for", path.words(&[]));
            Err(StageError::config(message))
        }
        None => Ok(()),
    }
}

fn schema_of(given: &Schema, kept: &[usize], columns: &[Column]) -> Result<SchemaRef> {
    let mut fields: Vec<Arc<Field>> = kept.iter().map(|column| given.fields()[*column].clone()).collect();
    for Column { name, column_type, nullable } in columns {
        if fields.iter().any(|field| field.name() == name) {
            let message = format!("column `{name}` stands beside the document already, call this one otherwise");
            return Err(StageError::config(message).at_option(format!("columns.{name}")));
        }
        fields.push(Arc::new(Field::new(name, column_type.arrow(), *nullable)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

struct Unnest {
    schema: SchemaRef,
    /// The column with the document.
    document: usize,
    /// The columns beside it.
    kept: Vec<usize>,
    each: Option<Path>,
    columns: Vec<Column>,
    /// For each row of a document or element, what its columns are filled with.
    templates: Vec<Vec<Cell>>,
}

impl Transform for Unnest {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _: usize, given: &RecordBatch, out: &mut Output) -> Result<()> {
        let documents = given.column(self.document).as_string::<i32>();
        let mut rows = Rows::new(&self.columns);
        for row in 0..given.num_rows() {
            rows.begin();
            match self.unnest(documents, row, bytes_of(given, &self.kept, row), &mut rows) {
                Err(why) => {
                    rows.take_back();
                    out.reject(row, why);
                }
                Ok(()) => match rows.of_document() {
                    0 => out.filtered(1),
                    n_rows => out.created(n_rows as u64 - 1),
                },
            }
            if rows.are_enough() {
                std::mem::replace(&mut rows, Rows::new(&self.columns)).emit(&self.schema, given, &self.kept, out)?;
            }
        }
        rows.emit(&self.schema, given, &self.kept, out)
    }
}

impl Unnest {
    /// Adds the rows of a document. `bytes` stand beside it.
    fn unnest(&self, documents: &StringArray, row: usize, bytes: usize, rows: &mut Rows) -> Result<(), String> {
        if documents.is_null(row) {
            return Err("it has no document".into());
        }
        let document: Value = serde_json::from_str(documents.value(row)).map_err(|error| not_json(&error))?;
        if !document.is_object() && !document.is_array() {
            return Err(format!("it is {}, a document must be an object or an array", Found::from(&document).words()));
        }
        match &self.each {
            Some(each) => each.each(&document, &mut |stars| {
                let mut templates = self.templates.iter();
                templates.try_for_each(|cells| rows.add(&self.columns, cells, &document, stars, (row, bytes)))
            }),
            None => {
                let mut templates = self.templates.iter();
                templates.try_for_each(|cells| rows.add(&self.columns, cells, &document, &[], (row, bytes)))
            }
        }
    }
}

fn not_json(error: &serde_json::Error) -> String {
    match error.is_eof() {
        true => format!("the JSON is cut off: {error}"),
        false => format!("it is not JSON: {error}"),
    }
}

#[cfg(test)]
mod tests;
