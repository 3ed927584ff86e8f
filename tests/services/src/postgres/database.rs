//! Queries of tests: what a table holds, as text.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row, ValueRef};

/// One database. Every call opens a connection of its own, so a restart of the server disturbs nothing.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
}

impl Database {
    /// The database that `url` names.
    pub(super) fn new(url: String) -> Self {
        Database { url }
    }

    /// What a pipeline or another client connects to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets what connections made from now on have as a setting's default.
    pub async fn set_default(&self, setting: &str, value: &str) {
        self.execute(&format!(
            "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = {value}', current_database()); END$$"
        ))
        .await;
    }

    /// Runs statements, separated by semicolons.
    pub async fn execute(&self, sql: &str) {
        self.rows(sql).await;
    }

    /// Runs statements and gives the rows of all of them, each value as PostgreSQL writes it; NULL is `None`.
    ///
    /// A `float8` has the digits that tell it from every other number.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows = self.rows(sql).await;
        rows.iter().map(values).collect()
    }

    /// The whole number that a query gives, often of rows: `SELECT count(*) FROM t`.
    pub async fn count(&self, sql: &str) -> i64 {
        let rows = self.query(sql).await;
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        let value = value.unwrap_or_else(|| panic!("`{sql}` gives no number"));
        value.parse().unwrap_or_else(|_| panic!("`{sql}` gives `{value}`, expected a whole number"))
    }

    /// True if the server lets a client in.
    pub async fn answers(&self) -> bool {
        lets_in(&self.url).await
    }

    async fn rows(&self, sql: &str) -> Vec<PgRow> {
        let connection = PgConnection::connect(&self.url).await;
        let mut connection = connection.unwrap_or_else(|error| panic!("cannot connect to `{}`: {error}", self.url));
        // The simple protocol, in which all values are text.
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("`{sql}` failed: {error}"));
        // The server frees the connection later otherwise; the rows are here, so an error no longer matters.
        let _ = connection.close().await;
        rows
    }
}

/// True if the server lets a client in. For threads that are not part of a runtime's work.
pub(super) fn answers(url: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime needs nothing but memory").block_on(lets_in(url))
}

async fn lets_in(url: &str) -> bool {
    match PgConnection::connect(url).await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

fn values(row: &PgRow) -> Vec<Option<String>> {
    let value = |idx| {
        let value = row.try_get_raw(idx).expect("the index is in range");
        if value.is_null() {
            return None;
        }
        Some(value.as_str().expect("the simple protocol gives text").to_owned())
    };
    (0..row.len()).map(value).collect()
}
