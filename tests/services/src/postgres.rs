//! PostgreSQL, for tests that write real tables.

mod cluster;
mod database;

use std::env;

use tokio::sync::OnceCell;

pub use database::Database;

use crate::server::Server;
use crate::unique_name;
use crate::waiting::blocking;

static SHARED: OnceCell<Postgres> = OnceCell::const_new();

/// A PostgreSQL server, with PostgreSQL's default settings unless a test changes them.
///
/// ```no_run
/// # use pipeline_services::Postgres;
/// # async fn example() {
/// let database = Postgres::shared().await.create_database().await;
/// database.execute("CREATE TABLE readings (value float8)").await;
/// assert_eq!(database.count("SELECT count(*) FROM readings").await, 0);
/// # }
/// ```
pub struct Postgres {
    /// The URL of database `postgres`.
    url: String,
    /// None: somebody else's, found by the environment variable.
    server: Option<Server>,
}

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Transactions are rolled back, clients are told, everything is written to disk.
    Fast,
    /// Everything stops at once, as in a crash; the next start recovers from the log.
    Immediate,
}

impl Postgres {
    /// The server that all tests of this binary use; started by the first caller.
    ///
    /// With `PIPELINE_TEST_DATABASE_URL=postgres://user@host/database` it is that one: the user must be allowed to
    /// make databases, and the databases made by tests stay there.
    pub async fn shared() -> &'static Postgres {
        SHARED
            .get_or_init(async || match env::var("PIPELINE_TEST_DATABASE_URL") {
                Ok(url) => Postgres { url, server: None },
                Err(_) => Self::start().await,
            })
            .await
    }

    /// A server of its own for one test, which may stop and start it.
    pub async fn start() -> Postgres {
        Self::start_with(&[]).await
    }

    /// As [`start`](Self::start), with other settings: `("fsync", "off")`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Postgres {
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (server, port) = blocking(move || cluster::start(&settings)).await;
        Postgres { url: format!("postgres://postgres@127.0.0.1:{port}/postgres"), server: Some(server) }
    }

    /// The URL of a database of this server, whether it exists or not.
    pub fn url(&self, database: &str) -> String {
        with_database(&self.url, database)
    }

    /// Makes an empty database that no other test has.
    pub async fn create_database(&self) -> Database {
        let name = unique_name("test");
        Database::new(self.url.clone()).execute(&format!("CREATE DATABASE {name}")).await;
        Database::new(self.url(&name))
    }

    /// Stops the server; the data stays. Only for a server from [`Postgres::start`].
    pub async fn stop(&mut self, mode: StopMode) {
        let signal = match mode {
            StopMode::Fast => "INT",
            StopMode::Immediate => "QUIT",
        };
        self.with_server(move |server, _| server.stop(signal)).await;
    }

    /// Starts a stopped server on the same port with the same data, and waits until it serves.
    pub async fn start_again(&mut self) {
        self.with_server(|server, url| {
            if let Err(log) = server.start(|| database::answers(url)) {
                panic!("PostgreSQL does not start again; its log ends with\n{log}");
            }
        })
        .await;
    }

    async fn with_server(&mut self, work: impl FnOnce(&mut Server, &str) + Send + 'static) {
        let mut server = self.server.take().expect("only `Postgres::start` gives a server that can be changed");
        let url = self.url.clone();
        let server = blocking(move || {
            work(&mut server, &url);
            server
        });
        self.server = Some(server.await);
    }
}

/// The same server's URL with another database; what follows a `?` stays.
fn with_database(url: &str, database: &str) -> String {
    let (place, options) = url.split_at(url.find('?').unwrap_or(url.len()));
    let host_start = place.find("://").map_or(0, |idx| idx + "://".len());
    let host_end = place[host_start..].find('/').map_or(place.len(), |idx| host_start + idx);
    format!("{}/{database}{options}", &place[..host_end])
}

/// The same database's URL at another `host:port`, and the one it has.
pub(crate) fn with_host(url: &str, host: &str) -> (String, String) {
    let start = url.find("://").map_or(0, |idx| idx + "://".len());
    let end = url[start..].find(['/', '?']).map_or(url.len(), |idx| start + idx);
    let start = url[start..end].rfind('@').map_or(start, |idx| start + idx + 1);
    (format!("{}{host}{}", &url[..start], &url[end..]), url[start..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_what_is_written() {
        let database = Postgres::shared().await.create_database().await;
        database.execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL)").await;
        let rows = database.query("SELECT a, b, a / 3.0::float8 FROM t ORDER BY a").await;
        let third = Some("0.3333333333333333".to_owned());
        assert_eq!(rows[0], [Some("1".to_owned()), Some("x".to_owned()), third]);
        assert_eq!(rows[1][1], None);
        assert_eq!(database.count("SELECT count(*) FROM t").await, 2);
    }

    #[tokio::test]
    async fn databases_are_separate() {
        let postgres = Postgres::shared().await;
        let (first, second) = (postgres.create_database().await, postgres.create_database().await);
        first.execute("CREATE TABLE t ()").await;
        second.execute("CREATE TABLE t ()").await;
    }

    #[tokio::test]
    async fn keeps_its_port_and_its_data_over_restarts() {
        let mut postgres = Postgres::start().await;
        let database = postgres.create_database().await;
        database.execute("CREATE TABLE t (a int)").await;
        for (n_rows, mode) in [(1, StopMode::Fast), (2, StopMode::Immediate)] {
            database.execute("INSERT INTO t VALUES (1)").await;
            postgres.stop(mode).await;
            assert!(!database.answers().await);
            postgres.start_again().await;
            assert_eq!(database.count("SELECT count(*) FROM t").await, n_rows);
        }
    }

    #[tokio::test]
    async fn writes_are_durable_unless_a_test_says_otherwise() {
        let fsync = "SHOW fsync";
        let defaults = Postgres::shared().await.create_database().await;
        assert_eq!(defaults.query(fsync).await, [[Some("on".to_owned())]]);
        let hasty = Postgres::start_with(&[("fsync", "off")]).await;
        assert_eq!(hasty.create_database().await.query(fsync).await, [[Some("off".to_owned())]]);
    }

    #[test]
    fn a_url_takes_another_database() {
        for (url, expected) in [
            ("postgres://me@host:1/postgres", "postgres://me@host:1/other"),
            ("postgres://me@host:1", "postgres://me@host:1/other"),
            ("postgres://me:a@host/x?sslmode=disable", "postgres://me:a@host/other?sslmode=disable"),
            ("postgres:///x?host=/run/postgresql", "postgres:///other?host=/run/postgresql"),
        ] {
            assert_eq!(with_database(url, "other"), expected);
        }
    }
    #[test]
    fn a_url_takes_another_host() {
        for (url, expected, host) in [
            ("postgres://me:p@host:1/x?sslmode=disable", "postgres://me:p@[::1]:2/x?sslmode=disable", "host:1"),
            ("postgres://host:1", "postgres://[::1]:2", "host:1"),
        ] {
            assert_eq!(with_host(url, "[::1]:2"), (expected.to_owned(), host.to_owned()));
        }
    }
}
