//! Rows on their way into a table, many in each INSERT.

use pipeline_stage::{Cell, EpochRows};
use pipeline_tables::{Place, WrittenColumn};
use sqlx::AssertSqlSafe;

use crate::database::{Database, quoted};
use crate::errors::Failure;
use crate::value;

/// The rows of one statement. A statement costs the driver about as much as 20 rows, so a thousand are nearly free of
/// it; what is left over goes by hundreds, tens and ones, so that only four statements have to be prepared.
const CHUNKS: [usize; 4] = [1_000, 100, 10, 1];

/// The most values one statement of SQLite takes.
const MAX_VALUES: usize = 32_766;

/// Writes rows into one table.
pub struct Writer {
    columns: Vec<WrittenColumn>,
    /// Number of rows and text, the largest first.
    statements: Vec<(usize, String)>,
}

impl Writer {
    /// The writer of these columns of a table.
    pub fn new(table: &str, columns: &[WrittenColumn]) -> Self {
        let names = columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ");
        let row = format!("({})", vec!["?"; columns.len()].join(", "));
        let sizes = CHUNKS.into_iter().filter(|n_rows| n_rows * columns.len() <= MAX_VALUES);
        let statements = sizes.map(|n_rows| {
            let rows = vec![row.as_str(); n_rows].join(", ");
            (n_rows, format!("INSERT INTO {} ({names}) VALUES {rows}", quoted(table)))
        });
        Writer { columns: columns.to_vec(), statements: statements.collect() }
    }

    /// Why a row can never be written; none when it can.
    pub fn refusal(&self, epochs: &[EpochRows], place: Place) -> Option<String> {
        for column in &self.columns {
            if let Err(why) = value::check(&cell(epochs, place, column)) {
                return Some(format!("column `{}`: {why}", column.name));
            }
        }
        None
    }

    /// Writes rows, of which none has a refusal, in order. After an error some may be written.
    pub async fn write(&self, database: &mut Database, epochs: &[EpochRows], rows: &[Place]) -> Result<(), Failure> {
        let mut rest = rows;
        for (n_rows, statement) in &self.statements {
            while *n_rows <= rest.len() {
                let (chunk, after) = rest.split_at(*n_rows);
                self.insert(database, statement, epochs, chunk).await?;
                rest = after;
            }
        }
        Ok(())
    }

    async fn insert(
        &self,
        database: &mut Database,
        statement: &str,
        epochs: &[EpochRows],
        rows: &[Place],
    ) -> Result<(), Failure> {
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for place in rows {
            for column in &self.columns {
                query = match cell(epochs, *place, column) {
                    Cell::Text(text) => query.bind(text),
                    Cell::Integer(number) => query.bind(number),
                    Cell::Float(number) => query.bind(number),
                    Cell::Boolean(is_true) => query.bind(is_true),
                    Cell::Time(time) => query.bind(value::text_of(time)),
                    Cell::Null | Cell::Other(_) => query.bind(None::<i64>),
                };
            }
        }
        database.change(query).await?;
        Ok(())
    }
}

fn cell<'a>(epochs: &'a [EpochRows], place: Place, column: &WrittenColumn) -> Cell<'a> {
    Cell::of(epochs[place.epoch()].rows[place.batch()].batch.column(column.position).as_ref(), place.row())
}
