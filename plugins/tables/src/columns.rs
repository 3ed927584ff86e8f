//! Which columns of the rows go into which columns of the table.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use pipeline_stage::keyed::find_column;
use pipeline_stage::{ColumnType, Result, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The columns to write: a list of names, or a map from the names they have in the pipeline to those in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of columns, or a map from columns to those of the table")]
pub enum Columns {
    /// They are called the same in the table, and are written in this order.
    List(Vec<String>),
    /// What each is called in the table; written in the order in which they come.
    Map(BTreeMap<String, String>),
}

/// What happens when the table is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Create {
    /// It is made.
    #[default]
    IfMissing,
    /// The pipeline does not start.
    Never,
}

/// A column that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenColumn {
    /// Its place in the rows.
    pub position: usize,
    /// What it is called in the table.
    pub name: String,
    /// Its type in the pipeline.
    pub column_type: ColumnType,
    /// Whether a row may lack it.
    pub is_nullable: bool,
}

/// Resolves the option `columns` against the columns that reach the sink; without it all of them are written.
///
/// `is_same_name` says when two names are one column of the table: databases differ about upper and lower case.
///
/// # Errors
/// Of kind `Config`, at the option `columns`: a column that is not there, of a type that no table takes, or two for
/// one column of the table; also when no column is left.
pub fn written_columns(
    schema: &Schema,
    columns: Option<&Columns>,
    is_same_name: fn(&str, &str) -> bool,
) -> Result<Vec<WrittenColumn>> {
    let written = match columns {
        None => schema.fields().iter().map(|field| written_column(schema, field.name(), field.name())).collect(),
        Some(Columns::List(names)) => names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                written_column(schema, name, name).map_err(|error| error.at_option(format!("columns.{i}")))
            })
            .collect::<Result<Vec<_>>>(),
        Some(Columns::Map(names)) => by_map(schema, names),
    }?;
    if written.is_empty() {
        return Err(StageError::config("`columns` is empty, it must name at least one column").at_option("columns"));
    }
    for (i, column) in written.iter().enumerate() {
        if written[..i].iter().any(|earlier| is_same_name(&earlier.name, &column.name)) {
            let message = format!("column `{}` of the table would be written twice", column.name);
            return Err(StageError::config(message).at_option("columns"));
        }
    }
    Ok(written)
}

fn by_map(schema: &Schema, names: &BTreeMap<String, String>) -> Result<Vec<WrittenColumn>> {
    let mut written = Vec::with_capacity(names.len());
    for (from, name) in names {
        written.push(written_column(schema, from, name).map_err(|error| error.at_option(format!("columns.{from}")))?);
    }
    written.sort_by_key(|column| column.position);
    Ok(written)
}

fn written_column(schema: &Schema, from: &str, name: &str) -> Result<WrittenColumn> {
    let position = find_column(schema, from)?;
    let field = schema.field(position);
    let Some(column_type) = ColumnType::of(field.data_type()) else {
        return Err(StageError::config(format!(
            "column `{from}` is {}, which no column of a table takes; leave it out of `columns`",
            field.data_type()
        )));
    };
    Ok(WrittenColumn { position, name: name.into(), column_type, is_nullable: field.is_nullable() })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use pipeline_stage::timestamp_type;

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("sensor_id", DataType::Utf8, false),
            Field::new("value", DataType::Float64, true),
            Field::new("timestamp", timestamp_type(), false),
        ])
    }

    fn columns(json: &str) -> Columns {
        serde_json::from_str(json).unwrap()
    }

    fn names(columns: Option<&Columns>) -> Vec<(usize, String)> {
        let written = written_columns(&schema(), columns, str::eq).unwrap();
        written.into_iter().map(|column| (column.position, column.name)).collect()
    }

    #[test]
    fn all_columns_are_written_unless_some_are_named() {
        assert_eq!(names(None), [(0, "sensor_id".into()), (1, "value".into()), (2, "timestamp".into())]);
        assert_eq!(names(Some(&columns(r#"["timestamp", "value"]"#))), [(2, "timestamp".into()), (1, "value".into())]);
        let map = columns(r#"{"value": "reading", "sensor_id": "sensor"}"#);
        assert_eq!(names(Some(&map)), [(0, "sensor".into()), (1, "reading".into())]);
    }

    #[test]
    fn refuses_columns_that_cannot_be_written() {
        for (json, option, message) in [
            (
                r#"["sensor_id", "valeu"]"#,
                "columns.1",
                "there is no column `valeu`; there is sensor_id (string), value (float), timestamp (timestamp)",
            ),
            (
                r#"{"valeu": "x"}"#,
                "columns.valeu",
                "there is no column `valeu`; there is sensor_id (string), value (float), timestamp (timestamp)",
            ),
            (r#"["value", "value"]"#, "columns", "column `value` of the table would be written twice"),
            (r#"{"value": "x", "sensor_id": "x"}"#, "columns", "column `x` of the table would be written twice"),
            ("[]", "columns", "`columns` is empty, it must name at least one column"),
        ] {
            let error = written_columns(&schema(), Some(&columns(json)), str::eq).unwrap_err();
            assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
        }
    }
}
