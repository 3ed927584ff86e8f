//! The rows that pass, a few at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use futures::FutureExt;
use futures::future::select_all;
use pipeline_runtime::run::view::{Tap, Tapped};
use pipeline_stage::{Kind, row_for_browsers};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::worst::{Worst, WorstSeries};
use crate::watched::Watched;

/// Of what passes a stage between two tellings, so many rows are shown: nobody reads more.
const ROWS: usize = 8;
/// Anomalies that are shown each time; more are counted.
const ANOMALIES: usize = 20;

/// A row with more JSON than this is shortened: to so many characters of each text.
const MAX_ROW_BYTES: usize = 4_096;
const SHOWN_CHARACTERS: usize = 200;

/// Looks at sources and detectors.
pub struct Feed {
    watched: Arc<Watched>,
    taps: Vec<(usize, Tap)>,
    stages: BTreeMap<usize, Passed>,
    worst: Worst,
}

/// What has passed a stage.
#[derive(Default)]
struct Passed {
    rows: VecDeque<Box<RawValue>>,
    anomalies: Vec<Box<RawValue>>,
    more_anomalies: u64,
    count: u64,
}

/// What pages are told of a stage.
#[derive(Serialize)]
pub struct StageRows {
    stage: String,
    /// How many rows have passed, of which `rows` are the last.
    count: u64,
    rows: VecDeque<Box<RawValue>>,
    anomalies: Vec<Box<RawValue>>,
    more_anomalies: u64,
}

impl Feed {
    /// Begins to look.
    pub fn new(watched: &Arc<Watched>) -> Self {
        let stages = watched.plan.stages.iter().enumerate();
        let shown = stages.filter(|(_, stage)| matches!(stage.kind, Kind::Source | Kind::Detector));
        let taps = shown.map(|(number, _)| (number, watched.progress.view.taps.look(number))).collect();
        Feed { watched: watched.clone(), taps, stages: BTreeMap::new(), worst: Worst::default() }
    }

    /// Looks for some time.
    pub async fn collect(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let taps = self.taps.iter_mut().map(|(stage, tap)| tap.next().map(|next| (*stage, next)).boxed());
            let Ok(((stage, next), ..)) = timeout_at(until, select_all(taps)).await else { return };
            match next {
                Some((tapped, missed)) => {
                    self.stages.entry(stage).or_default().count += missed;
                    self.passed(stage, &tapped);
                }
                // The run has ended: nothing will pass any more.
                None => return tokio::time::sleep_until(until).await,
            }
        }
    }

    fn passed(&mut self, stage: usize, tapped: &Tapped) {
        self.worst.look(&self.watched.plan, stage, tapped);
        let batch = &tapped.rows.batch;
        let passed = self.stages.entry(stage).or_default();
        passed.count += batch.num_rows() as u64;
        for row in batch.num_rows().saturating_sub(ROWS)..batch.num_rows() {
            if passed.rows.len() == ROWS {
                passed.rows.pop_front();
            }
            passed.rows.extend(json(batch, row));
        }
        let Some(column) = self.watched.plan.anomaly_column(stage) else { return };
        let is_anomaly = batch.column(column).as_boolean();
        for row in (0..batch.num_rows()).filter(|row| is_anomaly.is_valid(*row) && is_anomaly.value(*row)) {
            match passed.anomalies.len() < ANOMALIES {
                true => passed.anomalies.extend(anomaly(tapped, row, &self.watched.plan.settings.name)),
                false => passed.more_anomalies += 1,
            }
        }
    }

    /// What has passed since this was last asked; none when nothing has.
    pub fn take(&mut self) -> Option<Vec<StageRows>> {
        let passed = std::mem::take(&mut self.stages);
        let told = passed.into_iter().map(|(stage, passed)| StageRows {
            stage: self.watched.plan.stages[stage].id.clone(),
            count: passed.count,
            rows: passed.rows,
            anomalies: passed.anomalies,
            more_anomalies: passed.more_anomalies,
        });
        let told: Vec<StageRows> = told.collect();
        (!told.is_empty()).then_some(told)
    }

    /// The most unusual series of the last minute.
    pub fn worst(&self) -> Vec<WorstSeries<'_>> {
        self.worst.told(&self.watched.plan)
    }
}

/// An anomalous row, with the id that its alerts have.
fn anomaly(tapped: &Tapped, row: usize, pipeline: &str) -> Option<Box<RawValue>> {
    let id = tapped.rows.origins.row_id(pipeline, row);
    let row = json(&tapped.rows.batch, row)?;
    RawValue::from_string(format!("{{\"id\":\"{id}\",\"row\":{row}}}")).ok()
}

/// A row as JSON. Of one that is very long, only the beginnings of its texts: it goes to every page.
pub fn json(batch: &RecordBatch, row: usize) -> Option<Box<RawValue>> {
    let row = row_for_browsers(batch, row);
    let mut text = serde_json::to_string(&row).ok()?;
    if MAX_ROW_BYTES < text.len() {
        let short = row.into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, Value::String(beginning(text))),
            value => (name, value),
        });
        text = serde_json::to_string(&short.collect::<Map<String, Value>>()).ok()?;
    }
    RawValue::from_string(text).ok()
}

fn beginning(text: String) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn a_text_of_megabytes_is_shown_by_its_beginning() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["ä".repeat(1_000_000), "short".into()]));
        let batch = RecordBatch::try_from_iter([("sensor", texts)]).unwrap();
        let shown: Value = serde_json::from_str(json(&batch, 0).unwrap().get()).unwrap();
        assert_eq!(shown["sensor"].as_str().unwrap().chars().count(), SHOWN_CHARACTERS + 1);
        assert_eq!(json(&batch, 1).unwrap().get(), r#"{"sensor":"short"}"#);
    }
}
