//! The columns that a detector adds.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder};

use crate::detector::Score;

/// Builds the columns a detector adds.
pub(super) struct ScoreColumns {
    is_anomaly: BooleanBuilder,
    /// score, expected, lower, upper, statistic
    numbers: [Float64Builder; 5],
}

impl ScoreColumns {
    /// Room for so many rows.
    pub fn with_capacity(rows: usize) -> Self {
        ScoreColumns {
            is_anomaly: BooleanBuilder::with_capacity(rows),
            numbers: std::array::from_fn(|_| Float64Builder::with_capacity(rows)),
        }
    }

    /// The next row; none when there is nothing to say of it.
    pub fn push(&mut self, score: Option<Score>) {
        self.is_anomaly.append_value(score.is_some_and(|score| score.is_anomaly));
        let values = score.map(|s| [s.score, s.expected, s.lower, s.upper, s.statistic]);
        for (i, builder) in self.numbers.iter_mut().enumerate() {
            builder.append_option(values.map(|values| values[i]).filter(|value| value.is_finite()));
        }
    }

    /// The columns, in their order.
    pub fn finish(self) -> Vec<ArrayRef> {
        let ScoreColumns { mut is_anomaly, numbers } = self;
        let [score, expected, lower, upper, statistic] =
            numbers.map(|mut builder| -> ArrayRef { Arc::new(builder.finish()) });
        vec![score, Arc::new(is_anomaly.finish()), expected, lower, upper, statistic]
    }
}
