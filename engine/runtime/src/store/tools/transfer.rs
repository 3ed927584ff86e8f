//! All of a pipeline's state as lines of JSON, and back.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use futures::TryStreamExt;
use pipeline_stage::{Result, StageError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::super::connect::SqlStore;
use super::super::errors::store_error;
use super::super::tables::VERSION;
use super::StateTools;
use super::rows::{TABLES, Table};

/// What an export begins with.
const FORMAT: &str = "pipeline state";

/// The first line of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    version: String,
    pipeline: String,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Row {
        table: String,
        row: Map<String, Value>,
    },
    /// The last one: an export that was cut off has none.
    End {
        rows: u64,
    },
}

/// What was written or read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Tasks.
    pub tasks: u64,
    /// Rows of all tables.
    pub rows: u64,
}

impl StateTools {
    /// Writes everything. The state must have been opened with [`StateTools::alone`].
    ///
    /// # Errors
    /// When the store cannot be read or the output not be written.
    pub async fn export(&self, out: &mut dyn Write) -> Result<Moved> {
        let mut moved = Moved::default();
        let head = Head { format: FORMAT.into(), version: VERSION.into(), pipeline: self.store.pipeline.clone() };
        write_line(out, &head)?;
        for table in &TABLES {
            let mut read = 0;
            // Row by row, as one may be a megabyte.
            let query = sqlx::query(AssertSqlSafe(table.select())).bind(&self.store.pipeline);
            let mut rows = query.fetch(pool(&self.store, table));
            while let Some(row) = rows.try_next().await.map_err(|error| store_error(&error))? {
                write_line(out, &Line::Row { table: table.name.into(), row: table.read(&row)? })?;
                read += 1;
            }
            moved.rows += read;
            moved.tasks += if table.name == "pipeline_state_tasks" { read } else { 0 };
        }
        write_line(out, &Line::End { rows: moved.rows })?;
        out.flush().map_err(not_written)?;
        Ok(moved)
    }

    /// Reads what [`StateTools::export`] wrote into a store that has no state of this pipeline.
    ///
    /// Checkpoints come first: as long as there is no task, nothing of them counts.
    ///
    /// # Errors
    /// `Config` when there is state already, or the input is no export of this version and pipeline.
    pub async fn import(&self, input: &mut dyn BufRead) -> Result<Moved> {
        if !super::tasks::tasks(&self.store).await?.is_empty() {
            let words = format!(
                "there is state of `{}` in {} already: it is not overwritten",
                self.store.pipeline,
                self.place()
            );
            return Err(StageError::config(words));
        }
        let mut lines = Lines { input, number: 0 };
        self.check_head(lines.next()?)?;
        let mut moved = Moved::default();
        let mut transaction = self.store.checkpoints.begin().await.map_err(|error| store_error(&error))?;
        let mut is_in_checkpoints = true;
        let mut digests = HashMap::new();
        self.clear(&mut transaction, true).await?;
        loop {
            let (name, row) = match lines.next()? {
                Some(Line::Row { table, row }) => (table, row),
                Some(Line::End { rows }) if rows == moved.rows => break,
                _ => return Err(lines.wrong("it is cut off: rows are missing")),
            };
            let table = TABLES.iter().find(|table| table.name == name);
            let table = table.ok_or_else(|| lines.wrong(&format!("there is no table `{name}`")))?;
            if is_in_checkpoints && !table.is_of_checkpoints {
                transaction.commit().await.map_err(|error| store_error(&error))?;
                transaction = self.store.log.begin().await.map_err(|error| store_error(&error))?;
                is_in_checkpoints = false;
                self.clear(&mut transaction, false).await?;
            } else if !is_in_checkpoints && table.is_of_checkpoints {
                return Err(lines.wrong("checkpoints must come before all else"));
            }
            if is_of_other_version(table, &row) {
                return Err(lines.wrong("its version is not the one that its first line says"));
            }
            let given = table.insert(&mut transaction, &self.store.pipeline, &row).await?;
            renumber(&mut transaction, &row, given, &mut digests).await?;
            moved.rows += 1;
            moved.tasks += u64::from(table.name == "pipeline_state_tasks");
        }
        transaction.commit().await.map_err(|error| store_error(&error))?;
        Ok(moved)
    }

    fn check_head(&self, head: Option<Head>) -> Result<()> {
        let head = head.filter(|head| head.format == FORMAT);
        let head = head.ok_or_else(|| StageError::config("this is no exported state: its first line would say so"))?;
        if head.version != VERSION {
            let words =
                format!("the exported state has version {}, this program reads version {VERSION}", head.version);
            return Err(StageError::config(words));
        }
        if head.pipeline != self.store.pipeline {
            let words = format!(
                "the exported state is of the pipeline `{}`, this file is `{}`: a state belongs to its pipeline's name",
                head.pipeline, self.store.pipeline
            );
            return Err(StageError::config(words));
        }
        Ok(())
    }

    /// Takes away what an import that failed has left, and the settings that opening has made.
    async fn clear(&self, transaction: &mut Transaction<'_, Any>, is_of_checkpoints: bool) -> Result<()> {
        for table in TABLES.iter().filter(|table| table.is_of_checkpoints == is_of_checkpoints) {
            let statement = format!("DELETE FROM {} WHERE pipeline = $1", table.name);
            let delete = sqlx::query(AssertSqlSafe(statement)).bind(self.store.pipeline.clone());
            delete.execute(&mut **transaction).await.map_err(|error| store_error(&error))?;
        }
        Ok(())
    }
}

/// The version stands in a row, too: a store with another one could not be opened any more.
fn is_of_other_version(table: &Table, row: &Map<String, Value>) -> bool {
    let is_version = table.name == "pipeline_state_settings" && row.get("name").is_some_and(|name| name == "version");
    is_version && row.get("value").is_none_or(|value| value != VERSION)
}

/// A digest is known by the number of its first alert, which may have another one here.
async fn renumber(
    transaction: &mut Transaction<'_, Any>,
    row: &Map<String, Value>,
    given: Option<i64>,
    digests: &mut HashMap<i64, i64>,
) -> Result<()> {
    let number_of = |name: &str| row.get(name).and_then(Value::as_i64);
    let (Some(given), Some(was), Some(digest)) = (given, number_of("number"), number_of("digest")) else {
        return Ok(());
    };
    if was == digest {
        digests.insert(was, given);
    }
    let Some(digest) = digests.get(&digest) else { return Ok(()) };
    let update =
        sqlx::query("UPDATE pipeline_state_outbox SET digest = $1 WHERE number = $2").bind(*digest).bind(given);
    update.execute(&mut **transaction).await.map(drop).map_err(|error| store_error(&error))
}

fn pool<'a>(store: &'a SqlStore, table: &Table) -> &'a sqlx::AnyPool {
    if table.is_of_checkpoints { &store.checkpoints } else { &store.log }
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, line).map_err(std::io::Error::from).map_err(not_written)?;
    out.write_all(b"\n").map_err(not_written)
}

fn not_written(error: std::io::Error) -> StageError {
    StageError::fatal("the exported state cannot be written").because(error)
}

/// The lines of an export.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = String::new();
        self.number += 1;
        let read = self.input.read_line(&mut line).map_err(|error| self.wrong(&error.to_string()))?;
        if read == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).map_err(|error| self.wrong(&error.to_string()))
    }

    fn wrong(&self, what: &str) -> StageError {
        StageError::config(format!("the exported state cannot be read: line {}: {what}", self.number))
    }
}
