//! What an error of SQLite means to the engine, in words.

use std::fs::File;
use std::io;
use std::path::Path;

use pipeline_stage::StageError;
use sqlx::Error;
use sqlx::error::DatabaseError;

/// SQLite's result codes; an extended one has the primary one in its low byte.
mod code {
    pub const ERROR: i32 = 1;
    pub const PERMISSION: i32 = 3;
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const OUT_OF_MEMORY: i32 = 7;
    pub const READ_ONLY: i32 = 8;
    pub const INTERRUPTED: i32 = 9;
    pub const INPUT_OUTPUT: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANNOT_OPEN: i32 = 14;
    pub const TOO_BIG: i32 = 18;
    pub const CONSTRAINT: i32 = 19;
    pub const MISMATCH: i32 = 20;
    pub const NOT_A_DATABASE: i32 = 26;
}

/// What went wrong below the sink: it adds the file when it hands it on.
#[derive(Debug)]
pub enum Failure {
    /// Between the driver and the file.
    Database(Error),
    /// Already in words.
    Stage(StageError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Database(error)
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        Failure::Stage(error)
    }
}

impl Failure {
    /// As an error of the stage.
    pub fn explain(self, path: &Path) -> StageError {
        match self {
            Failure::Stage(error) => error,
            Failure::Database(error) => explain(&error, path),
        }
    }

    /// Why SQLite takes none of the rows it was just given, if it is about the rows.
    pub fn refusal(&self) -> Option<String> {
        let Failure::Database(error) = self else { return None };
        let is_about_rows = matches!(primary_code(error)?, code::CONSTRAINT | code::TOO_BIG | code::MISMATCH);
        is_about_rows.then(|| words(error))
    }

    /// True when a statement was ended, as by its time limit.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Failure::Database(error) if primary_code(error) == Some(code::INTERRUPTED))
    }
}

/// True when somebody else is writing.
pub fn is_busy(error: &Error) -> bool {
    matches!(primary_code(error), Some(code::BUSY | code::LOCKED))
}

fn primary_code(error: &Error) -> Option<i32> {
    let code = error.as_database_error().and_then(DatabaseError::code)?;
    Some(code.parse::<i32>().ok()? & 0xff)
}

fn words(error: &Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn explain(error: &Error, path: &Path) -> StageError {
    let said = words(error);
    let (file, path) = (path, path.display());
    match primary_code(error) {
        Some(code::BUSY | code::LOCKED) => {
            StageError::transient(format!("`{path}` is locked by another program: {said}"))
        }
        Some(code::FULL) => StageError::transient(format!("there is no room left on the disk of `{path}`: {said}")),
        Some(code::INPUT_OUTPUT | code::OUT_OF_MEMORY) => {
            StageError::transient(format!("`{path}` cannot be read or written: {said}"))
        }
        Some(code::CANNOT_OPEN) if could_be_opened(file) => {
            StageError::transient(format!("`{path}` cannot be opened at the moment: {said}"))
        }
        Some(code::CANNOT_OPEN) => StageError::fatal(format!("`{path}` cannot be opened: {said}")),
        Some(code::READ_ONLY | code::PERMISSION) => StageError::fatal(format!("`{path}` may not be written: {said}")),
        Some(code::CORRUPT) => StageError::fatal(format!("`{path}` is damaged: {said}; restore it from a copy")),
        Some(code::NOT_A_DATABASE) => {
            StageError::fatal(format!("`{path}` is not a SQLite database; name another file"))
        }
        Some(code::ERROR) if is_changed_table(&said) => {
            StageError::transient(format!("`{path}` has changed under us: {said}; it is looked at again"))
        }
        None if matches!(error, Error::WorkerCrashed) => {
            StageError::transient(format!("the connection to `{path}` broke: {said}"))
        }
        _ => StageError::fatal(format!("SQLite says of `{path}`: {said}")),
    }
}

/// Whether a file that SQLite has not opened could be opened, but for a want of file descriptors: SQLite does not say why.
/// It makes files beside it, too.
fn could_be_opened(path: &Path) -> bool {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-probe");
    let beside = path.with_file_name(name);
    let made = File::options().write(true).create(true).truncate(true).open(&beside);
    // One that was not made is not there.
    let _ = std::fs::remove_file(&beside);
    let opened = File::options().read(true).write(true).open(path);
    // The file itself may be missing, because it is to be made.
    let opened = opened.err().filter(|error| error.kind() != io::ErrorKind::NotFound);
    opened.into_iter().chain(made.err()).all(|error| is_want_of_files(&error))
}

/// ENFILE and EMFILE, which the standard library has no kind for. Their numbers are the same on all Unix systems.
fn is_want_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// SQLite has no code of its own for a table or column that is gone.
fn is_changed_table(words: &str) -> bool {
    words.starts_with("no such ") || words.contains(" has no column named ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pipeline_stage::ErrorKind;
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, SqliteConnection};

    use super::*;

    async fn open(path: &Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        options.busy_timeout(Duration::ZERO).connect().await.unwrap()
    }

    /// The error of the last statement; those before it must succeed.
    async fn error_of(connection: &mut SqliteConnection, statements: &[&'static str]) -> Error {
        let (last, before) = statements.split_last().unwrap();
        for statement in before {
            sqlx::raw_sql(*statement).execute(&mut *connection).await.unwrap();
        }
        sqlx::raw_sql(*last).execute(connection).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_full_disk_and_a_busy_file_are_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iot.db");
        let (mut first, mut second) = (open(&path).await, open(&path).await);
        let full = error_of(
            &mut first,
            &["CREATE TABLE t (x)", "PRAGMA max_page_count = 3", "INSERT INTO t VALUES (zeroblob(100000))"],
        )
        .await;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut first).await.unwrap();
        let busy = error_of(&mut second, &["BEGIN IMMEDIATE"]).await;
        assert!(is_busy(&busy) && !is_busy(&full));
        for (error, words) in [
            (full, "there is no room left on the disk of `iot.db`: database or disk is full"),
            (busy, "`iot.db` is locked by another program: database is locked"),
        ] {
            let explained = Failure::from(error).explain(Path::new("iot.db"));
            assert_eq!((explained.kind(), explained.to_string().as_str()), (ErrorKind::Transient, words));
        }
    }

    #[tokio::test]
    async fn a_file_that_could_be_opened_is_opened_later() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        for (name, kind) in [
            ("new.db", ErrorKind::Transient),
            ("file", ErrorKind::Transient),
            // A folder is no file, and there is none below a file.
            ("", ErrorKind::Fatal),
            ("file/iot.db", ErrorKind::Fatal),
            ("missing/iot.db", ErrorKind::Fatal),
        ] {
            // What SQLite says when no file descriptor is free.
            let mut database = open(Path::new(":memory:")).await;
            let error = error_of(&mut database, &["ATTACH '/nowhere/at.all' AS other"]).await;
            assert_eq!(primary_code(&error), Some(code::CANNOT_OPEN));
            let explained = Failure::from(error).explain(&folder.path().join(name));
            assert_eq!(explained.kind(), kind, "{name}: {explained}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left");
    }

    #[tokio::test]
    async fn what_is_about_rows_is_told_from_all_else() {
        let mut database = open(Path::new(":memory:")).await;
        let create = "CREATE TABLE t (n INTEGER NOT NULL) STRICT; CREATE TABLE p (n INTEGER PRIMARY KEY)";
        sqlx::raw_sql(create).execute(&mut database).await.unwrap();
        for (statement, is_about_rows) in [
            ("INSERT INTO t VALUES (NULL)", true),
            ("INSERT INTO t VALUES ('x')", true),
            ("INSERT INTO p VALUES ('x')", true),
            ("INSERT INTO t VALUES (zeroblob(2000000000))", true),
            ("INSERT INTO gone VALUES (1)", false),
            ("INSERT INTO t (m) VALUES (1)", false),
            ("INSERT", false),
        ] {
            let failure = Failure::from(error_of(&mut database, &[statement]).await);
            assert_eq!(failure.refusal().is_some(), is_about_rows, "{statement}: {failure:?}");
        }
    }
}
