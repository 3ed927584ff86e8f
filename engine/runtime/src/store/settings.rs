//! What is stored of a pipeline as a whole.

use pipeline_stage::{Result, StageError};

use super::connect::SqlStore;
use super::errors::store_error;
use super::values::text;

/// Refuses a store that another version of the program has made.
pub(super) async fn check_version(store: &SqlStore, version: &str) -> Result<()> {
    match setting(store, "version").await? {
        None => set_setting(store, "version", version).await,
        Some(found) if found == version => Ok(()),
        Some(found) => Err(StageError::fatal(format!(
            "the state in {} has version {found}, this program reads version {version}",
            store.place()
        ))),
    }
}

pub(super) async fn setting(store: &SqlStore, name: &str) -> Result<Option<String>> {
    let found = sqlx::query("SELECT value FROM pipeline_state_settings WHERE pipeline = $1 AND name = $2")
        .bind(&store.pipeline)
        .bind(name)
        .fetch_optional(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    found.map(|row| text(&row, 0)).transpose()
}

pub(super) async fn set_setting(store: &SqlStore, name: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO pipeline_state_settings (pipeline, name, value) VALUES ($1, $2, $3)
         ON CONFLICT (pipeline, name) DO UPDATE SET value = excluded.value",
    )
    .bind(&store.pipeline)
    .bind(name)
    .bind(value)
    .execute(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(())
}
