//! What `zscore` remembers of a series.

use std::slice;

use pipeline_stage::prefetch;
use serde::{Deserialize, Serialize};

use super::squares::{Squares, spread_of};
use super::sum::Sum;

/// The latest readings of a series, as a ring, and what their mean and deviation are made of: so a reading does not cost a
/// pass over them, unless they hardly differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    values: Vec<f64>,
    /// Where the next reading goes once the ring is full, which is where the oldest one stands; 0 before.
    next: u32,
    /// The last deviation took a pass over the values, so the next one most likely does.
    #[serde(skip)]
    takes_pass: bool,
    /// Of the values. It depends on nothing else, so it is not saved; nor are the others.
    #[serde(skip)]
    sum: Sum,
    #[serde(skip)]
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
        self.next %= self.values.len().max(1) as u32;
        self.sum = Sum::of(&self.values);
        self.squares = Squares::of(&self.values);
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

    /// Asks for where the next reading goes, and for the others if they are needed.
    pub(super) fn prefetch(&self, window: usize) {
        if self.takes_pass {
            return prefetch(&self.values);
        }
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
        if self.deviation == 0.0 {
            let kept = self.kept_deviation();
            self.takes_pass = kept.is_none();
            self.deviation = kept.unwrap_or_else(|| self.deviation_of_values());
        }
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
        match self.deviation {
            0.0 => self.kept_deviation().unwrap_or_else(|| self.deviation_of_values()),
            known => known,
        }
    }

    /// From the squares; none where they cannot tell.
    #[inline]
    fn kept_deviation(&self) -> Option<f64> {
        let count = self.values.len() as f64;
        self.squares.spread(&self.sum, count).map(|spread| (spread / count).sqrt())
    }

    /// The same from all values.
    #[cold]
    fn deviation_of_values(&self) -> f64 {
        let values = &self.values;
        // Asked of the values, not of the deviation: rounding in the mean must not make a spread where there is none.
        if values.iter().all(|value| *value == values[0]) {
            return NONE;
        }
        let mean = self.mean();
        let deviation = (spread_of(values, mean) / values.len() as f64).sqrt();
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

#[cfg(test)]
mod tests {
    use pipeline_testkit::Random;

    use super::*;

    #[test]
    fn a_kept_deviation_is_that_of_the_values_to_the_last_bit() {
        let mut random = Random::new(3);
        for (size, least) in [(2, 13_900), (7, 13_900), (30, 13_900), (1_000, 13_000)] {
            let (mut window, mut n_kept) = (Window::default(), 0);
            for step in 0..20_000 {
                let value = match step / 2_000 {
                    // Steps of a resolution, a large offset, large and small numbers, no spread, spikes.
                    0 | 1 => 20.0 + random.below(100) as f64 / 10.0,
                    2 => 1_013.25 + random.below(2_000) as f64 / 1_000.0,
                    3 => random.below(1 << 30) as f64 * if step < 7_000 { 1e137 } else { 1e150 },
                    4 => random.below(1 << 30) as f64 * 1e-160,
                    5 => 7.3,
                    6 if random.once_in(50) => 1e17,
                    _ => random.below(1 << 30) as f64 * random.below(1 << 30) as f64,
                };
                window.push(value, size);
                let right = window.deviation_of_values();
                assert_eq!(window.deviation().to_bits(), right.to_bits(), "{step} of {size}: {:?}", window.values);
                let mut foreseen = window.clone();
                foreseen.foresee();
                assert_eq!(foreseen.deviation.to_bits(), right.to_bits(), "{step} of {size}: {:?}", window.values);
                n_kept += u32::from(!foreseen.takes_pass);
                let mut restored = Window { sum: Sum::default(), squares: Squares::default(), ..window.clone() };
                restored.fit(size);
                assert_eq!(restored.deviation().to_bits(), right.to_bits(), "a restart at {step} changes a bit");
            }
            assert!(least <= n_kept, "{n_kept} of {size}");
        }
    }
}
