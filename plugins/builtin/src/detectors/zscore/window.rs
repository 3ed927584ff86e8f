//! What `zscore` remembers of a series.

use pipeline_stage::prefetch;
use serde::{Deserialize, Serialize};

use super::sum::Sum;

/// The latest readings of a series, as a ring: where a value stands decides in which order its square is added, so the
/// ring is kept as it is, and a restart does not change the last bit of a score.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    values: Vec<f64>,
    /// Where the next reading goes once the ring is full, which is where the oldest one stands; 0 before.
    next: u32,
    /// Of the values. It depends on nothing else, so it is not saved.
    #[serde(skip)]
    sum: Sum,
    #[serde(skip)]
    spread: Spread,
}

/// Mean and population standard deviation of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Spread {
    /// The values have changed since.
    #[default]
    Unknown,
    /// There is none, or none that a float can hold.
    Nothing,
    Known {
        mean: f64,
        deviation: f64,
    },
}

impl Window {
    /// Takes up what was saved, perhaps under another `window`: then the ring is laid out anew, oldest first, and keeps the
    /// newest readings.
    pub(super) fn fit(&mut self, window: usize) {
        let is_laid_out = self.values.len() <= window && (self.next == 0 || self.values.len() == window);
        if !is_laid_out {
            self.values = self.oldest_first();
            self.values.drain(..self.values.len().saturating_sub(window));
            self.next = 0;
        }
        self.next %= self.values.len().max(1) as u32;
        self.sum = Sum::of(&self.values);
        self.spread = Spread::Unknown;
    }

    pub(super) fn oldest_first(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        values.rotate_left(self.next as usize % self.values.len().max(1));
        values
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn prefetch(&self) {
        prefetch(&self.values);
    }

    pub(super) fn push(&mut self, value: f64, window: usize) {
        self.spread = Spread::Unknown;
        if self.values.len() < window {
            self.sum.add(value);
            if self.values.len() == self.values.capacity() {
                // Twice the room, but never beyond the window: most of the memory of a run is here.
                self.values.reserve_exact(self.values.len().max(4).min(window - self.values.len()));
            }
            self.values.push(value);
        } else {
            let oldest = self.next as usize;
            self.sum.replace(std::mem::replace(&mut self.values[oldest], value), value);
            self.next = if oldest + 1 == window { 0 } else { self.next + 1 };
        }
        if !self.sum.is_exact() {
            self.sum = Sum::of(&self.values);
        }
    }

    /// Computes what the next score needs, and keeps it.
    pub(super) fn foresee(&mut self) {
        self.spread = self.spread();
    }

    /// Mean and population standard deviation; none if there is no spread, or none that a float can hold.
    pub(super) fn mean_and_deviation(&self) -> Option<(f64, f64)> {
        match self.spread() {
            Spread::Known { mean, deviation } => Some((mean, deviation)),
            _ => None,
        }
    }

    #[inline]
    fn spread(&self) -> Spread {
        if self.spread != Spread::Unknown {
            return self.spread;
        }
        let values = &self.values;
        // Asked of the values, not of the deviation: rounding in the mean must not make a spread where there is none.
        if values.iter().all(|value| *value == values[0]) {
            return Spread::Nothing;
        }
        let count = values.len() as f64;
        let mean = self.sum.rounded() / count;
        let deviation = (sum_of_squares(values, mean) / count).sqrt();
        let is_known = mean.is_finite() && deviation.is_finite() && 0.0 < deviation;
        if is_known { Spread::Known { mean, deviation } } else { Spread::Nothing }
    }
}

#[cfg(test)]
impl Window {
    /// As no window would be saved.
    pub(super) fn damaged(values: Vec<f64>, next: u32) -> Self {
        Window { values, next, ..Window::default() }
    }
}

/// Squares are summed in this many lanes, side by side, so that the processor can work on several at once.
const LANES: usize = 4;

fn sum_of_squares(values: &[f64], mean: f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    let rest: f64 = rest.iter().map(|value| (value - mean) * (value - mean)).sum();
    for chunk in chunks {
        for lane in 0..LANES {
            let distance = chunk[lane] - mean;
            sums[lane] += distance * distance;
        }
    }
    sums.iter().sum::<f64>() + rest
}
