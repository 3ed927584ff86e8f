//! How far the readings in a window are from their mean: the sum of their squared distances, rounded once.
//!
//! It is a function of the readings alone, as their sum is, whichever of the two ways it comes from: squares that are kept
//! while readings come and go, or a pass over all readings.

use pipeline_stage::with_fused_products;

use super::sum::{Sum, two_sum};

/// The sum of the squares of some values as two floats, which hold 106 digits in base 2. What is taken away by rounding is
/// little, and counted: where it could matter, nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Squares {
    high: f64,
    low: f64,
    /// How far the sum is from the true one at most.
    error: f64,
}

/// What a step takes away of the numbers in it, by a bound that is some times too high: 2⁻¹⁰⁰.
const STEP: f64 = f64::EPSILON * f64::EPSILON * 16.0;

/// The sum is made anew after so many steps and two for each value: seldom enough to cost next to nothing. Up to there
/// rounding is in the way of one reading in 30,000 where the deviation is a thousandth of the mean, of one in 1,000 at a
/// ten-thousandth, of nearly all at a millionth.
const STEPS: f64 = 1024.0;

/// Below, what rounding takes away may be too small for a float.
const LEAST: f64 = 1e-200;

/// Above, the halves of a number times the count may be too large for a float, and with them a sum would be said or not by
/// the kind of products.
const MOST: f64 = 1e290;

impl Squares {
    /// Of some values.
    pub fn of(values: &[f64]) -> Self {
        let mut squares = Squares::default();
        values.iter().for_each(|&value| squares.replace(0.0, value));
        squares
    }

    /// Takes back a value that was added before, and adds another; 0 changes nothing.
    #[inline]
    pub fn replace(&mut self, old: f64, new: f64) {
        with_fused_products(
            #[inline(always)]
            |is_fused| self.replace_by(old, new, is_fused),
        );
    }

    /// Whether products are fused changes the time it takes, here and in [`Self::spread_by`], and nothing that is said.
    #[inline(always)]
    fn replace_by(&mut self, old: f64, new: f64, is_fused: bool) {
        let ((gone, gone_rest), (come, come_rest)) = (product(old, old, is_fused), product(new, new, is_fused));
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

    /// The sum of the squared distances of so many values with this sum from their mean, rounded once. None where it cannot
    /// be told to which float: the distances are next to nothing beside the values, or it is between two floats.
    #[inline]
    pub fn spread(&self, sum: &Sum, count: f64) -> Option<f64> {
        with_fused_products(
            #[inline(always)]
            |is_fused| self.spread_by(sum, count, is_fused),
        )
    }

    #[inline(always)]
    fn spread_by(&self, sum: &Sum, count: f64, is_fused: bool) -> Option<f64> {
        let (of_mean, of_mean_rest) = square_by(sum.parts(), count, is_fused);
        let (spread, lost) = two_sum(self.high, -of_mean);
        let (spread, lost) = two_sum(spread, lost + (self.low - of_mean_rest));
        let error = self.error + STEP * (self.high + of_mean);
        // The true one is between these (Ziv, "Fast evaluation of elementary mathematical functions with correctly
        // rounded last bit", 1991).
        let (least, most) = (spread + (lost - error), spread + (lost + error));
        (least == most && LEAST < least && self.high < MOST).then_some(least)
    }
}

/// Values are summed in this many lanes, side by side, so that the processor can work on several at once.
const LANES: usize = 4;

/// A sum in two floats.
#[derive(Clone, Copy, Default)]
struct Double {
    sum: f64,
    rest: f64,
}

impl Double {
    #[inline]
    fn add(&mut self, value: f64, rest: f64) {
        let (sum, lost) = two_sum(self.sum, value);
        (self.sum, self.rest) = two_sum(sum, self.rest + (lost + rest));
    }
}

/// The sum of the squared distances of some values from a number that is their mean but for rounding, as if from the true
/// mean.
pub(super) fn spread_of(values: &[f64], mean: f64) -> f64 {
    let (mut squares, mut distances) = ([Double::default(); LANES], [Double::default(); LANES]);
    let mut add = |lane: usize, value: f64| {
        let (distance, rest) = two_sum(value, -mean);
        let (square, square_rest) = product(distance, distance, false);
        squares[lane].add(square, square_rest + 2.0 * distance * rest);
        distances[lane].add(distance, rest);
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        (0..LANES).for_each(|lane| add(lane, chunk[lane]));
    }
    rest.iter().enumerate().for_each(|(lane, value)| add(lane, *value));
    let total = |lanes: [Double; LANES]| {
        let mut total = lanes[0];
        lanes[1..].iter().for_each(|lane| total.add(lane.sum, lane.rest));
        total
    };
    let (squares, distances) = (total(squares), total(distances));
    // The mean was rounded, so the distances do not add up to nothing.
    let (off, off_rest) = square_by((distances.sum, distances.rest), values.len() as f64, false);
    let (spread, lost) = two_sum(squares.sum, -off);
    spread + (lost + (squares.rest - off_rest))
}

/// The square of a number, by another one.
#[inline(always)]
fn square_by((number, rest): (f64, f64), by: f64, is_fused: bool) -> (f64, f64) {
    let (square, square_rest) = product(number, number, is_fused);
    let part = square / by;
    let (back, back_rest) = product(part, by, is_fused);
    // Of what is this small a few roundings more are in the bound, and nothing has to wait for a second division.
    (part, (((square - back) - back_rest) + (square_rest + 2.0 * number * rest)) * (1.0 / by))
}

/// The rounded product and what was rounded away, exactly if it is not too small for a float: by one instruction, or by the halves of both numbers (Dekker, "A
/// floating-point technique for extending the available precision", 1971), which is NaN for numbers near the end of floats.
#[inline(always)]
fn product(a: f64, b: f64, is_fused: bool) -> (f64, f64) {
    let product = a * b;
    if is_fused {
        return (product, a.mul_add(b, -product));
    }
    let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
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

    /// The same by whole numbers: only what comes out is rounded.
    fn exact_spread(values: &[i64]) -> f64 {
        let (count, sum) = (values.len() as i128, values.iter().map(|&value| i128::from(value)).sum::<i128>());
        let squares: i128 = values.iter().map(|&value| i128::from(value) * i128::from(value)).sum();
        let of_all = count * squares - sum * sum;
        let places = of_all.leading_zeros() - 1;
        let of_all = of_all << places;
        // The last digit tells that something is left, and that it is not in the middle between two floats.
        ((of_all / count) | i128::from(of_all % count != 0)) as f64 / 2f64.powi(places as i32)
    }

    fn floats(values: &[i64]) -> Vec<f64> {
        values.iter().map(|&value| value as f64).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        Sum::of(values).rounded() / values.len() as f64
    }

    #[test]
    fn a_spread_is_rounded_once_or_not_said() {
        spreads_are_rounded_once_or_not_said(false);
    }

    #[test]
    fn a_spread_of_fused_products_is_rounded_once_or_not_said() {
        spreads_are_rounded_once_or_not_said(true);
    }

    fn spreads_are_rounded_once_or_not_said(is_fused: bool) {
        let mut random = Random::new(3);
        // Around nothing, with a small offset and a large one, with one that is too large, with spikes.
        for (spread, offset, spike, least) in [
            (1 << 36, 0, 0, 19_990),
            (1 << 26, 1 << 36, 0, 19_800),
            (1 << 22, 1 << 36, 0, 15_000),
            (1 << 4, 1 << 46, 0, 0),
            (1 << 8, 0, 1 << 40, 18_000),
        ] {
            let (mut values, mut squares) = (Vec::new(), Squares::default());
            let (mut n_said, mut n_anew) = (0, 0);
            for step in 0..20_000 {
                let is_spike = spike != 0 && random.once_in(50);
                let value = offset + random.below(spread) as i64 + if is_spike { spike } else { 0 };
                let old = if values.len() == 30 { values.remove(0) } else { 0 };
                values.push(value);
                squares.replace_by(old as f64, value as f64, is_fused);
                if !squares.is_precise(values.len() as f64) {
                    squares = Squares::of(&floats(&values));
                    n_anew += 1;
                }
                let (right, values) = (exact_spread(&values), floats(&values));
                assert_eq!(spread_of(&values, mean(&values)), right, "step {step}: {values:?}");
                let Some(found) = squares.spread_by(&Sum::of(&values), values.len() as f64, is_fused) else { continue };
                assert_eq!(found, right, "step {step}: {values:?}");
                n_said += 1;
            }
            assert!(least <= n_said && (0 < least || n_said < 10), "{n_said} of {spread} at {offset}");
            let (least, most) = if spike == 0 { (10, 40) } else { (200, 1_000) };
            assert!((least..most).contains(&n_anew), "{n_anew}");
        }
    }

    #[test]
    fn a_spread_of_next_to_nothing_is_rounded_once() {
        let mut random = Random::new(5);
        for _ in 0..3_000 {
            // Values that differ by some units of their last place, and by whole numbers of those.
            let unit = f64::EPSILON / 4.0;
            let units: Vec<i64> = (0..30).map(|_| (0.3 / unit) as i64 + random.below(7) as i64).collect();
            let values: Vec<f64> = units.iter().map(|&units| units as f64 * unit).collect();
            assert_eq!(spread_of(&values, mean(&values)), exact_spread(&units) * unit * unit, "{values:?}");
        }
    }

    #[test]
    fn both_kinds_of_products_are_exact() {
        let mut random = Random::new(7);
        for _ in 0..20_000 {
            let mut number = || ((random.bits() >> 11) as i128, 2f64.powi(random.below(400) as i32 - 253));
            let ((a, unit_of_a), (b, unit_of_b)) = (number(), number());
            for is_fused in [false, true] {
                let (rounded, rest) = product(a as f64 * unit_of_a, b as f64 * unit_of_b, is_fused);
                let units = |part: f64| (part / (unit_of_a * unit_of_b)) as i128;
                assert_eq!(units(rounded) + units(rest), a * b, "{a} by {b}");
            }
        }
    }

    #[test]
    fn nothing_is_said_where_rounding_would_be_seen() {
        let hardly_apart = [vec![0.1; 30], vec![0.0; 30], vec![1e15, 1e15 + 0.125], vec![1e-120, 2e-120]];
        let too_large = [vec![1e150, 2e150], vec![1e300, 1.0]];
        for values in hardly_apart.into_iter().chain(too_large).chain([vec![]]) {
            for is_fused in [false, true] {
                let found = Squares::of(&values).spread_by(&Sum::of(&values), values.len() as f64, is_fused);
                assert_eq!(found, None, "{values:?}");
            }
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
