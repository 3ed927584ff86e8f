//! The columns that a detector adds.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, NullBuffer};

use super::ahead::AHEAD;
use crate::detector::Score;

/// Builds the columns a detector adds.
pub(super) struct ScoreColumns {
    is_anomaly: BooleanBufferBuilder,
    score: Numbers,
    expected: Numbers,
    lower: Numbers,
    upper: Numbers,
    statistic: Numbers,
}

const _: () = assert!(AHEAD <= u32::BITS as usize, "there is a bit for each row that comes next");

/// The scores of the rows that come next, column by column: they are added to the columns at once.
pub(super) struct NextScores {
    /// A bit for each row.
    are_anomalies: u32,
    score: [f64; AHEAD],
    expected: [f64; AHEAD],
    lower: [f64; AHEAD],
    upper: [f64; AHEAD],
    statistic: [f64; AHEAD],
}

impl NextScores {
    /// There is nothing to say of any of them.
    pub fn new() -> Self {
        let none = [f64::NAN; AHEAD];
        NextScores { are_anomalies: 0, score: none, expected: none, lower: none, upper: none, statistic: none }
    }

    /// What is said of one of them.
    #[inline]
    pub fn set(&mut self, place: usize, score: &Score) {
        self.are_anomalies |= u32::from(score.is_anomaly) << place;
        self.score[place] = score.score;
        self.expected[place] = score.expected;
        self.lower[place] = score.lower;
        self.upper[place] = score.upper;
        self.statistic[place] = score.statistic;
    }
}

/// A column in the making: what is not finite becomes null at the end.
struct Numbers {
    values: Vec<f64>,
    has_nulls: bool,
}

impl ScoreColumns {
    /// Room for so many rows.
    pub fn with_capacity(rows: usize) -> Self {
        let numbers = || Numbers { values: Vec::with_capacity(rows), has_nulls: false };
        ScoreColumns {
            is_anomaly: BooleanBufferBuilder::new(rows),
            score: numbers(),
            expected: numbers(),
            lower: numbers(),
            upper: numbers(),
            statistic: numbers(),
        }
    }

    /// Adds scores; none for a row of which there is nothing to say.
    pub fn extend_from(&mut self, scores: &[Option<Score>]) {
        for part in scores.chunks(AHEAD) {
            let mut next = NextScores::new();
            let said = part.iter().enumerate().filter_map(|(place, score)| Some((place, score.as_ref()?)));
            said.for_each(|(place, score)| next.set(place, score));
            self.extend(&next, part.len());
        }
    }

    /// Adds the scores of the next rows, of so many.
    pub fn extend(&mut self, next: &NextScores, rows: usize) {
        self.is_anomaly.append_packed_range(0..rows, &next.are_anomalies.to_le_bytes());
        self.score.extend(&next.score[..rows]);
        self.expected.extend(&next.expected[..rows]);
        self.lower.extend(&next.lower[..rows]);
        self.upper.extend(&next.upper[..rows]);
        self.statistic.extend(&next.statistic[..rows]);
    }

    /// The columns, in their order.
    pub fn finish(self) -> Vec<ArrayRef> {
        let ScoreColumns { score, mut is_anomaly, expected, lower, upper, statistic } = self;
        let is_anomaly = Arc::new(BooleanArray::new(is_anomaly.finish(), None));
        vec![score.finish(), is_anomaly, expected.finish(), lower.finish(), upper.finish(), statistic.finish()]
    }
}

impl Numbers {
    fn extend(&mut self, values: &[f64]) {
        self.values.extend_from_slice(values);
        self.has_nulls |= values.iter().fold(false, |has_nulls, value| has_nulls | !value.is_finite());
    }

    fn finish(self) -> ArrayRef {
        let Numbers { mut values, has_nulls } = self;
        if !has_nulls {
            return Arc::new(Float64Array::from(values));
        }
        let are_valid = BooleanBuffer::collect_bool(values.len(), |row| values[row].is_finite());
        values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = 0.0);
        Arc::new(Float64Array::new(values.into(), Some(NullBuffer::new(are_valid))))
    }
}
