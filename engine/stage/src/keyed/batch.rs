//! A detector that scores a whole batch of readings at once, of many series: keys become numbers here, so that it needs
//! to know neither columns nor keys.
//!
//! For detectors in another process or on another device, where a call for each reading would cost more than the
//! arithmetic. A detector in Rust is better off with [`Detector`](crate::Detector).

use std::fmt;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde_bytes::ByteBuf;

use super::KeyedOptions;
use super::ahead::NOWHERE;
use super::columns::{SeriesArrays, SeriesColumns, with_scores};
use super::keys::Keys;
use super::scores::ScoreColumns;
use super::table::Table;
use crate::context::StageContext;
use crate::detector::Score;
use crate::error::{Result, StageError};
use crate::state::{SavedState, StateWriter};
use crate::transform::{Origin, Output, Transform};

/// The time of a reading that has none.
pub const NO_TIME: i64 = i64::MIN;

/// How many series are asked for at once when they are saved or loaded: some megabytes of a usual detector.
const SERIES_AT_ONCE: usize = 4_096;

/// Scores readings of many series. A series is a number; what is remembered of it is the detector's own.
pub trait BatchDetector: Send + 'static {
    /// Takes series that were saved, perhaps under other options, each with its number. Called before the first batch,
    /// more than once when there are many.
    ///
    /// # Errors
    /// When one cannot be read: the pipeline does not start.
    fn load(&mut self, saved: Vec<(u32, Vec<u8>)>) -> Result<()>;

    /// Scores each reading against what came before it in its series, in order, and remembers it. One score for each
    /// reading; NaN in a score is null, and one of nothing but NaN says that it is too early to say.
    ///
    /// # Errors
    /// The run ends at the last commit; with `Lost` the task restarts from its checkpoint.
    fn observe(&mut self, readings: &Readings) -> Result<Vec<Score>>;

    /// How many readings of a series before one suffice to score it; see [`Detector::looks_back`](crate::Detector).
    fn looks_back(&self) -> Option<u64> {
        None
    }

    /// The bytes of these series, in their order, from which `load` makes them again.
    fn save(&mut self, series: &[u32]) -> Result<Vec<Vec<u8>>>;
}

/// What is known of a batch detector before it has seen anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// The column of the method's own statistic: `z_score`.
    pub statistic: String,
    /// Raised when the bytes of a series change so that older ones cannot be read.
    pub state_version: u16,
}

/// The readings of a batch, in its order.
#[derive(Debug, Default)]
pub struct Readings {
    /// Numbers of series that do not exist any more, to be forgotten first: these readings may use them anew.
    pub forgotten: Vec<u32>,
    /// The series of each reading: a number that was never used, or was forgotten since, begins a new series.
    pub series: Vec<u32>,
    /// The value of each reading; always finite.
    pub values: Vec<f64>,
    /// The event time of each reading in microseconds since 1970, or [`NO_TIME`]; empty without a time column.
    pub at: Vec<i64>,
}

/// A detector of batches as a transform: gives every row it takes, with the score columns added, exactly as
/// [`Keyed`](super::Keyed) does.
pub struct KeyedBatch<D: BatchDetector> {
    detector: D,
    method: Method,
    columns: SeriesColumns,
    schema: SchemaRef,
    table: Table<u32>,
    numbers: Numbers,
}

/// Which numbers series have.
#[derive(Default)]
struct Numbers {
    next: u32,
    /// May be given again.
    free: Vec<u32>,
    /// Not used any more, which the detector does not know yet.
    forgotten: Vec<u32>,
}

impl<D: BatchDetector> KeyedBatch<D> {
    /// Checks the options against the columns that come in and restores the series.
    ///
    /// # Errors
    /// Of kind `Config` for options that do not fit the columns, `Fatal` for state that cannot be read.
    pub fn new(
        detector: D,
        method: Method,
        options: &KeyedOptions,
        context: &StageContext,
        inputs: &[SchemaRef],
        state: SavedState,
    ) -> Result<Self> {
        let input = inputs.first().ok_or_else(|| StageError::config("it has no input"))?;
        let columns = SeriesColumns::new(options, context, input)?;
        let schema = with_scores(input, &options.prefix, &method.statistic)?;
        let mut saved: Vec<Vec<u8>> = Vec::with_capacity(state.entries.len());
        let table = Table::restore(&state, method.state_version, options.max_series as usize, |series: ByteBuf| {
            saved.push(series.into_vec());
            Ok(saved.len() as u32 - 1)
        })?;
        drop(state);
        let mut keyed = KeyedBatch {
            detector,
            method,
            columns,
            schema,
            table,
            numbers: Numbers { next: saved.len() as u32, ..Numbers::default() },
        };
        keyed.load(saved)?;
        Ok(keyed)
    }

    /// Hands over the series that the table has kept.
    fn load(&mut self, mut saved: Vec<Vec<u8>>) -> Result<()> {
        let mut kept: Vec<u32> = self.table.all().copied().collect();
        kept.sort_unstable();
        for numbers in kept.chunks(SERIES_AT_ONCE) {
            let part = numbers.iter().map(|&number| (number, std::mem::take(&mut saved[number as usize])));
            self.detector.load(part.collect())?;
        }
        self.numbers.free = (0..self.numbers.next).filter(|number| kept.binary_search(number).is_err()).collect();
        Ok(())
    }

    /// The number of the series of a row.
    fn number(&mut self, arrays: &SeriesArrays<'_>, keys: &Keys, row: usize) -> u32 {
        let Numbers { next, free, forgotten } = &mut self.numbers;
        let mut take = || free.pop().unwrap_or_else(|| std::mem::replace(next, *next + 1));
        let at = arrays.at(row);
        let slot =
            self.table.touch((keys.key(row), keys.hash(row), NOWHERE), &mut take, |number| forgotten.push(number));
        if self.columns.is_expired(slot.last_at, at) {
            forgotten.push(std::mem::replace(&mut slot.series, take()));
        }
        slot.last_at = at;
        slot.series
    }

    fn readings(&mut self, rows: &RecordBatch, keys: &Keys) -> Readings {
        let arrays = self.columns.of(rows);
        let mut readings = Readings { forgotten: std::mem::take(&mut self.numbers.forgotten), ..Readings::default() };
        self.numbers.free.extend(&readings.forgotten);
        readings.series.reserve(rows.num_rows());
        readings.values.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            let Some(value) = arrays.value(row) else { continue };
            readings.series.push(self.number(&arrays, keys, row));
            readings.values.push(value);
            if self.columns.has_times() {
                readings.at.push(arrays.at(row).map_or(NO_TIME, |at| at.0));
            }
        }
        readings
    }
}

impl<D: BatchDetector> Transform for KeyedBatch<D> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, _input: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let columns = self.columns.clone();
        let readings = self.readings(rows, &out.keys(&columns.key, rows));
        // What is forgotten is told even when there is no reading: the numbers may be given again from here on.
        let found = match readings.series.is_empty() && readings.forgotten.is_empty() {
            true => Vec::new(),
            false => self.detector.observe(&readings)?,
        };
        if found.len() != readings.series.len() {
            let (found, wanted) = (found.len(), readings.series.len());
            return Err(StageError::fatal(format!("the detector gave {found} scores for {wanted} readings")));
        }
        let mut scores = ScoreColumns::with_capacity(rows.num_rows());
        let (mut found, arrays) = (found.into_iter(), columns.of(rows));
        let found: Vec<_> = (0..rows.num_rows()).map(|row| arrays.value(row).and_then(|_| found.next())).collect();
        scores.extend_from(&found);
        let columns = rows.columns().iter().cloned().chain(scores.finish()).collect();
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?, Origin::Same);
        Ok(())
    }

    fn series(&self) -> Option<u64> {
        Some(self.table.len() as u64)
    }

    fn looks_back(&self) -> Option<u64> {
        self.detector.looks_back()
    }

    fn save(&mut self, changes: &mut dyn StateWriter) -> Result<()> {
        let changed: Vec<u32> = self.table.changed().copied().collect();
        let mut saved = Vec::with_capacity(changed.len());
        for numbers in changed.chunks(SERIES_AT_ONCE) {
            let part = self.detector.save(numbers)?;
            if part.len() != numbers.len() {
                let (found, wanted) = (part.len(), numbers.len());
                return Err(StageError::fatal(format!("the detector saved {found} series, {wanted} have changed")));
            }
            saved.extend(part);
        }
        let mut saved = saved.into_iter();
        self.table.save(changes, |_| ByteBuf::from(saved.next().unwrap_or_default()))
    }
}

impl<D: BatchDetector> fmt::Debug for KeyedBatch<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBatch").field("method", &self.method).finish_non_exhaustive()
    }
}
