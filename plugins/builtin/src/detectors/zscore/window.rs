//! What `zscore` remembers of a series.

use std::slice;

use pipeline_stage::prefetch;
use serde::{Deserialize, Serialize};

use super::squares::Squares;
use super::sum::Sum;

/// The latest readings of a series, as a ring, and what their mean and deviation are made of: so a reading does not cost a
/// pass over them, unless they hardly differ or differ too much. Where a value stands decides in which order its square is added, so the ring is kept as it
/// is, and a restart does not change the last bit of a score.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    values: Vec<f64>,
    /// Where the next reading goes once the ring is full, which is where the oldest one stands; 0 before.
    next: u32,
    /// Of the values. It depends on nothing else, so it is not saved.
    #[serde(skip)]
    sum: Sum,
    /// Of the values. How it is rounded depends on those before them, too, so it is saved.
    #[serde(default)]
    squares: Squares,
    /// Of the values; 0 when it is not known, [`NONE`] when there is none. In one word, because two lines of memory hold
    /// all of a series but its values.
    #[serde(skip)]
    deviation: f64,
}

/// The deviation of a window that has none, or none that a float can hold.
const NONE: f64 = -1.0;

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
        let squares = Squares::of(&self.values);
        // What was saved before there were squares has none, and what is damaged must not give wrong scores.
        if !is_laid_out || !self.squares.agrees_with(&squares, self.values.len() as f64) {
            self.squares = squares;
        }
        self.next %= self.values.len().max(1) as u32;
        self.sum = Sum::of(&self.values);
        self.deviation = 0.0;
    }

    pub(super) fn oldest_first(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        values.rotate_left(self.next as usize % self.values.len().max(1));
        values
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Asks for where the next reading goes.
    pub(super) fn prefetch(&self, window: usize) {
        let place = if self.values.len() < window { self.values.len().saturating_sub(1) } else { self.next as usize };
        prefetch(self.values.get(place).map_or(&[], slice::from_ref));
    }

    pub(super) fn push(&mut self, value: f64, window: usize) {
        self.deviation = 0.0;
        let mut old = 0.0;
        if self.values.len() < window {
            if self.values.len() == self.values.capacity() {
                // Twice the room, but never beyond the window: most of the memory of a run is here.
                self.values.reserve_exact(self.values.len().max(4).min(window - self.values.len()));
            }
            self.values.push(value);
        } else {
            let oldest = self.next as usize;
            old = std::mem::replace(&mut self.values[oldest], value);
            self.next = if oldest + 1 == window { 0 } else { self.next + 1 };
        }
        self.sum.replace(old, value);
        if !self.sum.is_exact() {
            self.sum = Sum::of(&self.values);
        }
        self.squares.replace(old, value);
        if !self.squares.is_precise(self.values.len() as f64) {
            self.squares = Squares::of(&self.values);
        }
    }

    /// Computes what the next score needs, and keeps it.
    pub(super) fn foresee(&mut self) {
        self.deviation = self.deviation();
    }

    /// Mean and population standard deviation; none if there is no spread, or none that a float can hold.
    pub(super) fn mean_and_deviation(&self) -> Option<(f64, f64)> {
        let deviation = self.deviation();
        (deviation != NONE).then(|| (self.mean(), deviation))
    }

    #[inline]
    fn mean(&self) -> f64 {
        self.sum.rounded() / self.values.len() as f64
    }

    #[inline]
    fn deviation(&self) -> f64 {
        if self.deviation != 0.0 {
            return self.deviation;
        }
        let count = self.values.len() as f64;
        self.squares.spread(&self.sum, count).map_or_else(|| self.plain_deviation(), |spread| spread.sqrt() / count)
    }

    /// From the distances between the values and their mean, which takes a pass over them.
    #[cold]
    fn plain_deviation(&self) -> f64 {
        let values = &self.values;
        // Asked of the values, not of the deviation: rounding in the mean must not make a spread where there is none.
        if values.iter().all(|value| *value == values[0]) {
            return NONE;
        }
        let mean = self.mean();
        let deviation = (sum_of_squares(values, mean) / values.len() as f64).sqrt();
        if mean.is_finite() && deviation.is_finite() && 0.0 < deviation { deviation } else { NONE }
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

#[cfg(test)]
mod tests {
    use pipeline_stage::{decode, encode};
    use pipeline_testkit::Random;

    use super::*;

    fn saved_and_loaded(window: &Window, size: usize) -> Window {
        let mut bytes = Vec::new();
        encode(window, &mut bytes).unwrap();
        let mut loaded: Window = decode(&bytes).unwrap();
        loaded.fit(size);
        loaded
    }

    #[test]
    fn a_restart_changes_no_bit() {
        let (mut random, mut n_other) = (Random::new(3), 0);
        let mut window = Window::default();
        for step in 0..4_000 {
            // A large offset and a small spread: here it matters how the squares were rounded.
            window.push(1.5e6 + random.below(2_000) as f64 / 1_000.0, 7);
            let loaded = saved_and_loaded(&window, 7);
            assert_eq!(loaded.deviation().to_bits(), window.deviation().to_bits(), "step {step}");
            let mut anew = window.clone();
            anew.squares = Squares::of(&anew.values);
            n_other += u32::from(anew.deviation() != window.deviation());
        }
        assert!(20 < n_other, "what is saved has mattered {n_other} times");
    }

    #[test]
    fn squares_that_do_not_belong_to_the_values_are_made_anew() {
        let mut window = Window::default();
        (0..30).for_each(|value| window.push(20.0 + f64::from(value) / 10.0, 30));
        let right = window.deviation();
        for squares in [
            [0.0, 0.0, 0.0],
            [2.0 * 13_833.0, 0.0, 0.0],
            [13_833.0, 1e10, 0.0],
            [1e300, 0.0, 0.0],
            [2.0 * 13_833.0, 0.0, f64::NEG_INFINITY],
            [2.0 * 13_833.0, 0.0, f64::INFINITY],
            [f64::NAN, 0.0, 0.0],
            [-1.0, 0.0, -1.0],
        ] {
            let damaged = Window { squares: squares.into(), ..window.clone() };
            assert_eq!(saved_and_loaded(&damaged, 30).deviation(), right, "{squares:?}");
        }
    }
}
