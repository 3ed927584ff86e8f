//! What an error of the database means for the engine.

use std::fs::File;
use std::io;
use std::path::Path;

use pipeline_stage::{ErrorKind, StageError};
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

/// As [`store_error`], when a file is opened. That it could not be is for good, unless it is for want of file descriptors:
/// SQLite does not say why, so it is tried without it.
pub(super) fn at_file(file: &Path, error: &sqlx::Error) -> StageError {
    let cause = store_error(error);
    let kind = match File::options().read(true).write(true).open(file) {
        Err(why) if is_sqlite(error, CANNOT_OPEN) && !is_want_of_files(&why) => ErrorKind::Fatal,
        _ => cause.kind(),
    };
    StageError::new(kind, format!("the state file `{}` cannot be used: {}", file.display(), cause.chain()))
}

/// ENFILE and EMFILE, which the standard library has no kind for. Their numbers are the same on all Unix systems.
pub(super) fn is_want_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

const CANNOT_OPEN: i32 = 14;

fn is_sqlite(error: &sqlx::Error, code: i32) -> bool {
    let sqlite = error.as_database_error().and_then(|database| database.try_downcast_ref::<SqliteError>());
    sqlite.is_some_and(|sqlite| primary_code(sqlite) == code)
}

/// What an error of the database means for the engine. The words hold no URL.
pub(super) fn store_error(error: &sqlx::Error) -> StageError {
    match error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<SqliteError>() {
            Some(sqlite) => of_sqlite(sqlite.message(), primary_code(sqlite)),
            None => StageError::new(of_postgres(database.code().as_deref()), failed(error)),
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            StageError::transient(failed(error))
        }
        _ => StageError::fatal(failed(error)),
    }
}

fn failed(error: &sqlx::Error) -> String {
    format!("the state store failed: {error}")
}

/// 08: connection, 57P: shutting down or starting, 53: resources, such as the disk, 40: serialization, 25P03: stopped for
/// too long in a transaction.
fn of_postgres(code: Option<&str>) -> ErrorKind {
    let is_passing =
        code.is_some_and(|code| ["08", "57P", "53", "40", "25P03"].iter().any(|class| code.starts_with(class)));
    if is_passing { ErrorKind::Transient } else { ErrorKind::Fatal }
}

/// An extended code has the primary one in its low byte.
fn primary_code(error: &SqliteError) -> i32 {
    error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default() & 0xff
}

fn of_sqlite(said: &str, code: i32) -> StageError {
    match code {
        // BUSY and LOCKED.
        5 | 6 => StageError::transient(format!("the state is locked by another program: {said}")),
        // FULL.
        13 => StageError::transient(format!("there is no room left on the disk of the state: {said}")),
        // NOMEM and IOERR: a disk that fails now and then, or has become read-only.
        7 | 10 => StageError::transient(format!("the state cannot be read or written: {said}")),
        // It was open before: for want of file descriptors, as a rule.
        CANNOT_OPEN => StageError::transient(format!("the state cannot be opened at the moment: {said}")),
        // PERM and READONLY.
        3 | 8 => StageError::fatal(format!("the state may not be written: {said}")),
        // CORRUPT and NOTADB.
        11 | 26 => StageError::fatal(format!("the state is damaged: {said}; restore it from a copy")),
        _ => StageError::fatal(format!("the state store failed: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_waited_for() {
        for (code, kind, words) in [
            (5, ErrorKind::Transient, "the state is locked by another program: oh"),
            (13, ErrorKind::Transient, "there is no room left on the disk of the state: oh"),
            (10, ErrorKind::Transient, "the state cannot be read or written: oh"),
            (14, ErrorKind::Transient, "the state cannot be opened at the moment: oh"),
            (8, ErrorKind::Fatal, "the state may not be written: oh"),
            (11, ErrorKind::Fatal, "the state is damaged: oh; restore it from a copy"),
            (1, ErrorKind::Fatal, "the state store failed: oh"),
        ] {
            let error = of_sqlite("oh", code);
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, words));
        }
        for (code, kind) in [
            ("08006", ErrorKind::Transient),
            ("57P01", ErrorKind::Transient),
            ("53100", ErrorKind::Transient),
            ("25P03", ErrorKind::Transient),
            ("42501", ErrorKind::Fatal),
        ] {
            assert_eq!(of_postgres(Some(code)), kind);
        }
    }
}
