//! The columns that a detector adds.

use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::{ArrayRef, Float64Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};

use crate::detector::Score;

/// Builds the columns a detector adds.
pub(super) struct ScoreColumns {
    is_anomaly: BooleanBuilder,
    score: Numbers,
    expected: Numbers,
    lower: Numbers,
    upper: Numbers,
    statistic: Numbers,
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
            is_anomaly: BooleanBuilder::with_capacity(rows),
            score: numbers(),
            expected: numbers(),
            lower: numbers(),
            upper: numbers(),
            statistic: numbers(),
        }
    }

    /// The next rows; none for a row of which there is nothing to say. Column by column: each is a loop without branches.
    pub fn extend(&mut self, scores: &[Option<Score>]) {
        for score in scores {
            self.is_anomaly.append_value(score.is_some_and(|score| score.is_anomaly));
        }
        self.score.extend(scores, |score| score.score);
        self.expected.extend(scores, |score| score.expected);
        self.lower.extend(scores, |score| score.lower);
        self.upper.extend(scores, |score| score.upper);
        self.statistic.extend(scores, |score| score.statistic);
    }

    /// The columns, in their order.
    pub fn finish(self) -> Vec<ArrayRef> {
        let ScoreColumns { score, mut is_anomaly, expected, lower, upper, statistic } = self;
        let is_anomaly = Arc::new(is_anomaly.finish());
        vec![score.finish(), is_anomaly, expected.finish(), lower.finish(), upper.finish(), statistic.finish()]
    }
}

impl Numbers {
    #[inline]
    fn extend(&mut self, scores: &[Option<Score>], of: impl Fn(&Score) -> f64) {
        let before = self.values.len();
        self.values.extend(scores.iter().map(|score| score.as_ref().map_or(f64::NAN, &of)));
        self.has_nulls |= self.values[before..].iter().fold(false, |has_nulls, value| has_nulls | !value.is_finite());
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
