//! One connection, on which nothing waits for ever.

use std::future::Future;
use std::io;
use std::mem::swap;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::poll_immediate;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Error, PgConnection, Postgres};
use tokio::time::timeout;

use crate::address::Address;
use crate::errors::Failure;

/// How long a connection may take: more than a slow name server needs, less than an operator waits for an error.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for one answer. A busy server's checkpoint may stall a commit for many seconds; a server that is
/// silent for a minute hangs, or is cut off without the operating system having noticed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The pieces in which COPY data is sent: each may take as long as an answer, so they are small against that. There are two
/// at most, one on its way and the one that follows.
const COPY_PIECE: usize = 1 << 20;

/// Starts a transaction in which each statement sees what was committed before it, whatever the server's default is.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Settings of every connection: a commit that has answered is on disk, whatever the server's default is; and a
/// transaction whose owner was stopped in it is ended by the server itself.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET idle_in_transaction_session_timeout = '60s'";

/// A connection. After any error it is to be dropped, unless the error is about rows and a savepoint was set.
pub struct Database {
    connection: PgConnection,
}

impl Database {
    /// Connects.
    pub async fn connect(address: &Address, application_name: &str) -> Result<Self, Error> {
        let options = address.connect_options(application_name);
        let connection = within(CONNECT_TIMEOUT, options.connect()).await?;
        let mut database = Database { connection };
        database.run(SETTINGS).await?;
        Ok(database)
    }

    /// Runs statements that give no rows. Names in them must be quoted by [`quoted`].
    pub async fn run(&mut self, sql: &str) -> Result<(), Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql));
        within(ANSWER_TIMEOUT, statements.execute(&mut self.connection)).await.map(drop)
    }

    /// Runs a prepared statement and gives its rows.
    pub async fn rows(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Error> {
        within(ANSWER_TIMEOUT, query.fetch_all(&mut self.connection)).await
    }

    /// Runs a prepared statement and gives its rows one by one to `take`, until it says `false`; then the connection is to
    /// be dropped.
    pub async fn each_row(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
        mut take: impl FnMut(&PgRow) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut rows = query.fetch(&mut self.connection);
        while let Some(row) = within(ANSWER_TIMEOUT, rows.try_next()).await? {
            if !take(&row)? {
                break;
            }
        }
        Ok(())
    }

    /// Runs a COPY statement with the data that `next` appends to the buffer, piece by piece, until it says `false`.
    pub async fn copy(&mut self, statement: &str, mut next: impl FnMut(&mut Vec<u8>) -> bool) -> Result<(), Error> {
        let mut copy = within(ANSWER_TIMEOUT, self.connection.copy_in_raw(statement)).await?;
        let (mut piece, mut following) = (Vec::with_capacity(COPY_PIECE), Vec::new());
        let mut is_more = fill(&mut piece, &mut next);
        while !piece.is_empty() {
            let mut sending = Box::pin(within(ANSWER_TIMEOUT, copy.send(piece.as_slice())));
            // The network takes what it has room for; what follows is made while that is on its way.
            let sent = poll_immediate(&mut sending).await;
            if is_more {
                is_more = fill(&mut following, &mut next);
            }
            match sent {
                Some(sent) => sent?,
                None => sending.as_mut().await?,
            };
            drop(sending);
            swap(&mut piece, &mut following);
            following.clear();
        }
        within(ANSWER_TIMEOUT, copy.finish()).await.map(drop)
    }
}

/// Makes one piece; false when it is the last.
fn fill(piece: &mut Vec<u8>, next: &mut impl FnMut(&mut Vec<u8>) -> bool) -> bool {
    while piece.len() < COPY_PIECE {
        if !next(piece) {
            return false;
        }
    }
    true
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => {
            let words = format!("no answer for {} s", limit.as_secs());
            Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, words)))
        }
    }
}

/// A name as SQL takes it whatever it holds.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pipeline_services::{Postgres, eventually};
    use pipeline_stage::Secret;
    use sqlx::Row;

    use super::*;

    #[tokio::test]
    async fn commits_are_synced_to_the_disk_whatever_the_default_is() {
        for (default, expected) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
            let database = Postgres::shared().await.create_database().await;
            database.set_default("synchronous_commit", default).await;
            let address = Address::parse(&Secret::new(database.url())).ok().unwrap();
            let mut connection = Database::connect(&address, "test").await.unwrap();
            let rows = connection.rows(sqlx::query("SHOW synchronous_commit")).await.unwrap();
            assert_eq!(rows[0].get::<String, _>(0), expected, "default {default}");
        }
    }

    /// Takes no row as long as somebody has the lock.
    const WAITS: &str = "
        CREATE TABLE t (x text);
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()";

    #[tokio::test]
    async fn what_follows_is_made_while_a_piece_is_on_its_way() {
        let database = Postgres::shared().await.create_database().await;
        let address = Address::parse(&Secret::new(database.url())).ok().unwrap();
        let mut other = Database::connect(&address, "other").await.unwrap();
        other.run(WAITS).await.unwrap();
        other.run("SELECT pg_advisory_lock(1)").await.unwrap();

        // The server has the first piece and waits; the second is more than lies between the two.
        let pieces = [COPY_PIECE, 32 * COPY_PIECE, COPY_PIECE];
        let n_made = Arc::new(AtomicUsize::new(0));
        let made = n_made.clone();
        let copying = tokio::spawn(async move {
            let mut connection = Database::connect(&address, "test").await.unwrap();
            let next = |out: &mut Vec<u8>| {
                let Some(length) = pieces.get(made.fetch_add(1, Ordering::Relaxed)) else { return false };
                out.resize(out.len() + length, b'x');
                out.push(b'\n');
                true
            };
            connection.copy("COPY t FROM STDIN", next).await.unwrap();
        });
        eventually(Duration::from_secs(30), "the third piece is made", async || n_made.load(Ordering::Relaxed) == 3)
            .await;
        assert!(!copying.is_finished());
        other.run("SELECT pg_advisory_unlock(1)").await.unwrap();
        copying.await.unwrap();
        let lengths = database.query("SELECT length(x)::text FROM t ORDER BY ctid").await;
        let expected = pieces.map(|length| vec![Some(length.to_string())]);
        assert_eq!(lengths, expected);
    }

    #[test]
    fn names_are_quoted_so_that_they_stay_names() {
        assert_eq!(quoted("value"), r#""value""#);
        assert_eq!(quoted(r#"a"; DROP TABLE b; --"#), r#""a""; DROP TABLE b; --""#);
    }
}
