//! Evidence: what anomalies were judged by, so that `explain` can compute their scores again.

use std::sync::Arc;

use pipeline_stage::{ColumnType, Result, Timestamp, decode, encode};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::Append;
use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{bytes, number, text};

/// How much evidence a pipeline keeps, the newest: some 20 MB with a usual window.
pub const MAX_EVIDENCE: u64 = 10_000;

/// How long it is kept, by the recorded times of the epochs: 30 days, as long as anybody asks why.
pub const EVIDENCE_AGE_MICROS: i64 = 30 * 24 * 60 * 60 * 1_000_000;

/// Inserted with one statement: half the time of one by one, and far from the limits of parameters.
const ROWS_IN_STATEMENT: usize = 20;

/// What a detector was when it judged: the same for all its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    /// Its kind and type: `detector.zscore`.
    pub of: String,
    /// The version of the program.
    pub version: String,
    /// Its options, variables resolved; without secrets.
    pub options: Map<String, Value>,
    /// The options that were left out because they are or hold secrets.
    pub secrets: Vec<String>,
    /// The pipeline's `key`.
    pub key: Vec<String>,
    /// The columns that came in.
    pub columns: Vec<JudgedColumn>,
}

/// A column of the rows that a detector was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
}

/// A row that was called an anomaly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Where it was read: `source/partition`.
    pub place: String,
    /// Its offset there.
    pub offset: u64,
    /// By which stages it came, and then by the detector.
    pub branch: u64,
    /// The row with the columns that the detector added, as JSON.
    pub row: ByteBuf,
    /// The key of its series, as the detector's state has it.
    pub key: ByteBuf,
    /// The series before the row, as a checkpoint would hold it.
    pub before: Option<ByteBuf>,
    /// Why that is not there, in words.
    pub why_not: Option<String>,
}

/// Evidence to be stored with an epoch.
#[derive(Debug, Clone)]
pub struct NewEvidence {
    /// The detector's id.
    pub stage: Arc<str>,
    /// The ids of the row at the detector and at the stages below.
    pub ids: Vec<String>,
    /// The columns that make its series, with their values as text: a JSON object.
    pub series: String,
    /// Its event time.
    pub row_at: Option<Timestamp>,
    /// A [`Judge`] as it is stored.
    pub judge: Arc<[u8]>,
    /// The row.
    pub judged: Judged,
}

/// What is known of stored evidence without reading all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceLine {
    /// Orders the evidence of a store.
    pub number: i64,
    /// The detector's id.
    pub stage: String,
    /// See [`NewEvidence::ids`].
    pub ids: Vec<String>,
    /// The columns that make its series, with their values as text.
    pub series: Vec<(String, String)>,
    /// The row's event time.
    pub row_at: Option<Timestamp>,
    /// The task.
    pub task: String,
    /// The epoch it was read in.
    pub epoch: u64,
    /// When that ended.
    pub at: Timestamp,
}

/// Stored evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What the detector was.
    pub judge: Judge,
    /// The row.
    pub judged: Judged,
}

/// Stores what an epoch has given. That it is stored once is up to the log: no epoch is appended twice.
pub(super) async fn insert(store: &SqlStore, transaction: &mut Transaction<'_, Any>, append: &Append) -> Result<()> {
    for part in append.evidence.chunks(ROWS_IN_STATEMENT) {
        let places: Vec<String> = (0..part.len()).map(|row| 4 + row * 6).map(places).collect();
        let statement = format!(
            "INSERT INTO pipeline_state_evidence
                 (pipeline, task, epoch, at, stage, ids, series, row_at, judge, judged) VALUES {}",
            places.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(statement))
            .bind(&store.pipeline)
            .bind(&append.task)
            .bind(append.entry.epoch as i64)
            .bind(append.entry.ended_at.0);
        for new in part {
            let mut judged = Vec::new();
            encode(&new.judged, &mut judged)?;
            query = query
                .bind(new.stage.to_string())
                .bind(new.ids.join(" "))
                .bind(&new.series)
                .bind(new.row_at.map(|at| at.0))
                .bind(new.judge.to_vec())
                .bind(judged);
        }
        query.execute(&mut **transaction).await.map_err(|error| store_error(&error))?;
    }
    Ok(())
}

/// The parameters of one row, of which this many come before its own.
fn places(before: usize) -> String {
    let own: Vec<String> = (1..=6).map(|place| format!("${}", before + place)).collect();
    format!("($1, $2, $3, $4, {})", own.join(", "))
}

/// Drops what is too old at a time, and what is too much.
pub(super) async fn prune(store: &SqlStore, now: Timestamp) -> Result<()> {
    let old = sqlx::query("DELETE FROM pipeline_state_evidence WHERE pipeline = $1 AND at < $2")
        .bind(&store.pipeline)
        .bind(now.0.saturating_sub(EVIDENCE_AGE_MICROS));
    old.execute(&store.log).await.map_err(|error| store_error(&error))?;
    let excess = sqlx::query(
        "DELETE FROM pipeline_state_evidence WHERE pipeline = $1 AND number <= COALESCE(
             (SELECT number FROM pipeline_state_evidence WHERE pipeline = $1 ORDER BY number DESC LIMIT 1 OFFSET $2), -1)",
    )
    .bind(&store.pipeline)
    .bind(MAX_EVIDENCE as i64);
    excess.execute(&store.log).await.map(drop).map_err(|error| store_error(&error))
}

pub(super) async fn lines(store: &SqlStore) -> Result<Vec<EvidenceLine>> {
    let rows = sqlx::query(
        "SELECT number, stage, ids, series, row_at, task, epoch, at FROM pipeline_state_evidence
         WHERE pipeline = $1 ORDER BY number DESC",
    )
    .bind(&store.pipeline)
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter().map(read_line).collect()
}

fn read_line(row: &AnyRow) -> Result<EvidenceLine> {
    let row_at: Option<i64> = row.try_get(4).map_err(|error| store_error(&error))?;
    Ok(EvidenceLine {
        number: number(row, 0)?,
        stage: text(row, 1)?,
        ids: text(row, 2)?.split(' ').map(str::to_owned).collect(),
        series: series_of(&text(row, 3)?),
        row_at: row_at.map(Timestamp),
        task: text(row, 5)?,
        epoch: number(row, 6)? as u64,
        at: Timestamp(number(row, 7)?),
    })
}

/// Reads [`NewEvidence::series`].
pub fn series_of(series: &str) -> Vec<(String, String)> {
    let columns: Map<String, Value> = serde_json::from_str(series).unwrap_or_default();
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    columns.into_iter().map(|(name, value)| (name, text(value))).collect()
}

pub(super) async fn get(store: &SqlStore, number: i64) -> Result<Option<Evidence>> {
    let row = sqlx::query("SELECT judge, judged FROM pipeline_state_evidence WHERE pipeline = $1 AND number = $2")
        .bind(&store.pipeline)
        .bind(number)
        .fetch_optional(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Evidence { judge: decode(&bytes(&row, 0)?)?, judged: decode(&bytes(&row, 1)?)? }))
}
