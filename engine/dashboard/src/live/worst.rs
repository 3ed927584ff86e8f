//! The most unusual series of the last minute.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float64Type;
use pipeline_runtime::plan::Plan;
use pipeline_runtime::run::view::{Tapped, text};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::scores::score_columns;
use crate::shown::json;

/// For how long a score counts.
const MINUTE: Duration = Duration::from_secs(60);
/// Of a batch so many rows are looked at: those with the highest scores.
const OF_BATCH: usize = 5;
/// So many series are told.
const TOLD: usize = 10;
/// So many are kept: when the worst ones are a minute old, others take their places.
const KEPT: usize = 200;

/// The highest score of each series, of those that were seen in the last minute.
#[derive(Default)]
pub struct Worst(BTreeMap<(usize, Vec<String>), Scored>);

struct Scored {
    score: f64,
    at: Instant,
    row: Box<RawValue>,
}

/// What is told of a series.
#[derive(Serialize)]
pub struct WorstSeries<'w> {
    stage: &'w str,
    key: &'w [String],
    /// 1 is the threshold.
    score: f64,
    /// The row with that score.
    row: &'w RawValue,
}

impl Worst {
    /// Looks at a batch that a detector has given.
    pub fn look(&mut self, plan: &Plan, stage: usize, tapped: &Tapped) {
        let [score, ..] = score_columns(&plan.stages[stage].schema);
        let (Some(score), Some(key)) = (score, plan.series_key(stage)) else { return };
        let batch = &tapped.rows.batch;
        let keys: Option<Vec<&ArrayRef>> = key.iter().map(|(name, _)| batch.column_by_name(name)).collect();
        let (Some(keys), Some(scores)) = (keys, batch.column(score).as_primitive_opt::<Float64Type>()) else { return };
        let scored = (0..scores.len()).filter(|row| scores.is_valid(*row) && !scores.value(*row).is_nan());
        let mut rows: Vec<usize> = scored.collect();
        rows.sort_by(|a, b| scores.value(*b).total_cmp(&scores.value(*a)));
        let now = Instant::now();
        for row in rows.into_iter().take(OF_BATCH) {
            let score = scores.value(row);
            let key = (stage, keys.iter().map(|column| text(column.as_ref(), row)).collect());
            let known = self.0.get(&key).filter(|known| known.at.elapsed() < MINUTE);
            let is_worse = known.is_none_or(|known| known.score < score);
            if let Some(row) = json(batch, row).filter(|_| is_worse) {
                self.0.insert(key, Scored { score, at: now, row });
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.0.retain(|_, scored| scored.at.elapsed() < MINUTE);
        while KEPT < self.0.len() {
            let least = self.0.iter().min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
            let Some(key) = least.map(|(key, _)| key.clone()) else { return };
            self.0.remove(&key);
        }
    }

    /// The highest scores, the highest first.
    pub fn told<'w>(&'w self, plan: &'w Plan) -> Vec<WorstSeries<'w>> {
        let fresh = self.0.iter().filter(|(_, scored)| scored.at.elapsed() < MINUTE);
        let mut told: Vec<WorstSeries<'w>> = fresh
            .map(|((stage, key), scored)| WorstSeries {
                stage: &plan.stages[*stage].id,
                key,
                score: scored.score,
                row: &scored.row,
            })
            .collect();
        told.sort_by(|a, b| b.score.total_cmp(&a.score));
        told.truncate(TOLD);
        told
    }
}
