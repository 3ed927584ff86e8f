//! Everything around a detector: which rows make a series, and what becomes of its scores.

mod ahead;
mod batch;
mod columns;
mod index;
mod key;
mod key_text;
mod keys;
mod options;
mod scores;
mod table;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use ahead::{AHEAD, Ahead};
pub use batch::{BatchDetector, KeyedBatch, Method, NO_TIME, Readings};
use columns::{SeriesColumns, with_scores};
pub use key::{KeyBytes, KeyColumns, find_column};
pub use key_text::read_key;
pub(crate) use keys::{KeyCache, Keys};
pub use options::KeyedOptions;
use scores::{NextScores, ScoreColumns};
use table::{Table, saved_series};

use crate::context::StageContext;
use crate::detector::{Detector, Reading, Score};
use crate::error::{Result, StageError};
use crate::state::{SavedState, StateWriter};
use crate::transform::{Evidence, Origin, Output, Transform};

/// The columns that every detector adds before its own statistic. `score` is 1.0 at the threshold; all but
/// `is_anomaly` are null while the detector has nothing to say; `lower` and `upper` also where nothing is too low or high.
pub const SCORE_COLUMNS: [&str; 5] = ["score", "is_anomaly", "expected", "lower", "upper"];

/// A detector for each series, as a transform: gives every row it takes, with the score columns added.
pub struct Keyed<D: Detector> {
    detector: D,
    columns: SeriesColumns,
    schema: SchemaRef,
    table: Table<D::Series>,
    /// Why there is no evidence, if that is so.
    no_evidence: Option<String>,
    /// What went wrong when a series was written as evidence.
    failure: Option<StageError>,
}

/// The largest series that is kept as evidence, in bytes: some thousand readings. Each anomaly has its own copy.
const MAX_EVIDENCE_BYTES: usize = 64 << 10;

impl<D: Detector> Keyed<D> {
    /// Checks the options against the columns that come in and restores the series.
    ///
    /// # Errors
    /// Of kind `Config` for options that do not fit the columns, `Fatal` for state that cannot be read.
    pub fn new(
        detector: D,
        options: KeyedOptions,
        context: &StageContext,
        inputs: &[SchemaRef],
        state: SavedState,
    ) -> Result<Self> {
        let input = inputs.first().ok_or_else(|| StageError::config("it has no input"))?;
        Ok(Keyed {
            columns: SeriesColumns::new(&options, context, input)?,
            schema: with_scores(input, &options.prefix, detector.statistic())?,
            table: Table::restore(&state, detector.state_version(), options.max_series as usize, |series| {
                detector.adopt(series)
            })?,
            no_evidence: detector.no_evidence().or_else(|| too_large(detector.bytes_per_series())),
            failure: None,
            detector,
        })
    }

    /// `near` is where the series may stand.
    fn score(&mut self, keys: &Keys, row: usize, near: u32, reading: &Reading, out: &mut Output) -> Option<Score> {
        let Keyed { detector, table, no_evidence, failure, .. } = self;
        let key = keys.key(row);
        let slot = table.touch((key, keys.hash(row), near), || detector.start(), drop);
        if self.columns.is_expired(slot.last_at, reading.at) {
            slot.series = detector.start();
        }
        let last_at = std::mem::replace(&mut slot.last_at, reading.at);
        if !out.wants_evidence() {
            return detector.observe(&mut slot.series, reading);
        }
        let mut keep = |before| out.evidence(Evidence { row: row as u32, key: key.to_vec(), before });
        if let Some(why) = no_evidence {
            let score = detector.observe(&mut slot.series, reading);
            if score.is_some_and(|score| score.is_anomaly) {
                keep(Err(why.clone()));
            }
            return score;
        }
        detector.observe_anomaly(&mut slot.series, reading, |series| {
            match saved_series(detector.state_version(), last_at, series) {
                Ok(before) => keep(Ok(before)),
                Err(error) => *failure = Some(error),
            }
        })
    }
}

fn too_large(bytes: usize) -> Option<String> {
    (MAX_EVIDENCE_BYTES < bytes).then(|| {
        format!("a series takes {bytes} bytes here, and as evidence one of at most {MAX_EVIDENCE_BYTES} bytes is kept")
    })
}

impl<D: Detector> Transform for Keyed<D> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let n_rows = rows.num_rows();
        let (arrays, keys) = (self.columns.of(rows), out.keys(&self.columns.key, rows));
        let mut scores = ScoreColumns::with_capacity(n_rows);
        let mut coming = Ahead::new(&keys, &self.table, |series| self.detector.prefetch(series));
        for start in (0..n_rows).step_by(AHEAD) {
            let near = coming.near();
            self.table.each_near(&near, |series| self.detector.foresee(series));
            let (mut next, n_next) = (NextScores::new(), AHEAD.min(n_rows - start));
            for (place, &near) in near.iter().enumerate().take(n_next) {
                coming.ask(place, &self.table, |series| self.detector.prefetch(series));
                let row = start + place;
                let Some(value) = arrays.value(row) else { continue };
                let reading = Reading { at: arrays.at(row), value };
                if let Some(score) = self.score(&keys, row, near, &reading, out) {
                    next.set(place, &score);
                }
            }
            coming.advance();
            scores.extend(&next, n_next);
        }
        self.detector.check()?;
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let columns = rows.columns().iter().cloned().chain(scores.finish()).collect();
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?, Origin::Same);
        Ok(())
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        self.table.save(changes, |series| series)
    }

    fn begin_save(&mut self) -> bool {
        self.table.begin_save();
        true
    }

    fn save_part(&mut self, keys: usize, changes: &mut dyn StateWriter) -> Result<bool> {
        self.table.save_part(keys, changes)
    }

    fn series(&self) -> Option<u64> {
        Some(self.table.len() as u64)
    }

    fn window(&self, key: &[u8]) -> Option<Vec<f64>> {
        self.detector.window(self.table.get(key)?)
    }

    fn looks_back(&self) -> Option<u64> {
        self.detector.looks_back()
    }

    fn bytes_per_series(&self) -> Option<usize> {
        Some(self.detector.bytes_per_series())
    }
}
