//! Reading a table back, by connections that cannot write. In WAL mode a reader holds up no writer.

use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use pipeline_stage::{Cell, ColumnType, Result, StageError};
use pipeline_tables::history::{
    Answer, Connection, Cut, Database as HistoryDatabase, Form, HistoryColumn, Parameter, Question, Summary,
    TIME_LIMIT, Table, too_slow,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, TypeInfo, ValueRef};

use crate::database::{Database, quoted};
use crate::errors::Failure;
use crate::table::describe;
use crate::value::{edge_of, text_of, time_of};

/// The columns of each index that can be used to sort; a row for each column.
const FIND_INDEXES: &str = "
    SELECT l.seq, x.name FROM pragma_index_list(?1) AS l JOIN pragma_index_xinfo(l.name) AS x
    WHERE NOT l.partial AND x.key AND NOT EXISTS (SELECT * FROM pragma_index_xinfo(l.name) WHERE key AND name IS NULL)
    ORDER BY l.seq DESC, x.seqno";

/// A file with a table to be read.
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// The table.
    pub table: String,
}

#[async_trait]
impl HistoryDatabase for Archive {
    async fn connect(&self) -> Result<Option<Box<dyn Connection>>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let database = Database::look(&self.path).await.map_err(|error| Failure::from(error).explain(&self.path))?;
        Ok(Some(Box::new(Reader { database, path: self.path.clone(), table: self.table.clone() })))
    }

    fn is_same_name(&self, one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }

    fn starts_with(&self, value: &str, parameter: &str) -> String {
        format!("substr(CAST({value} AS TEXT), 1, length({parameter})) = {parameter}")
    }

    fn walk(&self, table: &Table, keys: &[String], after: Option<&[String]>) -> String {
        let first = match after {
            Some(after) => next(table, keys, after),
            None => format!("({})", first_of(table, keys, &[])),
        };
        let last: Vec<String> = keys.iter().map(|key| key.replacen("t.", "last.", 1)).collect();
        let next = next(table, keys, &last);
        let values = keys.iter().enumerate().map(|(i, key)| format!("{key} AS c{i}")).collect::<Vec<_>>().join(", ");
        let (all, row) = (&table.name, &table.ties);
        let last_row = row.replacen("t.", "last.", 1);
        format!(
            "steps (id) AS (
                SELECT {first}
                UNION ALL
                SELECT {next} FROM steps CROSS JOIN {all} AS last ON {last_row} = steps.id
            ),
            walk AS (SELECT {values} FROM steps CROSS JOIN {all} AS t ON {row} = steps.id)"
        )
    }

    fn summary_by_index(&self, summary: &Summary<'_>, parts: &str) -> String {
        let Summary { table, conditions, time, computed } = summary;
        // A CROSS JOIN is done in the order in which it is written.
        format!(
            "WITH p (n, b, e) AS (VALUES {parts})
            SELECT p.n, {computed} FROM p CROSS JOIN {table} AS t
            WHERE {conditions} AND {time} >= p.b AND {time} < p.e GROUP BY p.n ORDER BY p.n"
        )
    }

    fn summary_by_row(&self, summary: &Summary<'_>, cut: &Cut) -> String {
        let Summary { table, conditions, time, computed } = summary;
        let Cut { from, width, .. } = cut;
        let micros = format!("unixepoch(substr({time}, 1, 19)) * 1000000 + CAST(substr({time}, 21, 6) AS INTEGER)");
        format!(
            "SELECT ({micros} - {from}) / {width}, {computed} FROM {table} AS t
            WHERE {conditions} GROUP BY 1 ORDER BY 1"
        )
    }
}

/// The number of the row with the next combination: one that differs in the last column only, else in the one before,
/// and so on. SQLite would use but the first column of an index to compare all of them at once.
fn next(table: &Table, keys: &[String], last: &[String]) -> String {
    let steps = (0..keys.len()).rev().map(|i| {
        let same = keys.iter().zip(last).take(i).map(|(key, value)| format!("{key} = {value}"));
        let conditions: Vec<String> = same.chain([format!("{} > {}", keys[i], last[i])]).collect();
        format!("({})", first_of(table, keys, &conditions))
    });
    let steps: Vec<String> = steps.collect();
    match steps.as_slice() {
        [step] => step.clone(),
        steps => format!("coalesce({})", steps.join(", ")),
    }
}

fn first_of(table: &Table, keys: &[String], conditions: &[String]) -> String {
    let mut conditions = conditions.to_vec();
    conditions.extend(keys.iter().map(|key| format!("{key} IS NOT NULL")));
    let Table { name, ties, .. } = table;
    format!("SELECT {ties} FROM {name} AS t WHERE {} ORDER BY {} LIMIT 1", conditions.join(" AND "), keys.join(", "))
}

struct Reader {
    database: Database,
    path: PathBuf,
    table: String,
}

#[async_trait]
impl Connection for Reader {
    async fn begin(&mut self, columns: &[HistoryColumn]) -> Result<Option<Table>> {
        self.look(columns).await.map_err(|failure| self.explain(failure))
    }

    async fn ask(&mut self, question: &Question, answer: &mut Answer) -> Result<()> {
        self.read(question, answer).await.map_err(|failure| self.explain(failure))
    }

    async fn end(&mut self) -> Result<()> {
        self.database.run("COMMIT").await.map_err(|error| self.explain(error.into()))
    }
}

impl Reader {
    async fn look(&mut self, columns: &[HistoryColumn]) -> Result<Option<Table>, Failure> {
        if !self.path.exists() {
            return Err(StageError::transient(format!("`{}` was deleted", self.path.display())).into());
        }
        self.database.end_statements_at(Instant::now() + TIME_LIMIT).await?;
        self.database.run("BEGIN").await?;
        let Some(found) = describe(&mut self.database, &self.table).await? else { return Ok(None) };
        let form_of = |wanted: &HistoryColumn| {
            let is_nullable = found.may_lack(&wanted.table_name)?;
            let key = format!("t.{}", quoted(&wanted.table_name));
            Some(Form { key, is_plain: true, is_nullable, value: "{}", parameter: "{}" })
        };
        let forms = columns.iter().map(form_of).collect();
        let mut indexes: Vec<(i64, Vec<String>)> = Vec::new();
        for row in self.database.rows(sqlx::query(FIND_INDEXES).bind(&self.table)).await? {
            let (index, column) = (row.try_get(0)?, row.try_get(1)?);
            match indexes.last_mut() {
                Some((last, columns)) if *last == index => columns.push(column),
                _ => indexes.push((index, vec![column])),
            }
        }
        let indexes = indexes.into_iter().map(|(_, columns)| columns).collect();
        let row_number = found.row_number();
        let is_walkable = row_number.is_some();
        let ties = match row_number {
            Some(name) => format!("t.{name}"),
            None => found.key().map(|name| format!("t.{}", quoted(name))).collect::<Vec<_>>().join(", "),
        };
        if ties.is_empty() {
            let message =
                format!("table `{}` has nothing that tells its rows apart, so they cannot be read", self.table);
            return Err(StageError::transient(message).into());
        }
        Ok(Some(Table { name: quoted(&self.table), forms, indexes, ties, is_walkable }))
    }

    async fn read(&mut self, question: &Question, answer: &mut Answer) -> Result<(), Failure> {
        self.database.end_statements_at(Instant::now() + TIME_LIMIT).await?;
        let mut query = sqlx::query(AssertSqlSafe(question.sql.as_str())).persistent(false);
        for parameter in &question.parameters {
            query = match parameter {
                Parameter::Text(text) => query.bind(text),
                Parameter::Integer(number) => query.bind(number),
                Parameter::Float(number) => query.bind(number),
                Parameter::Boolean(is_true) => query.bind(is_true),
                Parameter::Time(time) => query.bind(text_of(*time).unwrap_or_else(|| edge_of(*time).into())),
            };
        }
        let types = answer.types();
        let add = |row: &SqliteRow| {
            for (i, column_type) in types.iter().enumerate() {
                answer.push(i, cell(row, i, *column_type)?);
            }
            Ok(!answer.is_full())
        };
        self.database.each_row(query, add).await
    }

    fn explain(&self, failure: Failure) -> StageError {
        match failure.is_interrupted() {
            true => too_slow(&format!("SQLite with `{}`", self.path.display())),
            false => failure.explain(&self.path),
        }
    }
}

/// A value by the type that it has in the file: SQLite's columns take any. One that is not of the column's type in the
/// pipeline is none.
fn cell(row: &SqliteRow, i: usize, column_type: ColumnType) -> Result<Cell<'_>, Failure> {
    let value = row.try_get_raw(i)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let stored = value.type_info().name().to_owned();
    Ok(match (column_type, stored.as_str()) {
        (ColumnType::String, "TEXT") => Cell::Text(row.try_get_unchecked(i)?),
        (ColumnType::Integer, "INTEGER") => Cell::Integer(row.try_get_unchecked(i)?),
        (ColumnType::Float, "REAL" | "INTEGER") => Cell::Float(row.try_get_unchecked(i)?),
        (ColumnType::Boolean, "INTEGER") => Cell::Boolean(row.try_get_unchecked(i)?),
        (ColumnType::Timestamp, "TEXT") => time_of(row.try_get_unchecked(i)?).map_or(Cell::Null, Cell::Time),
        _ => Cell::Null,
    })
}
