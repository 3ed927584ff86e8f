//! The tables of the store as rows of plain values, whatever the database.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pipeline_stage::{Result, StageError};
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::super::errors::store_error;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Text,
    Number,
    Bytes,
}

/// A table with its columns, without `pipeline`.
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Holds)],
    /// Its rows have a number that the database gives.
    pub is_numbered: bool,
    /// It lies with the checkpoints.
    pub is_of_checkpoints: bool,
}

use Holds::{Bytes, Number, Text};

/// All tables of a pipeline but the leases, which belong to processes.
pub const TABLES: [Table; 9] = [
    Table {
        name: "pipeline_state_checkpoints",
        columns: &[("task", Text), ("state_id", Text), ("epoch", Number), ("checkpoint", Text)],
        is_numbered: false,
        is_of_checkpoints: true,
    },
    Table {
        name: "pipeline_state_changes",
        columns: &[
            ("task", Text),
            ("stage", Text),
            ("bucket", Number),
            ("epoch", Number),
            ("part", Number),
            ("changes", Bytes),
        ],
        is_numbered: false,
        is_of_checkpoints: true,
    },
    Table {
        name: "pipeline_state_settings",
        columns: &[("name", Text), ("value", Text)],
        is_numbered: false,
        is_of_checkpoints: false,
    },
    Table {
        name: "pipeline_state_tasks",
        columns: &[
            ("task", Text),
            ("state_id", Text),
            ("generation", Number),
            ("epoch", Number),
            ("begun_above", Number),
            ("sinks", Text),
            ("definition", Text),
        ],
        is_numbered: false,
        is_of_checkpoints: false,
    },
    Table {
        name: "pipeline_state_epochs",
        columns: &[("task", Text), ("epoch", Number), ("n_rows", Number), ("entry", Bytes)],
        is_numbered: false,
        is_of_checkpoints: false,
    },
    Table {
        name: "pipeline_state_marks",
        columns: &[("task", Text), ("sink", Text), ("mark", Text)],
        is_numbered: false,
        is_of_checkpoints: false,
    },
    Table {
        name: "pipeline_state_outbox",
        columns: &[
            ("sink", Text),
            ("task", Text),
            ("epoch", Number),
            ("place", Text),
            ("row_offset", Number),
            ("branch", Number),
            ("alert", Text),
            ("is_excess", Number),
            ("digest", Number),
            ("delivered_at", Number),
        ],
        is_numbered: true,
        is_of_checkpoints: false,
    },
    Table {
        name: "pipeline_state_evidence",
        columns: &[
            ("task", Text),
            ("epoch", Number),
            ("at", Number),
            ("stage", Text),
            ("ids", Text),
            ("series", Text),
            ("row_at", Number),
            ("judge", Bytes),
            ("judged", Bytes),
        ],
        is_numbered: true,
        is_of_checkpoints: false,
    },
    Table {
        name: "pipeline_state_dead_letters",
        columns: &[
            ("stage", Text),
            ("edge", Number),
            ("task", Text),
            ("place", Text),
            ("row_offset", Number),
            ("branch", Number),
            ("epoch", Number),
            ("reason", Text),
            ("bytes", Bytes),
            ("beside", Bytes),
            ("at", Number),
            ("replay_requested", Number),
        ],
        is_numbered: true,
        is_of_checkpoints: false,
    },
];

impl Table {
    /// Reads its rows, in a fixed order.
    pub fn select(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let (number, order) = match self.is_numbered {
            true => ("number, ", "number".to_owned()),
            false => ("", names[..names.len().min(5)].join(", ")),
        };
        format!("SELECT {number}{} FROM {} WHERE pipeline = $1 ORDER BY {order}", names.join(", "), self.name)
    }

    /// A row as JSON; bytes in Base64.
    pub fn read(&self, row: &AnyRow) -> Result<Map<String, Value>> {
        let mut object = Map::new();
        let first = usize::from(self.is_numbered);
        if self.is_numbered {
            object.insert("number".into(), number(row, 0)?);
        }
        for (at, (name, holds)) in self.columns.iter().enumerate() {
            let value = match holds {
                Text => row.try_get::<Option<String>, _>(first + at).map(|text| text.map_or(Value::Null, Value::from)),
                Number => {
                    row.try_get::<Option<i64>, _>(first + at).map(|number| number.map_or(Value::Null, Value::from))
                }
                Bytes => row
                    .try_get::<Option<Vec<u8>>, _>(first + at)
                    .map(|bytes| bytes.map_or(Value::Null, |bytes| BASE64.encode(bytes).into())),
            };
            object.insert((*name).into(), value.map_err(|error| store_error(&error))?);
        }
        Ok(object)
    }

    /// Inserts a row; gives the number that a numbered one got.
    pub async fn insert(
        &self,
        transaction: &mut Transaction<'_, Any>,
        pipeline: &str,
        row: &Map<String, Value>,
    ) -> Result<Option<i64>> {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let places: Vec<String> = (0..names.len()).map(|at| format!("${}", at + 2)).collect();
        let returning = if self.is_numbered { " RETURNING number" } else { "" };
        let statement = format!(
            "INSERT INTO {} (pipeline, {}) VALUES ($1, {}){returning}",
            self.name,
            names.join(", "),
            places.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(statement)).bind(pipeline.to_owned());
        for (name, holds) in self.columns {
            let value = row.get(*name).ok_or_else(|| wrong(self.name, name, "is missing"))?;
            query = match holds {
                Text => query.bind(value.as_str().map(str::to_owned)),
                Number => query.bind(value.as_i64()),
                Bytes => query.bind(decoded(value).map_err(|_| wrong(self.name, name, "is no Base64"))?),
            };
        }
        if !self.is_numbered {
            query.execute(&mut **transaction).await.map_err(|error| store_error(&error))?;
            return Ok(None);
        }
        let given = query.fetch_one(&mut **transaction).await.map_err(|error| store_error(&error))?;
        given.try_get(0).map(Some).map_err(|error| store_error(&error))
    }
}

fn number(row: &AnyRow, column: usize) -> Result<Value> {
    row.try_get::<i64, _>(column).map(Value::from).map_err(|error| store_error(&error))
}

fn decoded(value: &Value) -> Result<Option<Vec<u8>>, base64::DecodeError> {
    value.as_str().map(|text| BASE64.decode(text)).transpose()
}

fn wrong(table: &str, column: &str, what: &str) -> StageError {
    StageError::config(format!("the exported state cannot be read: `{column}` of a row of `{table}` {what}"))
}
