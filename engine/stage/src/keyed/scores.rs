//! The columns that a detector adds.

use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::{ArrayRef, Float64Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};

use crate::detector::Score;

/// Builds the columns a detector adds.
pub(super) struct ScoreColumns {
    is_anomaly: BooleanBuilder,
    /// score, expected, lower, upper, statistic
    numbers: [Numbers; 5],
}

/// A column in the making: what is not finite becomes null at the end.
struct Numbers {
    values: Vec<f64>,
    has_nulls: bool,
}

impl ScoreColumns {
    /// Room for so many rows.
    pub fn with_capacity(rows: usize) -> Self {
        ScoreColumns {
            is_anomaly: BooleanBuilder::with_capacity(rows),
            numbers: std::array::from_fn(|_| Numbers { values: Vec::with_capacity(rows), has_nulls: false }),
        }
    }

    /// The next row; none when there is nothing to say of it.
    #[inline]
    pub fn push(&mut self, score: Option<Score>) {
        self.is_anomaly.append_value(score.is_some_and(|score| score.is_anomaly));
        let values = score.map_or([f64::NAN; 5], |s| [s.score, s.expected, s.lower, s.upper, s.statistic]);
        for (column, value) in self.numbers.iter_mut().zip(values) {
            column.values.push(value);
            column.has_nulls |= !value.is_finite();
        }
    }

    /// The columns, in their order.
    pub fn finish(self) -> Vec<ArrayRef> {
        let ScoreColumns { mut is_anomaly, numbers } = self;
        let [score, expected, lower, upper, statistic] = numbers.map(Numbers::finish);
        vec![score, Arc::new(is_anomaly.finish()), expected, lower, upper, statistic]
    }
}

impl Numbers {
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
