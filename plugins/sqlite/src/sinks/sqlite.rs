//! The sink `sqlite`: rows into a table of a SQLite file, each exactly once.
//!
//! Rows and marks are written in one transaction over one connection. After any error the connection is dropped and
//! the next call makes another one, which looks at the table again: it may have been altered in the meantime.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, History, Owner, Refused, Result, Sink, SinkContext, SinkOptions,
    StageError, StageOptions,
};
use pipeline_tables::history::TableHistory;
use pipeline_tables::{
    Columns, Create, Index, Place, Trial, WrittenColumn, check_indexes, find_refused, places, written_columns,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::check;
use crate::database::{BEGIN, Database};
use crate::errors::Failure;
use crate::history::Archive;
use crate::marks;
use crate::table::{Table, create, describe, statements};
use crate::write::Writer;

/// Writes rows into a table of a SQLite file, each exactly once.
///
/// Rows are stored in the same transaction as a mark of how far the pipeline got, in the table `pipeline_marks` of the
/// same file, so that no crash loses a row or stores one twice. Several sinks may write to one file. It is kept in WAL
/// mode and every commit is synced to the disk; it must not lie on a network drive.
///
/// A table that is missing is made: with an `id` that numbers the rows (unless a column of that name is written), NOT
/// NULL where no row lacks the value. A table that is there is checked column by column and never altered. Columns that
/// are not written must have a default or may be NULL.
///
/// Floats are REAL, integers INTEGER, booleans 0 and 1. Times are text in UTC with six decimals,
/// `2025-07-20 08:19:16.412000`: it sorts, and compares with `datetime('now', '-1 hour')` and SQLite's other functions.
///
/// A row that the table can never take (a broken constraint, NaN, a year above 9999) becomes a dead letter and the
/// others are stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteOptions {
    /// The file, from the folder of the pipeline file on; it is made, with its folders, if it is missing.
    pub path: String,
    /// The table.
    pub table: String,
    /// The columns to write: a list of names, or a map to the names that they have in the table. Default: all.
    #[serde(default)]
    pub columns: Option<Columns>,
    /// Whether the table is made when it is missing: `if_missing` (default) or `never`.
    #[serde(default)]
    pub create: Create,
    /// Indexes that are made with the table: a column of it each, or a list of columns, in their order. Default: none.
    /// The dashboard is fast at any size with one on the column of times, and one on the columns of a series followed by
    /// that column and the one that is drawn: `[timestamp, [sensor_id, metric_type, timestamp, value]]`. An existing
    /// table gets none.
    #[serde(default)]
    pub indexes: Vec<Index>,
}

impl StageOptions for SqliteOptions {
    const NAME: &'static str = "sqlite";
    const EXAMPLE: &'static str = "
history:
  type: sqlite
  inputs: [readings]
  path: iot.db
  table: sensor_data
  columns: [sensor_id, metric_type, value, timestamp]
  indexes: [timestamp, [sensor_id, metric_type, timestamp, value]]
";
}

impl SinkOptions for SqliteOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        let settings = self.settings(&context)?;
        Ok(BuiltSink::Epochs(Box::new(SqliteSink { settings, opened: None })))
    }

    fn history(self, context: SinkContext) -> Result<Option<Box<dyn History>>> {
        let Settings { path, table, written, .. } = self.settings(&context)?;
        Ok(Some(Box::new(TableHistory::new(Box::new(Archive { path, table }), &context.schema, &written))))
    }
}

impl SqliteOptions {
    /// Checks the options against the columns that reach the sink.
    fn settings(self, context: &SinkContext) -> Result<Settings> {
        if self.path.is_empty() || self.path.starts_with(':') || self.path.contains('\0') {
            let message = format!("`{}` is no file, it would be like `iot.db` or `data/iot.db`", self.path);
            return Err(StageError::config(message).at_option("path"));
        }
        check_name(&self.table).map_err(|why| {
            StageError::config(format!("`{}` is no name of a table: {why}", self.table)).at_option("table")
        })?;
        // SQLite takes `Value` and `value` for the same column.
        let written = written_columns(&context.schema, self.columns.as_ref(), str::eq_ignore_ascii_case)?;
        for column in &written {
            check_name(&column.name).map_err(|why| {
                StageError::config(format!("`{}` is no name of a column: {why}", column.name)).at_option("columns")
            })?;
        }
        check_indexes(&self.indexes, &written)?;
        let path = context.stage.directory.join(&self.path);
        Ok(Settings { path, table: self.table, written, create: self.create, indexes: self.indexes })
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        _ if name.contains('\0') => Err("it holds a NUL character"),
        _ if name.to_ascii_lowercase().starts_with("sqlite_") => Err("names with `sqlite_` are SQLite's own"),
        _ => Ok(()),
    }
}

struct SqliteSink {
    settings: Settings,
    /// None before the first call and after an error.
    opened: Option<Opened>,
}

struct Settings {
    path: PathBuf,
    table: String,
    written: Vec<WrittenColumn>,
    create: Create,
    indexes: Vec<Index>,
}

/// A connection to a file that has all it needs.
struct Opened {
    database: Database,
    table: Table,
    writer: Writer,
}

#[async_trait]
impl Sink for SqliteSink {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn check(&mut self) -> Vec<StageError> {
        let Settings { path, table, written, create, .. } = &self.settings;
        match check::problems(path, table, written, *create).await {
            Ok(problems) => problems,
            Err(failure) => vec![failure.explain(path).at_option("path")],
        }
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let mut opened = self.opened().await?;
        let claim = marks::claim(&mut opened.database, owner).await;
        let claim = claim.map_err(|failure| failure.explain(&self.settings.path))?;
        self.opened = Some(opened);
        Ok(claim)
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let mut opened = self.opened().await?;
        let commit = opened.commit(epochs, &self.settings).await;
        let commit = commit.map_err(|failure| failure.explain(&self.settings.path))?;
        self.opened = Some(opened);
        Ok(commit)
    }
}

impl SqliteSink {
    /// Takes the connection out, or makes one: who fails with it, or is cancelled, does not put it back.
    async fn opened(&mut self) -> Result<Opened> {
        match self.opened.take() {
            Some(opened) => Ok(opened),
            None => self.settings.open().await.map_err(|failure| failure.explain(&self.settings.path)),
        }
    }
}

impl Settings {
    async fn open(&self) -> Result<Opened, Failure> {
        if let Some(problem) = check::path_problem(&self.path) {
            return Err(StageError::fatal(problem).at_option("path").into());
        }
        if let Some(folder) = self.path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| {
                StageError::fatal(format!("the folder `{}` cannot be made", folder.display()))
                    .because(error)
                    .at_option("path")
            })?;
        }
        let mut database = Database::open(&self.path).await?;
        marks::prepare(&mut database).await?;
        let mut table = describe(&mut database, &self.table).await?;
        if table.is_none() && self.create == Create::IfMissing {
            create(&mut database, &self.table, &statements(&self.table, &self.written, &self.indexes)).await?;
            table = describe(&mut database, &self.table).await?;
        }
        let table = table.ok_or_else(|| StageError::fatal(check::missing(&self.table)).at_option("table"))?;
        let problems = table.problems(&self.table, &self.written);
        if !problems.is_empty() {
            let message = format!("table `{}` does not fit: {}", self.table, problems.join("; "));
            return Err(StageError::fatal(message).at_option("table").into());
        }
        let writer = Writer::new(&self.table, &self.written);
        Ok(Opened { database, table, writer })
    }
}

impl Opened {
    async fn commit(&mut self, epochs: &[EpochRows], settings: &Settings) -> Result<Commit, Failure> {
        let Opened { database, table, writer } = self;
        let mut writable = places(epochs);
        let refused = take_refused(writer, epochs, &mut writable);
        if refused.is_empty() {
            match write_and_mark(database, writer, epochs, &writable).await {
                Ok(()) => return Ok(Commit::Done(vec![None; epochs.len()])),
                Err(failure) if failure.refusal().is_some() => database.run("ROLLBACK").await?,
                Err(failure) => return Err(failure),
            }
        }
        if describe(database, &settings.table).await?.as_ref() != Some(table) {
            let message = format!("table `{}` was altered meanwhile; it is looked at again", settings.table);
            return Err(StageError::transient(message).into());
        }
        let mut trial = Attempt { database, writer, epochs, path: &settings.path };
        refuse(refused, &mut trial, &writable).await
    }
}

/// Takes the rows out that SQLite could not store as they are.
fn take_refused(writer: &Writer, epochs: &[EpochRows], rows: &mut Vec<Place>) -> Vec<Refused> {
    let mut refused = Vec::new();
    rows.retain(|place| match writer.refusal(epochs, *place) {
        Some(why) => {
            refused.push(place.refused(why));
            false
        }
        None => true,
    });
    refused
}

async fn write_and_mark(
    database: &mut Database,
    writer: &Writer,
    epochs: &[EpochRows],
    rows: &[Place],
) -> Result<(), Failure> {
    database.run(BEGIN).await?;
    writer.write(database, epochs, rows).await?;
    marks::advance(database, epochs).await?;
    database.run("COMMIT").await?;
    Ok(())
}

/// Finds the rows that SQLite refuses, in a transaction that is rolled back, beside those already refused.
async fn refuse(mut refused: Vec<Refused>, trial: &mut Attempt<'_>, rows: &[Place]) -> Result<Commit, Failure> {
    trial.database.run(BEGIN).await?;
    refused.extend(find_refused(trial, rows).await?);
    trial.database.run("ROLLBACK").await?;
    if refused.is_empty() {
        return Err(StageError::transient("SQLite refused rows, and takes them now; they are written again").into());
    }
    refused.sort_by_key(|row| (row.epoch, row.batch, row.row));
    Ok(Commit::Refused(refused))
}

/// Writes rows behind a savepoint.
struct Attempt<'a> {
    database: &'a mut Database,
    writer: &'a Writer,
    epochs: &'a [EpochRows],
    path: &'a Path,
}

#[async_trait]
impl Trial for Attempt<'_> {
    async fn write(&mut self, rows: &[Place]) -> Result<Option<String>> {
        self.attempt(rows).await.map_err(|failure| failure.explain(self.path))
    }
}

impl Attempt<'_> {
    async fn attempt(&mut self, rows: &[Place]) -> Result<Option<String>, Failure> {
        self.database.run("SAVEPOINT attempt").await?;
        let Err(failure) = self.writer.write(self.database, self.epochs, rows).await else {
            self.database.run("RELEASE attempt").await?;
            return Ok(None);
        };
        let Some(why) = failure.refusal() else { return Err(failure) };
        self.database.run("ROLLBACK TO attempt; RELEASE attempt").await?;
        Ok(Some(format!("SQLite refuses it: {why}")))
    }
}
