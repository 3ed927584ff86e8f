//! Whether a stage still says something about its rows: the worst that bad state does is to make it silent.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use pipeline_stage::{MAX_BATCH_ROWS, Transform};

use crate::broken::Broken;
use crate::laws::{Clock, EpochOutput, run_epoch};

/// What a stage gave for the last third of some rows: by then windows that were cut or poisoned are full again.
pub struct Said {
    /// The rows of that third for which it gave anything, by number; of a detector, those with a score.
    rows: Vec<usize>,
    is_about_scores: bool,
}

impl Said {
    /// Gives a stage these rows, after what it knows already.
    ///
    /// # Errors
    /// When a call fails, or the books do not balance.
    pub fn of(transform: &mut dyn Transform, rows: &RecordBatch) -> Result<Said, Broken> {
        let (mut clock, mut outputs, mut start) = (Clock::default(), Vec::new(), 0);
        while start < rows.num_rows() {
            let count = MAX_BATCH_ROWS.min(rows.num_rows() - start);
            let batch = rows.slice(start, count);
            outputs.push(run_epoch(transform, &clock.epoch(batch.clone()), &[batch])?);
            start += count;
        }
        let column = score_column(&transform.schema(), &rows.schema());
        let is_last_third = |row: &usize| rows.num_rows() * 2 / 3 <= *row;
        let said = outputs.iter().flat_map(|output| rows_of(output, column)).filter(is_last_third).collect();
        Ok(Said { rows: said, is_about_scores: column.is_some() })
    }

    /// Checks that it says something about at least half of the rows about which a stage does that knows nothing.
    ///
    /// # Errors
    /// With both numbers.
    pub fn is_not_silent(&self, fresh: &Said) -> Result<usize, Broken> {
        let both = fresh.rows.iter().filter(|row| self.rows.contains(row)).count();
        if fresh.rows.len() <= 2 * both {
            return Ok(both);
        }
        let what = if self.is_about_scores { "scores" } else { "rows" };
        Err(Broken::new(format!(
            "it went silent: it gives {what} for {both} of the {} rows for which one does that starts anew",
            fresh.rows.len()
        )))
    }
}

/// The column of a detector's scores: it is called `score`, perhaps with the `prefix` of its options before it.
fn score_column(given: &SchemaRef, taken: &SchemaRef) -> Option<usize> {
    given.fields().iter().position(|field| field.name().ends_with("score") && taken.index_of(field.name()).is_err())
}

fn rows_of(output: &EpochOutput, column: Option<usize>) -> Vec<usize> {
    let says = |row: usize| match (&output.rows, column) {
        (Some(rows), Some(column)) => rows.column(column).is_valid(row),
        _ => true,
    };
    output.origins.iter().enumerate().filter(|(row, _)| says(*row)).filter_map(|(_, origin)| *origin).collect()
}
