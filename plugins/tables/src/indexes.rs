//! Which indexes a table gets when it is made.

use std::collections::HashSet;

use pipeline_stage::{Result, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::WrittenColumn;

/// An index: on a column of the table, or on several, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a column, or a list of columns")]
pub enum Index {
    /// On one.
    Column(String),
    /// On several: rows are found by the first, and the first two, and so on.
    Columns(Vec<String>),
}

impl Index {
    /// The columns, in their order.
    pub fn columns(&self) -> &[String] {
        match self {
            Index::Column(column) => std::slice::from_ref(column),
            Index::Columns(columns) => columns,
        }
    }

    /// The option's place of a column of it.
    fn place(&self, index: usize, column: usize) -> String {
        match self {
            Index::Column(_) => format!("indexes.{index}"),
            Index::Columns(_) => format!("indexes.{index}.{column}"),
        }
    }
}

/// Checks the option `indexes` against what is written.
///
/// # Errors
/// Of kind `Config`, at the option: a column that is not written or stands twice in an index, an index without columns,
/// or the same one twice.
pub fn check_indexes(indexes: &[Index], written: &[WrittenColumn]) -> Result<()> {
    let wrong = |place: String, message: String| Err(StageError::config(message).at_option(place));
    let mut seen = HashSet::new();
    for (i, index) in indexes.iter().enumerate() {
        let columns = index.columns();
        if columns.is_empty() {
            return wrong(format!("indexes.{i}"), "an index is on no column, it must be on at least one".into());
        }
        for (n, column) in columns.iter().enumerate() {
            if !written.iter().any(|written| written.name == *column) {
                let names: Vec<&str> = written.iter().map(|column| column.name.as_str()).collect();
                let message = format!("column `{column}` is not written into the table; there is {}", names.join(", "));
                return wrong(index.place(i, n), message);
            }
            if columns[..n].contains(column) {
                return wrong(index.place(i, n), format!("`{column}` is named twice"));
            }
        }
        if !seen.insert(columns) {
            return wrong(format!("indexes.{i}"), format!("`{}` is named twice", columns.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pipeline_stage::ColumnType;

    use super::*;

    fn checked(json: &str) -> Result<()> {
        let indexes: Vec<Index> = serde_json::from_str(json).unwrap();
        let column = |name: &str| WrittenColumn {
            position: 0,
            name: name.into(),
            column_type: ColumnType::String,
            is_nullable: false,
        };
        check_indexes(&indexes, &["sensor_id", "value", "timestamp"].map(column))
    }

    #[test]
    fn an_index_is_on_a_column_or_on_several() {
        for json in [
            r#"["timestamp", "sensor_id"]"#,
            r#"["timestamp", ["sensor_id", "timestamp"], ["timestamp", "sensor_id"]]"#,
            "[]",
        ] {
            assert!(checked(json).is_ok(), "{json}");
        }
        assert!(serde_json::from_str::<Index>("7").unwrap_err().to_string().contains("expected a column, or a list"));
    }

    #[test]
    fn refuses_indexes_that_cannot_be_or_are_there_already() {
        let missing = "column `time` is not written into the table; there is sensor_id, value, timestamp";
        for (json, option, message) in [
            (r#"["value", "time"]"#, "indexes.1", missing),
            (r#"["value", ["sensor_id", "time"]]"#, "indexes.1.1", missing),
            (r#"["value", "value"]"#, "indexes.1", "`value` is named twice"),
            (r#"["value", ["value"]]"#, "indexes.1", "`value` is named twice"),
            (r#"[["value", "sensor_id"], ["value", "sensor_id"]]"#, "indexes.1", "`value, sensor_id` is named twice"),
            (r#"[["value", "sensor_id", "value"]]"#, "indexes.0.2", "`value` is named twice"),
            (r#"["value", []]"#, "indexes.1", "an index is on no column, it must be on at least one"),
        ] {
            let error = checked(json).unwrap_err();
            assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
        }
    }
}
