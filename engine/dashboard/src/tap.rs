//! `/api/tap/STAGE`: the rows that pass a stage, for `pipeline tap` and for the page of a series.

mod budget;

use std::convert::Infallible;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::ready;
use futures::{StreamExt, stream};
use pipeline_runtime::expression::Expression;
use pipeline_runtime::run::view::{Tap, text};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::access::Role;
use crate::server::Shared;
use crate::shown::json;
pub use budget::Budget;
use budget::{Allowance, Amount};

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
/// because more than `rate` came, or more than all taps together may have; unseen are rows that passed too fast to be looked at, wanted or not.
pub async fn events(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
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
    let Some(allowance) = shared.taps.allowance(wanted.rate) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many look at stages").into_response();
    };
    let tap = shared.watched.progress.view.taps.look(stage);
    let following = Following { tap, series, when, allowance, missed: 0, unseen: 0 };
    let events = stream::unfold(following, |mut following| async {
        let event = following.next().await?;
        Some((Event::default().event("rows").data(event), following))
    });
    // Whoever has logged out meanwhile is shown nothing more.
    let events = events.take_while(move |_| ready(Role::Viewer <= shared.access.role(&headers)));
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
    async fn next(&mut self) -> Option<String> {
        let tell_at = Instant::now() + TELL_WITHIN;
        loop {
            let (tapped, unseen) = match timeout_at(tell_at, self.tap.next()).await {
                Ok(next) => next?,
                Err(_) if 0 < self.missed + self.unseen => return Some(self.event(&[])),
                Err(_) => self.tap.next().await?,
            };
            self.unseen += unseen;
            let Ok(batch) = self.wanted(&tapped.rows.batch) else { continue };
            let rows = self.allowed(&batch);
            let event = (!rows.is_empty()).then(|| self.event(&rows));
            self.missed += (batch.num_rows() - rows.len()) as u64;
            if event.is_some() {
                return event;
            }
        }
    }

    /// The first rows of a batch, as many as may be shown now.
    fn allowed(&mut self, batch: &RecordBatch) -> Vec<Box<RawValue>> {
        let left = self.allowance.left();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in 0..(batch.num_rows() as u64).min(left.rows) as usize {
            let Some(shown) = json(batch, row) else { break };
            bytes += shown.get().len() as u64;
            if left.bytes < bytes {
                break;
            }
            rows.push(shown);
        }
        self.allowance.use_up(Amount { rows: rows.len() as u64, bytes: bytes.min(left.bytes) });
        rows
    }

    /// With some rows, and what was missed before them.
    fn event(&mut self, rows: &[Box<RawValue>]) -> String {
        let (missed, unseen) = (std::mem::take(&mut self.missed), std::mem::take(&mut self.unseen));
        let rows: Vec<&str> = rows.iter().map(|row| row.get()).collect();
        format!("{{\"missed\":{missed},\"unseen\":{unseen},\"rows\":[{}]}}", rows.join(","))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use pipeline_runtime::run::view::Taps;
    use pipeline_stage::{Origins, Rows};

    use super::*;

    /// Rows whose texts have so many bytes.
    fn rows(lengths: &[usize]) -> Rows {
        let texts: StringArray = lengths.iter().map(|length| Some("x".repeat(*length))).collect();
        let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).expect("one column");
        Rows { batch, origins: Origins::new("source/0".into(), (0..lengths.len() as u64).collect()) }
    }

    #[tokio::test(start_paused = true)]
    async fn no_event_is_large_and_every_row_is_shown_or_counted() {
        let (taps, budget) = (Taps::new(1), Arc::new(Budget::default()));
        let allowance = budget.allowance(0).expect("room");
        let tap = taps.look(0);
        let mut following = Following { tap, series: Vec::new(), when: None, allowance, missed: 0, unseen: 0 };
        let (mut shown, mut missed, mut offered) = (0, 0, 0);
        for length in [10, 3_000, 10 << 20] {
            let rows = rows(&vec![length; 100]);
            offered += rows.batch.num_rows() as u64;
            taps.show(0, &rows, &Arc::from("0"));
            let event = following.next().await.expect("an event");
            assert!(event.len() < 70_000, "{} bytes", event.len());
            let event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
            shown += event["rows"].as_array().expect("rows").len() as u64;
            missed += event["missed"].as_u64().expect("a number");
        }
        missed += following.missed;
        assert_eq!(shown + missed, offered);
        assert!(200 < shown && 50 < missed, "{shown} shown, {missed} missed");
    }
}
