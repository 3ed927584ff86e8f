//! What an error of the database means for the engine.

use std::path::Path;

use pipeline_stage::{ErrorKind, StageError};
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

/// As [`store_error`], when a file is opened.
pub(super) fn at_file(file: &Path, error: &sqlx::Error) -> StageError {
    let cause = store_error(error);
    StageError::new(cause.kind(), format!("the state file `{}` cannot be used: {}", file.display(), cause.chain()))
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
