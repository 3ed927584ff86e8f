//! The sum of the squares of the readings in a window, kept while readings come and go.

use serde::{Deserialize, Serialize};

use super::sum::{Sum, two_sum};

/// A sum of squares as two floats, which hold 106 digits in base 2. What is taken away by rounding is little, and counted:
/// where it could matter, nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub(super) struct Squares {
    high: f64,
    low: f64,
    /// How far the sum is from the true one at most.
    error: f64,
}

impl From<[f64; 3]> for Squares {
    fn from([high, low, error]: [f64; 3]) -> Self {
        Squares { high, low, error }
    }
}

impl From<Squares> for [f64; 3] {
    fn from(Squares { high, low, error }: Squares) -> Self {
        [high, low, error]
    }
}

/// What a step takes away of the numbers in it, by a bound that is some times too high: 2⁻¹⁰⁰.
const STEP: f64 = f64::EPSILON * f64::EPSILON * 16.0;

/// After how many steps, and twice as many as there are values, the sum is made anew, which is hardly seen in what a step
/// costs. With spreads down to a millionth of the values rounding is not seen then, in windows of up to a thousand; in
/// those of 100,000 down to a hundred-thousandth.
const STEPS: f64 = 1024.0;

/// How wrong a spread may be, as a part of it, by a bound that is some times too high: 2⁻⁴⁸. What was found was within two
/// units of the last place, where adding up the distances from the mean was within five.
const TOLERANCE: f64 = f64::EPSILON * 16.0;

/// Below, what rounding takes away may be too small for a float.
const LEAST: f64 = 1e-200;

impl Squares {
    /// Of some values.
    pub fn of(values: &[f64]) -> Self {
        let mut squares = Squares::default();
        values.iter().for_each(|&value| squares.replace(0.0, value));
        squares
    }

    /// Takes back a value that was added before, and adds another.
    #[inline]
    pub fn replace(&mut self, old: f64, new: f64) {
        let ((gone, gone_rest), (come, come_rest)) = (product(old, old), product(new, new));
        let (change, rest) = two_sum(come, -gone);
        let (high, low) = two_sum(self.high, change);
        self.error += STEP * (self.high + gone + come);
        (self.high, self.low) = two_sum(high, low + (self.low + (rest + (come_rest - gone_rest))));
    }

    /// Whether a sum of so many values can go on: otherwise it has to be made anew. So it is after a spike has left.
    #[inline]
    pub fn is_precise(&self, count: f64) -> bool {
        self.error <= STEP * (STEPS + 2.0 * count) * self.high
    }

    /// Whether it can be the sum that another one, made anew of so many values, is as well.
    pub fn agrees_with(&self, anew: &Squares, count: f64) -> bool {
        let difference = (self.high - anew.high) + (self.low - anew.low);
        0.0 <= self.error && self.is_precise(count) && difference.abs() <= self.error + anew.error
    }

    /// The population variance of so many values with this sum, times their number squared. None where rounding could be
    /// seen in it: the spread is next to nothing, as that of a constant window is.
    #[inline]
    pub fn spread(&self, sum: &Sum, count: f64) -> Option<f64> {
        let (rounded, rest) = sum.parts();
        let ((all, all_rest), (square, square_rest)) = (product(self.high, count), product(rounded, rounded));
        let (spread, lost) = two_sum(all, -square);
        let spread = spread + (lost + ((all_rest + self.low * count) - (square_rest + 2.0 * rounded * rest)));
        let error = count * self.error + STEP * (all + square);
        (error <= TOLERANCE * spread && LEAST < spread && spread.is_finite()).then_some(spread)
    }
}

/// The rounded product and exactly what was rounded away (Dekker, "A floating-point technique for extending the available
/// precision", 1971). NaN for numbers near the end of floats.
#[inline]
fn product(a: f64, b: f64) -> (f64, f64) {
    let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
    let product = a * b;
    (product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)
}

/// A float as two of half as many digits (Veltkamp).
#[inline]
fn halves(value: f64) -> (f64, f64) {
    let scaled = value * ((1 << 27) + 1) as f64;
    let high = scaled - (scaled - value);
    (high, value - high)
}

#[cfg(test)]
mod tests {
    use pipeline_testkit::Random;

    use super::*;

    /// The same by whole numbers, which round nothing.
    fn exact_spread(values: &[i64]) -> i128 {
        let sum: i128 = values.iter().map(|&value| i128::from(value)).sum();
        let squares: i128 = values.iter().map(|&value| i128::from(value) * i128::from(value)).sum();
        values.len() as i128 * squares - sum * sum
    }

    fn floats(values: &[i64]) -> Vec<f64> {
        values.iter().map(|&value| value as f64).collect()
    }

    #[test]
    fn a_spread_is_right_or_not_said() {
        let mut random = Random::new(3);
        // Around nothing, with a large offset, with one that is too large, with spikes.
        for (spread, offset, spike, least) in [
            (1 << 40, 0, 0, 19_998),
            (1 << 26, 1 << 44, 0, 19_998),
            (1 << 4, 1 << 52, 0, 0),
            (1 << 8, 0, 1 << 52, 19_900),
        ] {
            let (mut values, mut squares) = (Vec::new(), Squares::default());
            let (mut n_said, mut n_anew) = (0, 0);
            for step in 0..20_000 {
                let is_spike = spike != 0 && random.once_in(50);
                let value = offset + random.below(spread) as i64 + if is_spike { spike } else { 0 };
                let old = if values.len() == 30 { values.remove(0) } else { 0 };
                values.push(value);
                squares.replace(old as f64, value as f64);
                if !squares.is_precise(values.len() as f64) {
                    squares = Squares::of(&floats(&values));
                    n_anew += 1;
                }
                let Some(found) = squares.spread(&Sum::of(&floats(&values)), values.len() as f64) else { continue };
                let right = exact_spread(&values) as f64;
                assert!((found - right).abs() <= 2.0 * TOLERANCE * right, "step {step}: {found} is not {right}");
                n_said += 1;
            }
            assert!(least <= n_said && (0 < least || n_said == 0), "{n_said} of {spread} at {offset}");
            let (least, most) = if spike == 0 { (10, 40) } else { (200, 1_000) };
            assert!((least..most).contains(&n_anew), "{n_anew}");
        }
    }

    #[test]
    fn nothing_is_said_where_rounding_would_be_seen() {
        for values in
            [vec![0.1; 30], vec![0.0; 30], vec![1e15, 1e15 + 0.125], vec![1e-120, 2e-120], vec![1e300, 1.0], vec![]]
        {
            let found = Squares::of(&values).spread(&Sum::of(&values), values.len() as f64);
            assert!(found.is_none() || values[0] == 1e15, "{values:?}: {found:?}");
        }
    }

    #[test]
    fn a_spike_that_has_left_leaves_nothing_behind() {
        let values: Vec<f64> = (0..30).map(|value| 20.0 + f64::from(value) * 1e-3).collect();
        let mut squares = Squares::of(&values);
        squares.replace(values[0], 1e12);
        squares.replace(1e12, values[0]);
        assert!(!squares.is_precise(values.len() as f64), "{squares:?}");
        assert!(Squares::of(&values).is_precise(30.0));
        let mut squares = Squares::of(&[f64::MAX]);
        squares.replace(f64::MAX, 1.0);
        assert!(!squares.is_precise(1.0), "{squares:?}");
    }
}
