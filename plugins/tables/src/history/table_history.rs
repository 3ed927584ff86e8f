//! The questions of a dashboard, asked of a table.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use pipeline_stage::{Cell, ColumnType, ErrorKind, History, Page, Result, Selection, StageError, Timestamp};
use serde_json::Value;
use tokio::time::timeout;

use super::connections::{Connections, Transaction};
use super::page::{self, After};
use super::question::{Columns, Question, check, expect_type, from_where, position};
use super::series::{self, Combinations, Parts};
use super::value::parameter;
use super::{Answer, Database, HistoryColumn, TIME_LIMIT, too_slow};
use crate::WrittenColumn;

/// How long a question may take with all that belongs to it: waiting for a connection, making one, asking twice.
const WHOLE_TIME_LIMIT: Duration = TIME_LIMIT.saturating_mul(3);

/// What a sink has written into a table.
pub struct TableHistory {
    columns: Vec<HistoryColumn>,
    connections: Connections,
}

impl TableHistory {
    /// The history of what a sink writes of rows of `input`. Opens nothing yet.
    pub fn new(database: Box<dyn Database>, input: &Schema, written: &[WrittenColumn]) -> Self {
        let columns = written.iter().map(|column| HistoryColumn {
            name: input.field(column.position).name().clone(),
            table_name: column.name.clone(),
            column_type: column.column_type,
        });
        TableHistory { columns: columns.collect(), connections: Connections::new(database) }
    }

    /// An empty answer with all columns.
    fn rows(&self) -> Answer {
        Answer::new(self.columns.iter().map(|column| (column.name.as_str(), column.column_type)))
    }

    /// An empty answer with some of the columns, and one more.
    fn counts(&self, columns: &[String], more: Option<&'static str>) -> Result<Answer> {
        if columns.is_empty() {
            return Err(StageError::config("no column is named, there must be at least one"));
        }
        let mut types = Vec::with_capacity(columns.len() + 1);
        for name in columns {
            types.push((name.as_str(), self.columns[position(&self.columns, name)?].column_type));
        }
        types.extend(more.map(|name| (name, ColumnType::Integer)));
        Ok(Answer::new(types))
    }

    /// Asks what `make` makes of the table; nothing if there is no table.
    async fn ask(&self, answer: &mut Answer, make: impl FnOnce(Columns<'_>) -> Result<Question>) -> Result<()> {
        let Some(mut transaction) = self.connections.begin(&self.columns).await? else { return Ok(()) };
        let question = make(Columns { all: &self.columns, table: &transaction.table })?;
        transaction.connection.ask(&question, answer).await?;
        end(transaction, answer).await
    }

    async fn ask_page(&self, answer: &mut Answer, rows: &Selection, page: &Page, after: Option<After>) -> Result<()> {
        let Some(mut transaction) = self.connections.begin(&self.columns).await? else { return Ok(()) };
        let columns = Columns { all: &self.columns, table: &transaction.table };
        let nulls_given = match &after {
            Some(After { value: None, given }) => *given,
            _ => {
                let question = page::of_values(columns, rows, page, after)?;
                transaction.connection.ask(&question, answer).await?;
                0
            }
        };
        let missing = page.limit.saturating_sub(u32::try_from(answer.len()).unwrap_or(u32::MAX));
        if 0 < missing
            && !answer.is_full()
            && let Some(question) = page::of_nulls(columns, rows, &page.by, nulls_given, missing)?
        {
            transaction.connection.ask(&question, answer).await?;
        }
        end(transaction, answer).await
    }

    /// What the pipeline calls a column of the table; its own name, if the pipeline does not write it.
    fn name_of(&self, table_name: String) -> String {
        let database = self.connections.database();
        let found = self.columns.iter().find(|column| database.is_same_name(&column.table_name, &table_name));
        found.map_or(table_name, |column| column.name.clone())
    }
}

#[async_trait]
impl History for TableHistory {
    fn schema(&self) -> SchemaRef {
        self.rows().schema()
    }

    async fn indexes(&self) -> Result<Vec<Vec<String>>> {
        within_time(async {
            let Some(transaction) = self.connections.begin(&self.columns).await? else { return Ok(Vec::new()) };
            let indexes = transaction.table.indexes.clone();
            transaction.end().await?;
            Ok(indexes.into_iter().map(|index| index.into_iter().map(|name| self.name_of(name)).collect()).collect())
        })
        .await
    }

    async fn page(&self, rows: &Selection, page: &Page) -> Result<RecordBatch> {
        check(&self.columns, rows)?;
        let by = &self.columns[position(&self.columns, &page.by)?];
        let after = match &page.after {
            Some((value, given)) => Some(After { value: parameter(by, value)?, given: *given }),
            None => None,
        };
        let mut answer = self.rows();
        within_time(self.ask_page(&mut answer, rows, page, after)).await?;
        answer.finish()
    }

    async fn count_by(&self, rows: &Selection, columns: &[String], limit: u32) -> Result<RecordBatch> {
        check(&self.columns, rows)?;
        let mut answer = self.counts(columns, Some("count"))?;
        within_time(self.ask(&mut answer, |table| count_by(table, rows, columns, limit))).await?;
        answer.finish()
    }

    async fn distinct(
        &self,
        columns: &[String],
        prefix: &str,
        after: Option<&[Value]>,
        limit: u32,
    ) -> Result<RecordBatch> {
        let mut answer = self.counts(columns, None)?;
        let wanted = Combinations { columns, prefix, after, limit };
        wanted.check(&self.columns)?;
        let database = self.connections.database();
        within_time(self.ask(&mut answer, |table| series::distinct(database, table, &wanted))).await?;
        answer.finish()
    }

    async fn summary(
        &self,
        rows: &Selection,
        value: &str,
        from: Timestamp,
        until: Timestamp,
        points: u32,
    ) -> Result<RecordBatch> {
        check(&self.columns, rows)?;
        expect_type(&self.columns, series::time_column(rows)?, &[ColumnType::Timestamp])?;
        expect_type(&self.columns, value, &[ColumnType::Float, ColumnType::Integer])?;
        let numbers = [("min", ColumnType::Float), ("max", ColumnType::Float), ("mean", ColumnType::Float)];
        let counted = ("count", ColumnType::Integer);
        let mut points_found = Answer::new([("at", ColumnType::Timestamp), counted].into_iter().chain(numbers));
        if let Some(parts) = Parts::new(from, until, points)? {
            let mut answer = Answer::new([("part", ColumnType::Integer), counted].into_iter().chain(numbers));
            let database = self.connections.database();
            within_time(self.ask(&mut answer, |table| series::summary(database, table, rows, value, parts))).await?;
            place(&answer.finish()?, parts, &mut points_found);
        }
        points_found.finish()
    }
}

/// Ends a transaction after its answer. The rest of an answer that is full would have to be read before the connection can
/// be used again, so it is dropped instead.
async fn end(transaction: Transaction<'_>, answer: &Answer) -> Result<()> {
    if answer.is_full() { Ok(()) } else { transaction.end().await }
}

/// The rows of a summary with the time of each part in place of its number.
fn place(found: &RecordBatch, parts: Parts, points: &mut Answer) {
    for row in 0..found.num_rows() {
        for (i, column) in found.columns().iter().enumerate() {
            let cell = match (i, Cell::of(column, row)) {
                (0, Cell::Integer(part)) => Cell::Time(parts.begin(part)),
                (_, cell) => cell,
            };
            points.push(i, cell);
        }
    }
}

fn count_by(columns: Columns<'_>, rows: &Selection, names: &[String], limit: u32) -> Result<Question> {
    let mut question = Question::default();
    let mut keys = Vec::with_capacity(names.len());
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        let (_, form) = columns.find(name)?;
        keys.push(form.key.as_str());
        values.push(form.value_of(&form.key));
    }
    let conditions = columns.conditions(rows, &mut question)?;
    let (keys, values) = (keys.join(", "), values.join(", "));
    let (all, limit) = (from_where(columns.table, &conditions), question.limit(limit));
    question.sql = format!("SELECT {values}, count(*){all} GROUP BY {keys} ORDER BY count(*) DESC, {keys}{limit}");
    Ok(question)
}

/// Waits for an answer, but not for ever. All errors but those of the question itself may be others the next time.
async fn within_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(WHOLE_TIME_LIMIT, answer).await {
        Ok(Err(error)) if !matches!(error.kind(), ErrorKind::Config | ErrorKind::Transient) => {
            Err(StageError::transient(error.chain()))
        }
        Ok(answer) => answer,
        Err(_) => Err(too_slow("the database")),
    }
}
