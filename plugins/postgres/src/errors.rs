//! What an error of the database means to the engine, in words.

use std::io;

use pipeline_stage::StageError;
use sqlx::Error;
use sqlx::postgres::PgDatabaseError;

/// What went wrong below the sink: it adds the place of the database when it hands it on.
#[derive(Debug)]
pub enum Failure {
    /// Between the driver and the database.
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
    /// As an error of the stage; `place` is the host and port of the database.
    pub fn explain(self, place: &str) -> StageError {
        match self {
            Failure::Stage(error) => error,
            Failure::Database(error) => explain(&error, place),
        }
    }

    /// Why the database takes none of the rows it was just sent, if it is about the rows.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Failure::Database(error) => answer_of(error).filter(|answer| is_about_rows(answer.code())).map(words),
            Failure::Stage(_) => None,
        }
    }

    /// True when a lock was not given in the time that was set.
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Failure::Database(error) if answer_of(error).is_some_and(|answer| answer.code() == "55P03"))
    }

    /// True when a statement was ended, as by its time limit.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Failure::Database(error) if answer_of(error).is_some_and(|answer| answer.code() == "57014"))
    }

    /// True when the user may not do what was asked.
    pub fn is_denied(&self) -> bool {
        matches!(self, Failure::Database(error) if answer_of(error).is_some_and(|answer| answer.code() == "42501"))
    }
}

fn answer_of(error: &Error) -> Option<&PgDatabaseError> {
    match error {
        Error::Database(error) => error.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    }
}

/// What PostgreSQL says, on one line.
fn words(answer: &PgDatabaseError) -> String {
    let message = answer.message().trim_end_matches('.');
    match answer.detail() {
        Some(detail) => format!("{message}: {}", detail.trim_end_matches('.')),
        None => message.to_owned(),
    }
}

/// Values out of range, broken constraints, too large for an index, refused by a trigger. Not 22P03 and 22P04, which
/// say that the binary form was wrong: then the table has changed.
fn is_about_rows(code: &str) -> bool {
    let class = &code[..2.min(code.len())];
    (matches!(class, "22" | "23" | "44" | "54") && !is_changed_table(code)) || code == "P0001"
}

/// The table is no longer what it was when it was looked at: missing, or other columns or types.
fn is_changed_table(code: &str) -> bool {
    matches!(code, "22P03" | "22P04" | "42P01" | "42703" | "42704" | "42804" | "428C9" | "0A000" | "08P01")
}

fn explain(error: &Error, place: &str) -> StageError {
    if let Some(answer) = answer_of(error) {
        return explain_answer(answer, place);
    }
    match error {
        Error::Io(cause) => StageError::transient(format!("PostgreSQL does not answer ({}, {place})", io_words(cause))),
        Error::Tls(cause) => StageError::fatal(format!("no encrypted connection to PostgreSQL at {place}: {cause}")),
        Error::Configuration(cause) => StageError::fatal(format!("`url` cannot be used: {cause}")),
        // The driver and the server are out of step, as after a connection that broke in the middle of an answer.
        other => StageError::transient(format!("the connection to PostgreSQL at {place} broke: {other}")),
    }
}

fn io_words(error: &io::Error) -> String {
    match error.kind() {
        // The system's own text adds a number that helps nobody.
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::UnexpectedEof => "connection closed".into(),
        _ => error.to_string(),
    }
}

fn explain_answer(answer: &PgDatabaseError, place: &str) -> StageError {
    let code = answer.code();
    let said = words(answer);
    let transient = |what: &str| StageError::transient(format!("PostgreSQL {what} ({place}): {said}"));
    match code {
        "57P01" | "57P02" | "57P05" | "25P03" => transient("has ended the connection"),
        "57P03" => transient("is starting up or shutting down"),
        "53100" => transient("has no room left on its disk"),
        "53300" => transient("takes no more connections"),
        "25006" => transient("takes no writes, it is read-only"),
        "55P03" => transient("has not given a lock"),
        "57014" => transient("has cancelled a statement"),
        "3D000" | "3F000" => StageError::fatal(format!("{said}, at {place}; make it first")),
        "42501" => StageError::fatal(format!("the user of `url` may not do this at {place}: {said}")),
        "XX001" | "XX002" => StageError::fatal(format!("PostgreSQL at {place} has damaged data: {said}")),
        _ if code.starts_with("28") => StageError::fatal(format!("PostgreSQL at {place} does not let us in: {said}")),
        _ if code.starts_with("40") => transient("has undone the transaction for another one"),
        _ if is_changed_table(code) => transient("has found the table changed"),
        _ if ["08", "53", "55", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) => {
            transient("has failed")
        }
        _ => StageError::fatal(format!("PostgreSQL at {place} says: {said} (code {code})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_about_rows_are_told_from_all_others() {
        for code in ["22003", "22001", "22021", "22P02", "22P05", "23505", "23502", "23514", "44000", "54000", "P0001"]
        {
            assert!(is_about_rows(code), "{code}");
        }
        for code in ["22P03", "22P04", "42P01", "53100", "57P01", "40001", "25006", "28P01", "XX000", "42501", ""] {
            assert!(!is_about_rows(code), "{code}");
        }
    }
}
