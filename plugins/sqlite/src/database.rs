//! One connection to a file that others may write to at the same time.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Error, Sqlite, SqliteConnection};
use tokio::time::sleep;

use crate::errors::{Failure, is_busy};

/// How long another writer may keep the file: more than a commit of the largest epoch takes on a slow disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between two tries to open a file: SQLite does not wait by itself while the journal is being switched.
const OPEN_AGAIN: Duration = Duration::from_millis(20);

/// How many steps of SQLite's machine are taken between two looks at the clock: well under a millisecond, and so many
/// that the looks cost nothing.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Rows that are read before they are taken: any of them may be large.
const ROWS_AHEAD: usize = 8;

/// Starts a transaction as the only writer. One that became the writer later could fail instead of waiting.
pub const BEGIN: &str = "BEGIN IMMEDIATE";

/// A connection. After any error it is to be dropped, unless the error is about rows and a savepoint was set.
pub struct Database {
    connection: SqliteConnection,
}

impl Database {
    /// Opens a file for writing, and makes it if it is missing: what has been committed is on the disk.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let start = Instant::now();
        loop {
            match options.connect().await {
                Ok(connection) => return Ok(Database { connection }),
                Err(error) if is_busy(&error) && start.elapsed() < BUSY_TIMEOUT => sleep(OPEN_AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens a file that exists, to look at it.
    pub async fn look(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let options = options.row_buffer_size(ROWS_AHEAD);
        Ok(Database { connection: options.disable_statement_logging().connect().await? })
    }

    /// Sets when statements are ended, from the next one on.
    pub async fn end_statements_at(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut connection = self.connection.lock_handle().await?;
        connection.set_progress_handler(STEPS_BETWEEN_LOOKS, move || Instant::now() < deadline);
        Ok(())
    }

    /// Runs statements that give no rows. Names in them must be quoted by [`quoted`].
    pub async fn run(&mut self, sql: &str) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.map(drop)
    }

    /// Runs a prepared statement; gives the number of rows it has changed.
    pub async fn change(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, Error> {
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }

    /// Runs a prepared statement and gives its rows.
    pub async fn rows(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Vec<SqliteRow>, Error> {
        query.fetch_all(&mut self.connection).await
    }

    /// Runs a prepared statement and gives its rows one by one to `take`, until it says `false`; then the connection is to
    /// be dropped.
    pub async fn each_row(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
        mut take: impl FnMut(&SqliteRow) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut rows = query.fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            if !take(&row)? {
                break;
            }
        }
        Ok(())
    }
}

/// A name as SQL takes it whatever it holds.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    #[tokio::test]
    async fn commits_are_synced_to_the_disk() {
        const FULL: i64 = 2;
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("iot.db")).await.unwrap();
        let rows = database.rows(sqlx::query("PRAGMA synchronous")).await.unwrap();
        assert_eq!(rows[0].get::<i64, _>(0), FULL);
        let rows = database.rows(sqlx::query("PRAGMA journal_mode")).await.unwrap();
        assert_eq!(rows[0].get::<String, _>(0), "wal");
    }
}
