//! Reading a table back: the questions of [`History`](pipeline_stage::History) as SQL, and the answers as Arrow.
//!
//! [`TableHistory`] is all that databases share. A database says by [`Database`] and [`Connection`] how it is reached,
//! what the table looks like, and the few things that it writes in another way. Values never stand in the SQL: they
//! are parameters, `$1` and so on, which PostgreSQL and SQLite both understand.

mod answer;
mod connections;
mod page;
mod question;
mod series;
mod table_history;
mod value;

use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{ColumnType, Result, StageError, Timestamp};

pub use answer::Answer;
pub use question::Question;
pub use table_history::TableHistory;

/// How long one question may take in the database: far more than one that has its index needs, and little enough for
/// somebody who looks at a page.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The error of a question that has taken [`TIME_LIMIT`]; `what` names the database or the file.
pub fn too_slow(what: &str) -> StageError {
    StageError::transient(format!(
        "{what} needs more than {} s for the answer; ask for less, or make an index on the columns asked for",
        TIME_LIMIT.as_secs()
    ))
}

/// A column that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryColumn {
    /// What the pipeline calls it.
    pub name: String,
    /// What it is called in the table.
    pub table_name: String,
    /// Its type in the pipeline.
    pub column_type: ColumnType,
}

/// A database that holds the table.
#[async_trait]
pub trait Database: Send + Sync {
    /// Opens a connection that cannot write, on which a statement ends after [`TIME_LIMIT`]; none when nothing is there.
    async fn connect(&self) -> Result<Option<Box<dyn Connection>>>;

    /// Whether two names are the same column of a table.
    fn is_same_name(&self, one: &str, other: &str) -> bool;

    /// Whether a value's text begins with that of a parameter.
    fn starts_with(&self, value: &str, parameter: &str) -> String;

    /// A common table expression for `WITH RECURSIVE` that walks along an index from one combination of `keys` to the
    /// next, in order, for columns that are not null: `walk`, with the columns `c0`, `c1` and so on. It begins after
    /// the combination of these parameters.
    fn walk(&self, table: &Table, keys: &[String], after: Option<&[String]>) -> String;

    /// A summary by an index, part by part: `parts` are the rows of a VALUES, each the number of a part, the parameter
    /// of its begin and that of its end.
    fn summary_by_index(&self, summary: &Summary<'_>, parts: &str) -> String;

    /// A summary that computes for each row to which part it belongs.
    fn summary_by_row(&self, summary: &Summary<'_>, cut: &Cut) -> String;
}

/// What the SQL of a summary is made of. It gives the number of each part that has rows, and what is computed of them,
/// sorted by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary<'a> {
    /// The table, quoted.
    pub table: &'a str,
    /// What all rows must fulfil.
    pub conditions: String,
    /// The key of the column of times.
    pub time: &'a str,
    /// What is computed of the rows of a part; the first one is `count(*)`.
    pub computed: String,
}

/// How times become parts: the parameters that stand for whole numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The begin of the first part, in microseconds since 1970.
    pub from: String,
    /// The length of a part, in microseconds.
    pub width: String,
    /// The number of the last part; the first one is 0.
    pub last: String,
}

/// One connection. After any error it is dropped.
#[async_trait]
pub trait Connection: Send {
    /// Begins a transaction that only reads and looks the table up; none when it is missing.
    async fn begin(&mut self, columns: &[HistoryColumn]) -> Result<Option<Table>>;

    /// Asks; `answer` has a place for each column of the result. When it is full, no further row is read, and the
    /// connection is dropped.
    async fn ask(&mut self, question: &Question, answer: &mut Answer) -> Result<()>;

    /// Ends the transaction.
    async fn end(&mut self) -> Result<()>;
}

/// The table as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Quoted. In SQL it is always called `t`.
    pub name: String,
    /// How each column that can be asked for is written; none when the table lacks it.
    pub forms: Vec<Option<Form>>,
    /// The table's columns that each index begins with, as long as it can be used to sort.
    pub indexes: Vec<Vec<String>>,
    /// What sorts rows of the same value the same way each time.
    pub ties: String,
    /// Whether [`Database::walk`] can be used.
    pub is_walkable: bool,
}

/// How a column is written in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// What is compared, sorted and grouped: the column itself wherever that means the same as in the pipeline.
    pub key: String,
    /// Whether the key is the column itself, so that an index serves it.
    pub is_plain: bool,
    /// Whether a row may lack it.
    pub is_nullable: bool,
    /// What is read, made of the key, which stands for `{}`.
    pub value: &'static str,
    /// A parameter as it is compared with the key; the parameter stands for `{}`.
    pub parameter: &'static str,
}

impl Form {
    /// What is read, of a key that may stand in another query.
    pub fn value_of(&self, key: &str) -> String {
        self.value.replace("{}", key)
    }
}

/// A value that stands for `$1`, `$2` and so on.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any number, infinities included.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A time.
    Time(Timestamp),
}
