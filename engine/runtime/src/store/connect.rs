//! Opens the state store: a folder with SQLite files, or a PostgreSQL database.

use std::fs::{File, TryLockError};
use std::io::ErrorKind::StorageFull;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{ErrorKind, Result, StageError};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Executor};

use super::errors::{at_file, is_want_of_files, store_error};
use super::tables::{CHECKPOINT_TABLES, Dialect, LOG_TABLES, VERSION};
use super::{StateStore, settings};

/// The store of one pipeline over sqlx.
pub struct SqlStore {
    pub(super) pipeline: String,
    /// Epochs, outboxes, dead letters.
    pub(super) log: AnyPool,
    /// Checkpoints; with PostgreSQL the same pool.
    pub(super) checkpoints: AnyPool,
    /// Whether both are the same database.
    pub(super) is_one_database: bool,
    place: String,
    /// Held as long as the store is open: a folder has one user.
    _lock: Option<File>,
}

/// Opens the state of a pipeline: `location` is a folder (made if missing) or a `postgres://` URL.
///
/// # Errors
/// `Fatal` in words when another process uses the folder, it cannot be written, or it is of another version;
/// `Transient` when PostgreSQL does not answer.
pub async fn open(location: &str, pipeline: &str) -> Result<Arc<dyn StateStore>> {
    Ok(Arc::new(open_sql(location, pipeline).await?))
}

/// As [`open`].
pub(super) async fn open_sql(location: &str, pipeline: &str) -> Result<SqlStore> {
    sqlx::any::install_default_drivers();
    let store = match is_postgres(location) {
        true => open_postgres(location, pipeline).await?,
        false => open_folder(Path::new(location), pipeline).await?,
    };
    settings::check_version(&store, VERSION).await?;
    Ok(store)
}

/// Opens a state that another process may be using, to look at it or to ask something of that process.
///
/// # Errors
/// As [`open`], and when there is no state yet.
pub async fn open_beside(location: &str, pipeline: &str) -> Result<Arc<dyn StateStore>> {
    Ok(Arc::new(open_beside_sql(location, pipeline).await?))
}

/// As [`open_beside`].
pub(super) async fn open_beside_sql(location: &str, pipeline: &str) -> Result<SqlStore> {
    sqlx::any::install_default_drivers();
    let store = match is_postgres(location) {
        true => open_postgres(location, pipeline).await?,
        false if !Path::new(location).join("log.db").exists() => {
            return Err(StageError::fatal(format!("there is no state in `{location}`: the pipeline has not run yet")));
        }
        false => open_files(Path::new(location), pipeline, None).await?,
    };
    settings::check_version(&store, VERSION).await?;
    Ok(store)
}

/// Whether a `state:` means PostgreSQL.
pub(crate) fn is_postgres(location: &str) -> bool {
    location.starts_with("postgres://") || location.starts_with("postgresql://")
}

async fn open_folder(folder: &Path, pipeline: &str) -> Result<SqlStore> {
    let place = folder.display().to_string();
    let wrong = |what: &str, error: std::io::Error| {
        let is_passing = error.kind() == StorageFull || is_want_of_files(&error);
        let kind = if is_passing { ErrorKind::Transient } else { ErrorKind::Fatal };
        StageError::new(kind, format!("the state folder `{place}` {what}")).because(error)
    };
    std::fs::create_dir_all(folder).map_err(|error| wrong("cannot be made", error))?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))
        .map_err(|error| wrong("cannot be written", error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "the state folder `{place}` is in use by another process; a folder has one user, `state:` can be a PostgreSQL URL to share it"
            );
            return Err(StageError::fatal(message));
        }
        Err(TryLockError::Error(error)) => return Err(wrong("cannot be locked", error)),
    }
    open_files(folder, pipeline, Some(lock)).await
}

async fn open_files(folder: &Path, pipeline: &str, lock: Option<File>) -> Result<SqlStore> {
    let log = sqlite(&folder.join("log.db"), LOG_TABLES).await?;
    let checkpoints = sqlite(&folder.join("checkpoints.db"), CHECKPOINT_TABLES).await?;
    let place = folder.display().to_string();
    Ok(SqlStore { pipeline: pipeline.into(), log, checkpoints, is_one_database: false, place, _lock: lock })
}

async fn sqlite(file: &Path, tables: &[&str]) -> Result<AnyPool> {
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let options: AnyConnectOptions = url.parse().map_err(|error| store_error(&error))?;
    // The pool tries for long to connect to a file that cannot be used, and does not say why.
    let first = async {
        let mut first = AnyConnection::connect_with(&options).await?;
        prepare(&mut first).await?;
        first.close().await
    };
    first.await.map_err(|error| at_file(file, &error))?;
    // One connection: SQLite has one writer, and reads here are few.
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .after_release(|connection, _| Box::pin(async move { is_sound(connection).await }))
        .connect_with(options)
        .await
        .map_err(|error| at_file(file, &error))?;
    make_tables(&pool, Dialect::Sqlite, tables).await.map_err(|error| at_file(file, &error))?;
    Ok(pool)
}

async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    connection.execute("PRAGMA busy_timeout = 10000").await?;
    connection.execute("PRAGMA journal_mode = WAL").await?;
    // FULL: a commit that has returned survives a power cut.
    connection.execute("PRAGMA synchronous = FULL").await?;
    // KiB of pages, for each of both files. What is written is seldom read again; in the usual 2 MB a first checkpoint stays.
    connection.execute("PRAGMA cache_size = -500").await?;
    // What has no room there, as when many parts are counted, is some MB: a container has no folder for it.
    connection.execute("PRAGMA temp_store = MEMORY").await?;
    Ok(())
}

/// Whether a connection can be used again. On a full disk SQLite ends a transaction by itself, and sqlx, whose rollback
/// then finds none, believes for ever to be in one: it would make the next transactions parts of that.
async fn is_sound(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // Waits for a rollback that is under way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Of each connection. That a table is there already is no news. A process that was stopped in the middle of a
/// transaction keeps its locks, and the next owner of its tasks waits for
/// them. The server ends its connection before a group gives its partitions to others (10 s); a transaction takes
/// milliseconds. A commit that has answered is on disk, whatever the server's default is: rows are acknowledged on it.
const SETTINGS: &str = "
    SET client_min_messages = 'warning';
    SET idle_in_transaction_session_timeout = '5s';
    DO $$BEGIN
        IF current_setting('synchronous_commit') = 'off' THEN
            PERFORM set_config('synchronous_commit', 'on', false);
        END IF;
    END$$";

async fn open_postgres(url: &str, pipeline: &str) -> Result<SqlStore> {
    let options: AnyConnectOptions = url.parse().map_err(|_| {
        StageError::config("`state` is not a PostgreSQL URL, it would be `postgres://user@host:5432/database`")
    })?;
    let pool = AnyPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(30))
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SETTINGS).await.map(drop) }))
        .connect_with(options)
        .await
        .map_err(|error| store_error(&error))?;
    make_tables(&pool, Dialect::Postgres, LOG_TABLES).await.map_err(|error| store_error(&error))?;
    make_tables(&pool, Dialect::Postgres, CHECKPOINT_TABLES).await.map_err(|error| store_error(&error))?;
    let place = "PostgreSQL".to_string();
    Ok(SqlStore {
        pipeline: pipeline.into(),
        log: pool.clone(),
        checkpoints: pool,
        is_one_database: true,
        place,
        _lock: None,
    })
}

async fn make_tables(pool: &AnyPool, dialect: Dialect, tables: &[&str]) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if dialect == Dialect::Postgres {
        // Two processes may start at once, and CREATE TABLE IF NOT EXISTS is not safe against itself.
        transaction.execute("SELECT pg_advisory_xact_lock(7236521)").await?;
    }
    for table in tables {
        transaction.execute(AssertSqlSafe(dialect.statement(table))).await?;
    }
    transaction.commit().await
}

impl SqlStore {
    pub(super) fn place(&self) -> String {
        self.place.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commits_are_synced_to_the_disk_whatever_the_default_is() {
        for (default, expected) in [("off", "on"), ("on", "on"), ("local", "local")] {
            let database = pipeline_services::Postgres::shared().await.create_database().await;
            database.set_default("synchronous_commit", default).await;
            let store = open_sql(database.url(), "p").await.expect("a new state");
            let found: String =
                sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&store.log).await.expect("a setting");
            assert_eq!(found, expected, "default {default}");
        }
    }

    #[tokio::test]
    async fn both_files_are_synced_and_take_little_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open_sql(&folder.path().display().to_string(), "p").await.expect("a new state");
        for pool in [&store.log, &store.checkpoints] {
            for (name, expected) in [("synchronous", 2_i64), ("cache_size", -500), ("temp_store", 2)] {
                let found: i64 = sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA {name}")))
                    .fetch_one(pool)
                    .await
                    .expect("a setting");
                assert_eq!(found, expected, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn what_follows_a_full_disk_is_committed() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = folder.path().display().to_string();
        let store = open_sql(&location, "p").await.expect("a new state");
        // SQLite takes the present size instead.
        store.log.execute("PRAGMA max_page_count = 1").await.expect("a limit");
        let mut transaction = store.log.begin().await.expect("a transaction");
        let large = "INSERT INTO pipeline_state_settings VALUES ('p', 'large', zeroblob(1000000))";
        let full = transaction.execute(large).await.expect_err("no room");
        assert_eq!(store_error(&full).kind(), ErrorKind::Transient);
        drop(transaction);
        drop(store.log.begin().await.expect("a transaction that is given up"));
        settings::set_setting(&store, "name", "value").await.expect("there is room");
        let beside = open_beside_sql(&location, "p").await.expect("the same state");
        assert_eq!(settings::setting(&beside, "name").await.expect("read"), Some("value".to_owned()));
    }
}
