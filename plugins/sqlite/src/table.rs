//! What a table is, whether it can take what is written, and how it is made.

use pipeline_stage::{ColumnType, StageError};
use pipeline_tables::{Index, WrittenColumn};
use sqlx::Row;

use crate::database::{BEGIN, Database, quoted};
use crate::errors::Failure;

/// The column that numbers the rows when none of this name is written.
const ID: &str = "id";

/// A table as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    columns: Vec<TableColumn>,
    /// Not declared WITHOUT ROWID.
    has_row_numbers: bool,
    /// Declared STRICT: a value of another type is refused, not converted.
    is_strict: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TableColumn {
    name: String,
    /// As declared; often empty.
    type_name: String,
    is_not_null: bool,
    /// SQLite fills it in: a default, or the number of the row.
    is_filled: bool,
    is_generated: bool,
    /// Part of the primary key.
    is_in_key: bool,
}

const FIND_TABLE: &str =
    "SELECT type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?)";

const FIND_COLUMNS: &str = "
    SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden,
        (SELECT count(*) FROM pragma_table_xinfo(?1) WHERE pk > 0) FROM pragma_table_xinfo(?1) ORDER BY cid";

/// Looks a table up; none when there is nothing of that name.
pub async fn describe(database: &mut Database, name: &str) -> Result<Option<Table>, Failure> {
    let found = database.rows(sqlx::query(FIND_TABLE).bind(name)).await?;
    let Some(found) = found.first() else { return Ok(None) };
    let kind: String = found.try_get(0)?;
    if kind != "table" {
        let message = format!("`{name}` is not a table but a {kind}; rows go into tables only");
        return Err(StageError::fatal(message).at_option("table").into());
    }
    let (has_no_rowid, is_strict): (bool, bool) = (found.try_get(1)?, found.try_get(2)?);
    let mut columns = Vec::new();
    for row in database.rows(sqlx::query(FIND_COLUMNS).bind(name)).await? {
        let type_name: String = row.try_get(1)?;
        let (key_position, n_key_columns): (i64, i64) = (row.try_get(4)?, row.try_get(6)?);
        let is_row_number =
            key_position == 1 && n_key_columns == 1 && !has_no_rowid && type_name.eq_ignore_ascii_case("integer");
        columns.push(TableColumn {
            name: row.try_get(0)?,
            type_name,
            is_not_null: row.try_get(2)?,
            is_filled: row.try_get::<bool, _>(3)? || is_row_number,
            // 1 is a hidden column of a virtual table; 2 and 3 are computed ones.
            is_generated: row.try_get::<i64, _>(5)? != 0,
            is_in_key: 0 < key_position,
        });
    }
    Ok(Some(Table { columns, has_row_numbers: !has_no_rowid, is_strict }))
}

/// Makes a table with its indexes, unless it has come to be there.
pub async fn create(database: &mut Database, name: &str, statements: &str) -> Result<(), Failure> {
    database.run(BEGIN).await?;
    if describe(database, name).await?.is_none() {
        database.run(statements).await?;
    }
    database.run("COMMIT").await?;
    Ok(())
}

/// The statements that make a table with its indexes.
///
/// Columns that no row lacks are NOT NULL. An `id` that numbers the rows is added if none is written.
pub fn statements(name: &str, written: &[WrittenColumn], indexes: &[Index]) -> String {
    let mut columns = Vec::new();
    if !written.iter().any(|column| column.name.eq_ignore_ascii_case(ID)) {
        columns.push(format!("{} INTEGER PRIMARY KEY", quoted(ID)));
    }
    for column in written {
        let not_null = if column.is_nullable { "" } else { " NOT NULL" };
        columns.push(format!("{} {}{not_null}", quoted(&column.name), sql_type(column.column_type)));
    }
    let mut statements = format!("CREATE TABLE {} ({})", quoted(name), columns.join(", "));
    for (index, index_name) in indexes.iter().zip(index_names(name, indexes)) {
        let columns: Vec<String> = index.columns().iter().map(|column| quoted(column)).collect();
        let (index_name, table) = (quoted(&index_name), quoted(name));
        statements.push_str(&format!("; CREATE INDEX {index_name} ON {table} ({})", columns.join(", ")));
    }
    statements
}

/// A name for each index; SQLite wants one, and no two the same, whatever their case.
fn index_names(table: &str, indexes: &[Index]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(indexes.len());
    for index in indexes {
        let name = format!("{table}_{}_idx", index.columns().join("_"));
        let is_taken = |name: &str| names.iter().any(|taken| taken.eq_ignore_ascii_case(name));
        // Columns `a_b`, `c` and `a`, `b_c` make the same name.
        let numbered = (1..).map(|number| format!("{name}{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !is_taken(name));
        names.extend(free);
    }
    names
}

fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::String => "TEXT",
        ColumnType::Integer => "INTEGER",
        ColumnType::Float => "REAL",
        // SQLite has no type of its own for these; the names say to people and tools what the numbers and texts are.
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Timestamp => "TIMESTAMP",
    }
}

impl Table {
    /// True when there is a column of that name.
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Whether a row may lack a column; none when all do.
    pub fn may_lack(&self, name: &str) -> Option<bool> {
        let column = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))?;
        Some(!column.is_not_null)
    }

    /// The name by which the number of a row can be called, unless rows have none or columns have all of the names.
    pub fn row_number(&self) -> Option<&'static str> {
        let names = ["rowid", "_rowid_", "oid"].into_iter();
        names.filter(|_| self.has_row_numbers).find(|name| !self.has_column(name))
    }

    /// The columns of the primary key.
    pub fn key(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|column| column.is_in_key).map(|column| column.name.as_str())
    }

    /// All that is wrong with the table for what is written, each with what would be right.
    pub fn problems(&self, name: &str, written: &[WrittenColumn]) -> Vec<String> {
        let mut problems: Vec<String> = written.iter().filter_map(|column| self.problem(name, column)).collect();
        for column in &self.columns {
            let is_written = written.iter().any(|written| written.name.eq_ignore_ascii_case(&column.name));
            if column.is_not_null && !column.is_filled && !column.is_generated && !is_written {
                problems.push(format!(
                    "column `{}` must have a value and nothing is written into it; write it, or make the table anew without NOT NULL",
                    column.name
                ));
            }
        }
        problems
    }

    fn problem(&self, table: &str, written: &WrittenColumn) -> Option<String> {
        let name = &written.name;
        let expected = sql_type(written.column_type);
        let Some(column) = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)) else {
            let add = format!("ALTER TABLE {} ADD COLUMN {} {expected}", quoted(table), quoted(name));
            return Some(format!("there is no column `{name}`; {add}"));
        };
        if column.is_generated {
            return Some(format!(
                "column `{name}` is computed by SQLite and cannot be written; leave it out of `columns`"
            ));
        }
        let takes = match self.is_strict {
            true => strict_takes(&column.type_name, written.column_type),
            false => affinity(&column.type_name).keeps(written.column_type),
        };
        (!takes).then(|| {
            let declared = if column.type_name.is_empty() { "of no type" } else { &column.type_name };
            format!("column `{name}` is {declared}, in which SQLite would change or refuse a value of type {}, expected {expected}; make the table anew", written.column_type.name())
        })
    }
}

/// What SQLite prefers to store in a column, whatever it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Integer,
    Text,
    Any,
    Real,
    Numeric,
}

/// SQLite's rules, in their order (<https://sqlite.org/datatype3.html>, section 3.1).
fn affinity(type_name: &str) -> Affinity {
    let name = type_name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["INT"]) {
        Affinity::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if name.is_empty() || has(&["BLOB"]) {
        Affinity::Any
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

impl Affinity {
    /// True when every value of the type comes out as it went in.
    fn keeps(self, column_type: ColumnType) -> bool {
        match column_type {
            // In a numeric column the text `007` becomes the number 7.
            ColumnType::String => matches!(self, Affinity::Text | Affinity::Any),
            // A float would lose digits, a text would no longer compare as a number.
            ColumnType::Integer | ColumnType::Boolean => {
                matches!(self, Affinity::Integer | Affinity::Numeric | Affinity::Any)
            }
            // Numeric columns turn 5.0 into the integer 5.
            ColumnType::Float => matches!(self, Affinity::Real | Affinity::Any),
            // A time does not look like a number, so numeric columns (TIMESTAMP, DATETIME) keep it as text.
            ColumnType::Timestamp => self != Affinity::Real && self != Affinity::Integer,
        }
    }
}

/// A STRICT table has these types only.
fn strict_takes(type_name: &str, column_type: ColumnType) -> bool {
    match type_name.to_ascii_uppercase().as_str() {
        "ANY" => true,
        "INT" | "INTEGER" => matches!(column_type, ColumnType::Integer | ColumnType::Boolean),
        "REAL" => column_type == ColumnType::Float,
        "TEXT" => matches!(column_type, ColumnType::String | ColumnType::Timestamp),
        _ => false,
    }
}
