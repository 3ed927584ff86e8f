//! Two stages, batch by batch in turn: what slows the machine down slows both.

use std::time::Instant;

use pipeline_abi::host::inside_of_libraries;
use pipeline_stage::{Make, Output, Result, SavedState, StageError, StageType, Transform};
use pipeline_testkit::{RecordBatch, stage_context};
use serde_json::Value;

use super::rows::{ROWS, WARM};

/// Of one stage; medians over its batches.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// For a whole batch.
    pub nanos: f64,
    /// What of it was outside of the library; none for a stage that is not called with batches.
    pub hop_nanos: Option<f64>,
}

impl Figures {
    /// For one row.
    pub fn nanos_per_row(&self) -> f64 {
        self.nanos / ROWS as f64
    }

    /// On one core.
    pub fn rows_per_second(&self) -> u64 {
        (1e9 / self.nanos_per_row()) as u64
    }

    /// 0.05 is one twentieth more time.
    pub fn slower_than(&self, other: &Figures) -> f64 {
        self.nanos / other.nanos - 1.0
    }
}

/// A stage while it is measured.
struct Runner {
    transform: Box<dyn Transform>,
    said: Output,
    nanos: Vec<f64>,
    hops: Vec<f64>,
}

/// Measures a stage, and another one beside it.
///
/// # Errors
/// When one cannot be built on the rows, or fails.
pub fn measure(
    stage: (&StageType, &Value),
    beside: Option<(&StageType, &Value)>,
    batches: &[RecordBatch],
) -> Result<(Figures, Option<Figures>)> {
    let mut runner = Runner::build(stage, &batches[0])?;
    let mut other = beside.map(|beside| Runner::build(beside, &batches[0])).transpose()?;
    for (number, batch) in batches.iter().enumerate() {
        let is_measured = WARM <= number;
        // Whoever comes second finds the batch in the cache: they take turns.
        if number % 2 == 0 {
            runner.run(batch, is_measured)?;
        }
        if let Some(other) = &mut other {
            other.run(batch, is_measured)?;
        }
        if number % 2 == 1 {
            runner.run(batch, is_measured)?;
        }
    }
    Ok((runner.figures(), other.map(Runner::figures)))
}

impl Runner {
    fn build((stage, options): (&StageType, &Value), rows: &RecordBatch) -> Result<Self> {
        let Make::Transform(make) = &stage.make else { return Err(StageError::config("it is not called with rows")) };
        let transform = make(options.clone(), &stage_context(), &[rows.schema()], SavedState::default())?;
        Ok(Runner { transform, said: Output::default(), nanos: Vec::new(), hops: Vec::new() })
    }

    fn run(&mut self, rows: &RecordBatch, is_measured: bool) -> Result<()> {
        self.said.next_batch();
        inside_of_libraries();
        let start = Instant::now();
        self.transform.process(0, rows, &mut self.said)?;
        let whole = start.elapsed();
        self.said.take();
        let inside = inside_of_libraries();
        if is_measured {
            self.nanos.push(whole.as_nanos() as f64);
            if !inside.is_zero() {
                self.hops.push(whole.saturating_sub(inside).as_nanos() as f64);
            }
        }
        Ok(())
    }

    fn figures(self) -> Figures {
        Figures { nanos: median(self.nanos).unwrap_or(f64::NAN), hop_nanos: median(self.hops) }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn figures_are_of_a_batch() {
        let figures = |nanos| Figures { nanos, hop_nanos: None };
        assert_eq!(figures(8_192.0 * 50.0).rows_per_second(), 20_000_000);
        assert!((figures(105.0).slower_than(&figures(100.0)) - 0.05).abs() < 1e-12);
    }
}
