//! The sink `postgres`: rows into a table of PostgreSQL, each exactly once.
//!
//! Rows and marks are written in one transaction over one connection. After any error the connection is dropped and
//! the next call makes another one, which looks at the table again: it may have been altered in the meantime.

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, History, Owner, Refused, Result, Secret, Sink, SinkContext,
    SinkOptions, StageError, StageOptions,
};
use pipeline_tables::history::TableHistory;
use pipeline_tables::{
    Columns, Create, Index, Place, Trial, WrittenColumn, check_indexes, find_refused, places, written_columns,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Address;
use crate::check;
use crate::connection_name::{name_of_owner, name_of_reader};
use crate::create::{create, statements};
use crate::database::{BEGIN, Database};
use crate::errors::Failure;
use crate::history::Archive;
use crate::marks;
use crate::table::{Table, TableName, check_name, describe};
use crate::target::fit;
use crate::value::Values;
use crate::write::Writer;

/// Writes rows into a table of PostgreSQL (12 or later), each exactly once.
///
/// Rows are stored in the same transaction as a mark of how far the pipeline got, in the table `pipeline_marks` beside
/// them, so that no crash loses a row or stores one twice. Keep that table as long as you keep the pipeline's state.
///
/// A table that is missing is made: with an `id` that numbers the rows (unless a column of that name is written), text,
/// bigint, double precision, boolean and timestamptz columns, NOT NULL where no row lacks the value. A table that is
/// there is checked column by column and never altered. Its columns may also be varchar, char, json, jsonb, citext or
/// an enumeration for strings; smallint, integer, numeric or double precision for integers; real or numeric for floats;
/// timestamp (stored in UTC) for timestamps. Columns that are not written must have a default or may be NULL.
///
/// A row that the table can never take (a text longer than its column, a broken constraint, a NUL character) becomes a
/// dead letter and the others are stored. A server that does not answer for 60 s is treated as gone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresOptions {
    /// The database: `postgres://user:password@host:5432/database`, with `?sslmode=require` (or `verify-full`) where the
    /// network is not to be trusted. Never printed.
    pub url: Secret,
    /// The table, taken letter by letter: `sensor_data`, or `plant.sensor_data` in another schema.
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

impl StageOptions for PostgresOptions {
    const NAME: &'static str = "postgres";
    const EXAMPLE: &'static str = "
history:
  type: postgres
  inputs: [readings]
  url: ${DATABASE_URL}
  table: sensor_data
  columns: [sensor_id, metric_type, value, timestamp]
  indexes: [timestamp, [sensor_id, metric_type, timestamp, value]]
";
}

impl SinkOptions for PostgresOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        let settings = self.settings(&context)?;
        Ok(BuiltSink::Epochs(Box::new(PostgresSink { settings, connected: None })))
    }

    fn history(self, context: SinkContext) -> Result<Option<Box<dyn History>>> {
        let Settings { address, place, name, written, .. } = self.settings(&context)?;
        let archive = Archive { address, place, connection_name: name_of_reader(&context.stage), name };
        Ok(Some(Box::new(TableHistory::new(Box::new(archive), &context.schema, &written))))
    }
}

impl PostgresOptions {
    /// Checks the options against the columns that reach the sink.
    fn settings(self, context: &SinkContext) -> Result<Settings> {
        let address = Address::parse(&self.url)?;
        let name = TableName::parse(&self.table).map_err(|error| error.at_option("table"))?;
        let written = written_columns(&context.schema, self.columns.as_ref(), str::eq)?;
        for column in &written {
            check_name(&column.name).map_err(|why| {
                StageError::config(format!("`{}` is no name of a column: {why}", column.name)).at_option("columns")
            })?;
        }
        check_indexes(&self.indexes, &written)?;
        let place = address.place();
        let connection_name = name_of_owner(&context.stage);
        Ok(Settings { address, place, connection_name, name, written, create: self.create, indexes: self.indexes })
    }
}

struct PostgresSink {
    settings: Settings,
    /// None before the first call and after an error.
    connected: Option<Connected>,
}

struct Settings {
    address: Address,
    place: String,
    connection_name: String,
    name: TableName,
    written: Vec<WrittenColumn>,
    create: Create,
    indexes: Vec<Index>,
}

/// A connection to a database that has all it needs.
struct Connected {
    database: Database,
    table: Table,
    writer: Writer,
}

#[async_trait]
impl Sink for PostgresSink {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn check(&mut self) -> Vec<StageError> {
        let Settings { address, place, connection_name, name, written, create, .. } = &self.settings;
        let mut database = match Database::connect(address, connection_name).await {
            Ok(database) => database,
            Err(error) => return vec![Failure::from(error).explain(place).at_option("url")],
        };
        match check::problems(&mut database, name, written, *create).await {
            Ok(problems) => problems,
            Err(failure) => vec![failure.explain(place)],
        }
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let mut connected = self.connected().await?;
        let claim = marks::claim(&mut connected.database, owner, &self.settings.connection_name).await;
        let claim = claim.map_err(|failure| failure.explain(&self.settings.place))?;
        self.connected = Some(connected);
        Ok(claim)
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let mut connected = self.connected().await?;
        let commit = connected.commit(epochs, &self.settings).await;
        let commit = commit.map_err(|failure| failure.explain(&self.settings.place))?;
        self.connected = Some(connected);
        Ok(commit)
    }
}

impl PostgresSink {
    /// Takes the connection out, or makes one: who fails with it, or is cancelled, does not put it back.
    async fn connected(&mut self) -> Result<Connected> {
        match self.connected.take() {
            Some(connected) => Ok(connected),
            None => self.settings.connect().await.map_err(|failure| failure.explain(&self.settings.place)),
        }
    }
}

impl Settings {
    async fn connect(&self) -> Result<Connected, Failure> {
        let mut database = Database::connect(&self.address, &self.connection_name).await?;
        marks::prepare(&mut database).await?;
        let mut table = describe(&mut database, &self.name).await?;
        if table.is_none() && self.create == Create::IfMissing {
            let statements = statements(&self.name, &self.written, &self.indexes);
            create(&mut database, &self.name, &statements).await?;
            table = describe(&mut database, &self.name).await?;
        }
        let table =
            table.ok_or_else(|| StageError::fatal(check::missing(&self.name).to_string()).at_option("table"))?;
        let targets = fit(&table, &self.written).map_err(|problems| {
            StageError::fatal(format!("table `{}` does not fit: {}", self.name, problems.join("; "))).at_option("table")
        })?;
        let writer = Writer::new(&table, targets);
        Ok(Connected { database, table, writer })
    }
}

impl Connected {
    async fn commit(&mut self, epochs: &[EpochRows], settings: &Settings) -> Result<Commit, Failure> {
        let Connected { database, table, writer } = self;
        let values = Values::new(epochs, &writer.targets)?;
        let mut writable = places(epochs);
        let refused = values.take_refused(&mut writable);
        if refused.is_empty() {
            match write_and_mark(database, writer, &values, &writable, epochs).await {
                Ok(()) => return Ok(Commit::Done(vec![None; epochs.len()])),
                Err(failure) if failure.refusal().is_some() => database.run("ROLLBACK").await?,
                Err(failure) => return Err(failure),
            }
        }
        if describe(database, &settings.name).await?.as_ref() != Some(table) {
            let message = format!("table `{}` was altered meanwhile; it is looked at again", settings.name);
            return Err(StageError::transient(message).into());
        }
        let mut trial = Attempt { database, writer, values: &values, place: &settings.place };
        refuse(refused, &mut trial, &writable).await
    }
}

async fn write_and_mark(
    database: &mut Database,
    writer: &Writer,
    values: &Values<'_>,
    rows: &[Place],
    epochs: &[EpochRows],
) -> Result<(), Failure> {
    database.run(BEGIN).await?;
    writer.write(database, values, rows).await?;
    marks::advance(database, epochs).await?;
    database.run("COMMIT").await?;
    Ok(())
}

/// Finds the rows that PostgreSQL refuses, in a transaction that is rolled back, beside those already refused.
async fn refuse(mut refused: Vec<Refused>, trial: &mut Attempt<'_>, rows: &[Place]) -> Result<Commit, Failure> {
    // Constraints that wait for COMMIT would be found by none of the trials.
    trial.database.run(&format!("{BEGIN}; SET CONSTRAINTS ALL IMMEDIATE")).await?;
    refused.extend(find_refused(trial, rows).await?);
    trial.database.run("ROLLBACK").await?;
    if refused.is_empty() {
        return Err(StageError::transient("PostgreSQL refused rows, and takes them now; they are written again").into());
    }
    refused.sort_by_key(|row| (row.epoch, row.batch, row.row));
    Ok(Commit::Refused(refused))
}

/// Writes rows behind a savepoint.
struct Attempt<'a> {
    database: &'a mut Database,
    writer: &'a Writer,
    values: &'a Values<'a>,
    place: &'a str,
}

#[async_trait]
impl Trial for Attempt<'_> {
    async fn write(&mut self, rows: &[Place]) -> Result<Option<String>> {
        self.attempt(rows).await.map_err(|failure| failure.explain(self.place))
    }
}

impl Attempt<'_> {
    async fn attempt(&mut self, rows: &[Place]) -> Result<Option<String>, Failure> {
        self.database.run("SAVEPOINT attempt").await?;
        let Err(failure) = self.writer.write(self.database, self.values, rows).await else {
            self.database.run("RELEASE attempt").await?;
            return Ok(None);
        };
        let Some(why) = failure.refusal() else { return Err(failure) };
        self.database.run("ROLLBACK TO attempt; RELEASE attempt").await?;
        Ok(Some(format!("PostgreSQL refuses it: {why}")))
    }
}
