//! `/api/tap/STAGE`: the rows that pass a stage, for `pipeline tap` and for the page of a series.

use std::convert::Infallible;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use pipeline_runtime::expression::Expression;
use pipeline_runtime::run::view::{Tap, text};
use pipeline_stage::write_json_row;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::live::MAX_PAGES;
use crate::server::Shared;

/// What of the rows is wanted.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// Only those of a series: `{"sensor_id": "a", "metric_type": "temperature"}` as JSON.
    series: Option<String>,
    /// Only those for which an expression is true.
    when: Option<String>,
    /// At most so many rows a second; 0 sends as many as may be asked for.
    #[serde(default = "default_rate")]
    rate: u32,
}

/// More than anybody can read, and less than 200 KB a second.
fn default_rate() -> u32 {
    100
}

/// Rows as text cost more than most stages: nobody may make the pipeline write all of them.
const MAX_RATE: u32 = 10_000;

fn allowed(rate: u32) -> u32 {
    if rate == 0 { MAX_RATE } else { rate.min(MAX_RATE) }
}

struct Following {
    tap: Tap,
    series: Vec<(usize, String)>,
    when: Option<Expression>,
    allowance: Allowance,
    missed: u64,
    unseen: u64,
}

/// What is missed is told with the next rows; if none come, so soon.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Server-sent events `rows`: `{"missed": 0, "unseen": 0, "rows": [{…}, …]}`. Missed are rows that were wanted and not sent,
/// because more than `rate` came; unseen are rows that passed too fast to be looked at, wanted or not.
pub async fn events(State(shared): State<Shared>, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Response {
    let plan = &shared.watched.plan;
    let Some(stage) = plan.stages.iter().position(|stage| stage.id == id) else {
        let known: Vec<&str> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
        let words = format!("no stage is called `{id}`; there is {}", known.join(", "));
        return (StatusCode::NOT_FOUND, words).into_response();
    };
    let schema = &plan.stages[stage].schema;
    let when = match wanted.when.as_deref().map(|when| Expression::compile_condition(when, schema)).transpose() {
        Ok(when) => when,
        Err(errors) => {
            let words: Vec<String> = errors.iter().map(|error| error.message.clone()).collect();
            return (StatusCode::BAD_REQUEST, format!("`when`: {}", words.join("; "))).into_response();
        }
    };
    let series = match series_of(wanted.series.as_deref(), schema) {
        Ok(series) => series,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let taps = &shared.watched.progress.view.taps;
    if MAX_PAGES <= taps.lookers(stage) {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many look at this stage").into_response();
    }
    let tap = taps.look(stage);
    let following =
        Following { tap, series, when, allowance: Allowance::new(allowed(wanted.rate)), missed: 0, unseen: 0 };
    let events = stream::unfold(following, |mut following| async {
        let event = following.next().await?;
        Some((event, following))
    });
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response()
}

fn series_of(series: Option<&str>, schema: &arrow::datatypes::Schema) -> Result<Vec<(usize, String)>, String> {
    let Some(series) = series else { return Ok(Vec::new()) };
    let wanted: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(series).map_err(|error| format!("`series` is no JSON object: {error}"))?;
    let pairs = wanted.into_iter().map(|(name, value)| {
        let column = schema.index_of(&name).map_err(|_| format!("`series`: there is no column `{name}`"))?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok((column, value))
    });
    pairs.collect()
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        let tell_at = Instant::now() + TELL_WITHIN;
        loop {
            let (tapped, unseen) = match timeout_at(tell_at, self.tap.next()).await {
                Ok(next) => next?,
                Err(_) if 0 < self.missed + self.unseen => return Some(self.event(None)),
                Err(_) => self.tap.next().await?,
            };
            self.unseen += unseen;
            let Ok(batch) = self.wanted(&tapped.rows.batch) else { continue };
            let rows = (batch.num_rows() as u64).min(self.allowance.now());
            self.allowance.used(rows);
            self.missed += batch.num_rows() as u64 - rows;
            if 0 < rows {
                let first = batch.num_rows() - rows as usize;
                return Some(self.event(Some((&batch, first))));
            }
        }
    }

    /// With the rows of a batch from one on, and what was missed before them.
    fn event(&mut self, rows: Option<(&RecordBatch, usize)>) -> Event {
        let (missed, unseen) = (std::mem::take(&mut self.missed), std::mem::take(&mut self.unseen));
        let mut out = format!("{{\"missed\":{missed},\"unseen\":{unseen},\"rows\":[").into_bytes();
        if let Some((batch, first)) = rows {
            for row in first..batch.num_rows() {
                if first < row {
                    out.push(b',');
                }
                write_json_row(batch, row, &mut out);
            }
        }
        out.extend_from_slice(b"]}");
        Event::default().event("rows").data(String::from_utf8(out).unwrap_or_default())
    }

    fn wanted(&self, batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        let is_of_series = |row: &usize| {
            self.series.iter().all(|(column, wanted)| text(batch.column(*column).as_ref(), *row) == *wanted)
        };
        let batch = match self.series.is_empty() {
            true => batch.clone(),
            false => {
                let keep: Vec<bool> = (0..batch.num_rows()).map(|row| is_of_series(&row)).collect();
                filter_record_batch(batch, &keep.into())?
            }
        };
        match &self.when {
            Some(when) => filter_record_batch(&batch, &when.select(&batch)?),
            None => Ok(batch),
        }
    }
}

/// So many rows a second.
struct Allowance {
    rate: u32,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(rate: u32) -> Self {
        Allowance { rate, left: f64::from(rate), at: Instant::now() }
    }

    fn now(&mut self) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let passed = self.at.elapsed().min(Duration::from_secs(1));
        self.at = Instant::now();
        self.left = (self.left + passed.as_secs_f64() * f64::from(self.rate)).min(f64::from(self.rate));
        self.left as u64
    }

    fn used(&mut self, rows: u64) {
        self.left -= if self.rate == 0 { 0.0 } else { rows as f64 };
    }
}
