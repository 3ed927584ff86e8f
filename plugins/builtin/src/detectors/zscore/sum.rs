//! The sum of the readings in a window, rounded once, and kept while readings come and go.

/// Readings beyond this have no sum: as many as a window may hold cannot overflow below it.
const LARGEST: f64 = f64::MAX / (1 << 17) as f64;

/// Two hold the sum of nearly all windows.
const USUAL_PARTS: usize = 4;

/// A sum of floats, rounded to the nearest one, ties to even, as Python's `math.fsum` does.
///
/// It is kept as two floats, which hold 106 digits in base 2: while that is enough, and it can be seen when it is not,
/// nothing is ever rounded away, so readings can be added and taken back for ever. Plain running sums drift.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sum {
    rounded: f64,
    /// What rounding has taken away, exactly. NaN when one float cannot hold it: then the sum cannot go on from here.
    rest: f64,
}

impl Sum {
    /// The sum of some values, however far apart their sizes are. Sums of Shewchuk's kind: parts that do not overlap, the
    /// smallest first ("Adaptive Precision Floating-Point Arithmetic", 1997).
    pub fn of(values: &[f64]) -> Self {
        let mut parts: Vec<f64> = Vec::with_capacity(USUAL_PARTS);
        for &value in values {
            if !is_summable(value) {
                return Sum { rounded: f64::NAN, rest: f64::NAN };
            }
            let (mut carried, mut n_kept) = (value, 0);
            for at in 0..parts.len() {
                let error;
                (carried, error) = two_sum(carried, parts[at]);
                if error != 0.0 {
                    parts[n_kept] = error;
                    n_kept += 1;
                }
            }
            parts.truncate(n_kept);
            if carried != 0.0 {
                parts.push(carried);
            }
        }
        Sum::of_parts(&parts)
    }

    /// Of parts that do not overlap, the smallest first.
    fn of_parts(parts: &[f64]) -> Self {
        let (mut rounded, mut rest) = (0.0, 0.0);
        let mut smaller = parts.iter().rev();
        while rest == 0.0
            && let Some(&part) = smaller.next()
        {
            (rounded, rest) = two_sum(rounded, part);
        }
        // All that is left is smaller than the rest, and matters when that is half a unit of the last place.
        if let Some(&part) = smaller.clone().next() {
            let (further, missing) = two_sum(rounded, 2.0 * rest);
            if (0.0 < rest) == (0.0 < part) && missing == 0.0 {
                (rounded, rest) = (further, -rest);
            }
        }
        for &part in smaller {
            let lost;
            (rest, lost) = two_sum(rest, part);
            if lost != 0.0 {
                return Sum { rounded, rest: f64::NAN };
            }
        }
        Sum { rounded, rest }
    }

    /// Takes back a value that was added before, and adds another; 0 changes nothing.
    #[inline]
    pub fn replace(&mut self, old: f64, new: f64) {
        let (sum, error) = two_sum(self.rounded, new);
        let (rest, lost) = two_sum(self.rest, error);
        let (sum, error) = two_sum(sum, -old);
        let (rest, lost_too) = two_sum(rest, error);
        (self.rounded, self.rest) = two_sum(sum, rest);
        if lost != 0.0 || lost_too != 0.0 || !is_summable(new) {
            self.rest = f64::NAN;
        }
    }

    /// Whether values can be added: otherwise the sum has to be made anew.
    #[inline]
    pub fn is_exact(&self) -> bool {
        !self.rest.is_nan()
    }

    /// The sum; NaN when there is none.
    #[inline]
    pub fn rounded(&self) -> f64 {
        self.rounded
    }

    /// The sum, and exactly what was rounded away; NaN where that is not known.
    #[inline]
    pub fn parts(&self) -> (f64, f64) {
        (self.rounded, self.rest)
    }
}

#[inline]
fn is_summable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// The rounded sum and exactly what was rounded away (Knuth's TwoSum).
#[inline]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

#[cfg(test)]
mod tests {
    use pipeline_testkit::Random;

    use super::*;

    /// The unit in which whole numbers stand for values: small enough that their sums need all 128 bits.
    const UNIT: f64 = 1.0 / (1u64 << 60) as f64;

    /// A value, and how many units it is.
    fn value(random: &mut Random, spread: usize) -> (f64, i128) {
        let digits = (random.bits() >> 11) as i128 >> random.below(52);
        let units = (digits << random.below(spread + 1)) * if random.once_in(2) { 1 } else { -1 };
        (units as f64 * UNIT, units)
    }

    #[test]
    fn sums_are_rounded_once_at_the_end_as_values_come_and_go() {
        let mut random = Random::new(7);
        for spread in [0, 20, 60] {
            let (mut values, mut exact, mut sum, mut n_kept) = (Vec::new(), Vec::new(), Sum::default(), 0);
            for step in 0..20_000 {
                let (value, units) = value(&mut random, spread);
                if random.below(30) < values.len() {
                    sum.replace(values.remove(0), value);
                    exact.remove(0);
                } else {
                    sum.replace(0.0, value);
                }
                values.push(value);
                exact.push(units);
                n_kept += u32::from(sum.is_exact());
                if !sum.is_exact() {
                    sum = Sum::of(&values);
                }
                let right = exact.iter().sum::<i128>() as f64 * UNIT;
                assert_eq!((sum.rounded(), Sum::of(&values).rounded()), (right, right), "step {step} of {values:?}");
            }
            // Both ways were tried where values are far apart.
            assert!(
                if spread < 60 { n_kept == 20_000 } else { 1_000 < n_kept && n_kept < 19_000 },
                "{spread}: {n_kept}"
            );
        }
    }

    #[test]
    fn ties_are_decided_by_what_is_below_them() {
        let tie = (1u64 << 53) as f64;
        for (values, right) in [
            (vec![tie, 1.0], tie),
            (vec![tie, 1.0, 1e-30], tie + 2.0),
            (vec![tie, 1.0, -1e-30], tie),
            (vec![1e-30, 1.0, tie], tie + 2.0),
            (vec![1e17, 1.0, -1e17, 1.0, 1e-3, 1e17, -1e17], 2.001),
            (vec![0.1; 10], 1.0),
            (vec![], 0.0),
        ] {
            assert_eq!(Sum::of(&values).rounded(), right, "{values:?}");
        }
    }

    #[test]
    fn what_could_overflow_has_no_sum_until_it_is_gone() {
        let mut sum = Sum::of(&[1.0, f64::MAX]);
        assert!(sum.rounded().is_nan() && !sum.is_exact());
        sum.replace(f64::MAX, 2.0);
        assert!(!sum.is_exact(), "it has to be made anew");
        assert_eq!(Sum::of(&[LARGEST; 100_000]).rounded(), LARGEST * 100_000.0);
    }
}
