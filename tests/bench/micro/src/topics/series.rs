//! Which series comes next.

use crate::random::Random;
use crate::settings::Weights;

/// Chooses series.
pub enum Choice {
    /// Each of so many as often as the others.
    Even(usize),
    /// By weight.
    Weighted {
        /// For each rank the chance of it and those before it, the last is 1.
        up_to: Vec<f64>,
        /// The series of each rank: those that come often are not neighbours.
        of_rank: Vec<usize>,
    },
}

impl Choice {
    /// Of so many series.
    pub fn new(series: usize, weights: Weights) -> Self {
        if weights == Weights::Even {
            return Choice::Even(series);
        }
        let mut total = 0.0;
        let mut up_to: Vec<f64> = Vec::with_capacity(series);
        for rank in 1..=series {
            total += 1.0 / rank as f64;
            up_to.push(total);
        }
        up_to.iter_mut().for_each(|chance| *chance /= total);
        let mut of_rank: Vec<usize> = (0..series).collect();
        Random(2).shuffle(&mut of_rank);
        Choice::Weighted { up_to, of_rank }
    }

    /// The next one.
    pub fn choose(&self, random: &mut Random) -> usize {
        match self {
            Choice::Even(series) => random.below(*series),
            Choice::Weighted { up_to, of_rank } => {
                let at = random.fraction();
                of_rank[up_to.partition_point(|chance| *chance <= at).min(of_rank.len() - 1)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_zipf_comes_twice_as_often_as_the_second() {
        let (choice, mut random) = (Choice::new(1_000, Weights::Zipf), Random(1));
        let mut counts = vec![0u32; 1_000];
        (0..100_000).for_each(|_| counts[choice.choose(&mut random)] += 1);
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(counts.iter().filter(|count| 0 < **count).count() > 990);
    }
}
