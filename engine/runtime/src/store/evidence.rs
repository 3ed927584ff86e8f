//! Evidence: what anomalies were judged by, so that `explain` can compute their scores again.
//!
//! Anomalies that a detector found one after the other are one row of the table, as each row costs more than what it
//! holds: `ids` has a line for each, its ids and behind a tab its event time, `series` a line for each, and `judged` is a
//! list. A row that an earlier version wrote is of one anomaly: it has the time in `row_at`, and no list.

use std::sync::Arc;

use futures::TryStreamExt;
use pipeline_stage::{ColumnType, Result, StageError, Timestamp, decode, encode};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::Append;
use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{bytes, number, text};

/// How much evidence a pipeline keeps, the newest: some 20 MB with a usual window.
pub const MAX_EVIDENCE: u64 = 10_000;

/// How long it is kept, by the recorded times of the epochs: 30 days, as long as anybody asks why.
pub const EVIDENCE_AGE_MICROS: i64 = 30 * 24 * 60 * 60 * 1_000_000;

/// More are not in one row of the table. Part of the number of each: see [`EvidenceLine::number`].
const MAX_IN_ROW: usize = 256;

/// About what the names of its fields and its place take of each.
const BYTES_OF_NAMES: usize = 128;

/// More bytes are not either, but for one alone: all of them are read for one.
const MAX_BYTES_IN_ROW: usize = 1 << 20;

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
    /// Orders the evidence of a store: the number of its row there, times 256, plus its place in that.
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

impl NewEvidence {
    fn bytes(&self) -> usize {
        let Judged { row, key, before, .. } = &self.judged;
        row.len() + key.len() + before.as_ref().map_or(0, |before| before.len())
    }
}

/// What an epoch has given, as rows of the table.
pub fn evidence_rows(evidence: &[NewEvidence]) -> Vec<&[NewEvidence]> {
    let mut rows = Vec::new();
    for mut rest in evidence.chunk_by(|one, other| one.stage == other.stage && one.judge == other.judge) {
        while !rest.is_empty() {
            let (row, after) = rest.split_at(count_in_row(rest));
            rows.push(row);
            rest = after;
        }
    }
    rows
}

fn count_in_row(evidence: &[NewEvidence]) -> usize {
    let mut bytes = 0;
    let fits = evidence.iter().take(MAX_IN_ROW).take_while(|new| {
        bytes += new.bytes();
        bytes <= MAX_BYTES_IN_ROW
    });
    fits.count().max(1)
}

/// The number of an anomaly's evidence: see [`EvidenceLine::number`]. None for a row whose number is too large for that.
pub fn evidence_number(row: i64, place: usize) -> Option<i64> {
    row.checked_mul(MAX_IN_ROW as i64)?.checked_add(place as i64)
}

/// Stores what an epoch has given. That it is stored once is up to the log: no epoch is appended twice.
pub(super) async fn insert(store: &SqlStore, transaction: &mut Transaction<'_, Any>, append: &Append) -> Result<()> {
    for row in evidence_rows(&append.evidence) {
        let mut judged = Vec::with_capacity(row.iter().map(|new| new.bytes() + BYTES_OF_NAMES).sum());
        encode(&row.iter().map(|new| &new.judged).collect::<Vec<_>>(), &mut judged)?;
        let series: Vec<&str> = row.iter().map(|new| new.series.as_str()).collect();
        sqlx::query(
            "INSERT INTO pipeline_state_evidence
                 (pipeline, task, epoch, at, stage, ids, series, row_at, judge, judged)
             VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, $8, $9)",
        )
        .bind(&store.pipeline)
        .bind(&append.task)
        .bind(append.entry.epoch as i64)
        .bind(append.entry.ended_at.0)
        .bind(row[0].stage.to_string())
        .bind(row.iter().map(ids_and_time).collect::<Vec<_>>().join("\n"))
        .bind(series.join("\n"))
        .bind(row[0].judge.to_vec())
        .bind(judged)
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    Ok(())
}

fn ids_and_time(new: &NewEvidence) -> String {
    let ids = new.ids.join(" ");
    match new.row_at {
        Some(at) => format!("{ids}\t{}", at.0),
        None => ids,
    }
}

/// Drops what is too old at a time, and what is too much.
pub(super) async fn prune(store: &SqlStore, now: Timestamp) -> Result<()> {
    let old = sqlx::query("DELETE FROM pipeline_state_evidence WHERE pipeline = $1 AND at < $2")
        .bind(&store.pipeline)
        .bind(now.0.saturating_sub(EVIDENCE_AGE_MICROS));
    old.execute(&store.log).await.map_err(|error| store_error(&error))?;
    // Rows of the table go as a whole.
    let excess = sqlx::query(
        "DELETE FROM pipeline_state_evidence WHERE pipeline = $1 AND number <= COALESCE(
             (SELECT MAX(number) FROM (
                 SELECT number, SUM(1 + LENGTH(ids) - LENGTH(REPLACE(ids, $3, '')))
                     OVER (ORDER BY number DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer
                 FROM pipeline_state_evidence WHERE pipeline = $1) AS counted
              WHERE newer >= $2), -1)",
    )
    .bind(&store.pipeline)
    .bind(MAX_EVIDENCE as i64)
    .bind("\n");
    excess.execute(&store.log).await.map(drop).map_err(|error| store_error(&error))
}

/// The newest, as many as are kept, and what is wrong with the rows that had to be left out.
pub(super) async fn lines(store: &SqlStore) -> Result<(Vec<EvidenceLine>, Vec<StageError>)> {
    let mut rows = sqlx::query(
        "SELECT number, stage, ids, series, row_at, task, epoch, at FROM pipeline_state_evidence
         WHERE pipeline = $1 ORDER BY number DESC",
    )
    .bind(&store.pipeline)
    .fetch(&store.log);
    let (mut lines, mut damaged) = (Vec::new(), Vec::new());
    while lines.len() < MAX_EVIDENCE as usize
        && let Some(row) = rows.try_next().await.map_err(|error| store_error(&error))?
    {
        match read_lines(&row) {
            Ok(of_row) => lines.extend(of_row.into_iter().rev()),
            Err(error) => damaged.push(error),
        }
    }
    lines.truncate(MAX_EVIDENCE as usize);
    Ok((lines, damaged))
}

fn read_lines(row: &AnyRow) -> Result<Vec<EvidenceLine>> {
    let row_at: Option<i64> = row.try_get(4).map_err(|error| store_error(&error))?;
    let row_number = number(row, 0)?;
    let first = EvidenceLine {
        number: evidence_number(row_number, 0).ok_or_else(|| damaged(row_number, "its number is too large"))?,
        stage: text(row, 1)?,
        ids: Vec::new(),
        series: Vec::new(),
        row_at: row_at.map(Timestamp),
        task: text(row, 5)?,
        epoch: number(row, 6)? as u64,
        at: Timestamp(number(row, 7)?),
    };
    let (ids, series) = (text(row, 2)?, text(row, 3)?);
    let (n_ids, n_series) = (ids.split('\n').count(), series.split('\n').count());
    if n_ids != n_series {
        return Err(damaged(row_number, &format!("it has the ids of {n_ids} anomalies and the series of {n_series}")));
    }
    if MAX_IN_ROW < n_ids {
        return Err(damaged(row_number, &format!("it has {n_ids} anomalies, at most {MAX_IN_ROW} are in one row")));
    }
    let lines = ids.split('\n').zip(series.split('\n')).enumerate().map(|(place, (ids, series))| {
        let (ids, row_at) = match ids.split_once('\t') {
            None => (ids, first.row_at),
            Some((ids, at)) => {
                let at = at.parse().map_err(|_| damaged(row_number, &format!("`{at}` is no event time")))?;
                (ids, Some(Timestamp(at)))
            }
        };
        let series = series_of(series).map_err(|_| damaged(row_number, &format!("`{series}` is no series")))?;
        let ids = ids.split(' ').map(str::to_owned).collect();
        Ok(EvidenceLine { number: first.number + place as i64, ids, series, row_at, ..first.clone() })
    });
    lines.collect()
}

fn damaged(row: i64, how: &str) -> StageError {
    StageError::fatal(format!("row {row} of `pipeline_state_evidence` is damaged: {how}"))
}

/// Reads [`NewEvidence::series`].
///
/// # Errors
///
/// It is no JSON object.
pub fn series_of(series: &str) -> serde_json::Result<Vec<(String, String)>> {
    let columns: Map<String, Value> = serde_json::from_str(series)?;
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(columns.into_iter().map(|(name, value)| (name, text(value))).collect())
}

pub(super) async fn get(store: &SqlStore, number: i64) -> Result<Option<Evidence>> {
    let (row_number, place) = (number.div_euclid(MAX_IN_ROW as i64), number.rem_euclid(MAX_IN_ROW as i64) as usize);
    let row = sqlx::query("SELECT judge, judged, ids FROM pipeline_state_evidence WHERE pipeline = $1 AND number = $2")
        .bind(&store.pipeline)
        .bind(row_number)
        .fetch_optional(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    let Some(row) = row else { return Ok(None) };
    let (judge, judged, n_ids) = (bytes(&row, 0)?, bytes(&row, 1)?, text(&row, 2)?.split('\n').count());
    let unreadable = |what: &str, error: StageError| damaged(row_number, &format!("{what}: {}", error.chain()));
    let all: Result<Vec<Judged>> = decode(&judged);
    // A row of an earlier version is no list.
    let all = all.or_else(|error| decode(&judged).map(|one| vec![one]).map_err(|_| error));
    let mut all = all.map_err(|error| unreadable("`judged`", error))?;
    if all.len() != n_ids {
        return Err(damaged(row_number, &format!("it has the ids of {n_ids} anomalies, and {} are judged", all.len())));
    }
    if n_ids <= place {
        return Ok(None);
    }
    let judge = decode(&judge).map_err(|error| unreadable("`judge`", error))?;
    Ok(Some(Evidence { judge, judged: all.swap_remove(place) }))
}
