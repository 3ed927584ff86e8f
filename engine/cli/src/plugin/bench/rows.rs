//! The rows that are measured with: sensors in turn, values that wander, a spike now and then.

use pipeline_stage::MAX_BATCH_ROWS;
use pipeline_testkit::{RecordBatch, steady_readings};

/// As many as the engine gives at once.
pub const ROWS: usize = MAX_BATCH_ROWS;
/// A machine, and a plant.
pub const SERIES: [usize; 2] = [10, 10_000];
/// The batches before which windows of 30 readings of 10,000 series are not full: they are not measured. Without
/// optimisation a few must do: nobody believes those figures.
pub const WARM: usize = if cfg!(debug_assertions) { 4 } else { 40 };
/// Enough for a median that stays.
pub const BATCHES: usize = WARM + if cfg!(debug_assertions) { 11 } else { 200 };

/// All batches of a run.
pub fn batches(series: usize) -> Vec<RecordBatch> {
    (0..BATCHES).map(|number| steady_readings(series, number * ROWS, ROWS)).collect()
}
