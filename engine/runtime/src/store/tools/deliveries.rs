//! What became of a row at the sinks, as far as the state store knows.

use pipeline_stage::{Result, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::super::errors::store_error;
use super::super::values::{number, text, unreadable};
use super::StateTools;

/// What an outbox knows of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The sink.
    pub sink: String,
    /// The alert's id.
    pub id: String,
    /// When it was delivered, or given up as a dead letter; none: it waits.
    pub delivered_at: Option<Timestamp>,
    /// The outbox was full: it goes into a digest.
    pub is_excess: bool,
}

/// Why a sink has not taken a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stage that could not take it.
    pub stage: String,
    /// The number of the dead letter.
    pub number: i64,
    /// Why.
    pub reason: String,
}

impl StateTools {
    /// The alerts in outboxes that were made of a row of a source, delivered ones as long as they are kept.
    pub async fn outbox_of(&self, place: &str, offset: u64) -> Result<Vec<OutboxEntry>> {
        let sql = "SELECT sink, alert, delivered_at, is_excess FROM pipeline_state_outbox
             WHERE pipeline = $1 AND place = $2 AND row_offset = $3 ORDER BY number";
        let rows = self.made_of(sql, place, offset).await?;
        let entries = rows.iter().map(|row| {
            let alert: pipeline_stage::Alert = serde_json::from_str(&text(row, 1)?).map_err(unreadable)?;
            let delivered_at: Option<i64> = row.try_get(2).map_err(|error| store_error(&error))?;
            Ok(OutboxEntry {
                sink: text(row, 0)?,
                id: alert.id,
                delivered_at: delivered_at.map(Timestamp),
                is_excess: number(row, 3)? != 0,
            })
        });
        entries.collect()
    }

    /// The dead letters that were made of a row of a source.
    pub async fn refusals_of(&self, place: &str, offset: u64) -> Result<Vec<Refusal>> {
        let sql = "SELECT stage, number, reason FROM pipeline_state_dead_letters
             WHERE pipeline = $1 AND place = $2 AND row_offset = $3 ORDER BY number";
        let rows = self.made_of(sql, place, offset).await?;
        let refusals =
            rows.iter().map(|row| Ok(Refusal { stage: text(row, 0)?, number: number(row, 1)?, reason: text(row, 2)? }));
        refusals.collect()
    }

    /// What a question about the pipeline, a place and an offset finds.
    async fn made_of(&self, sql: &'static str, place: &str, offset: u64) -> Result<Vec<AnyRow>> {
        let rows = sqlx::query(sql).bind(&self.store.pipeline).bind(place).bind(offset as i64);
        rows.fetch_all(&self.store.log).await.map_err(|error| store_error(&error))
    }
}
