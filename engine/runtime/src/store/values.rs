//! Values as they come out of the database.

use pipeline_stage::{Result, StageError};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::errors::store_error;

/// What another program has written, or a disk has spoilt.
pub(super) fn unreadable(error: serde_json::Error) -> StageError {
    StageError::fatal("the state store holds what cannot be read").because(error)
}

/// A text.
pub(super) fn text(row: &AnyRow, column: usize) -> Result<String> {
    row.try_get(column).map_err(|error| store_error(&error))
}

/// A whole number.
pub(super) fn number(row: &AnyRow, column: usize) -> Result<i64> {
    row.try_get(column).map_err(|error| store_error(&error))
}

/// Bytes.
pub(super) fn bytes(row: &AnyRow, column: usize) -> Result<Vec<u8>> {
    row.try_get(column).map_err(|error| store_error(&error))
}
