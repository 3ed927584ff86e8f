//! Loops over the cells of one or two arguments, for kernels that Arrow does not have.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::TimestampMicrosecondType;

use super::tree::{Arguments, Operand};

/// The values of an argument by row; a constant gives the same for every row.
pub(super) struct Values<'a, A> {
    array: &'a A,
    is_constant: bool,
}

impl<A: Array> Values<'_, A> {
    fn index(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }

    /// True if the row has no value.
    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(self.index(row))
    }
}

impl<T: ArrowPrimitiveType> Values<'_, PrimitiveArray<T>> {
    /// The value of a row; any value if it is null.
    pub fn at(&self, row: usize) -> T::Native {
        self.array.value(self.index(row))
    }
}

impl<'a> Values<'a, StringArray> {
    /// The text of a row; any text if it is null.
    pub fn at(&self, row: usize) -> &'a str {
        self.array.value(self.index(row))
    }
}

impl Arguments {
    /// The numbers of an argument that the binder has given this type.
    pub fn numbers<T: ArrowPrimitiveType>(&self, index: usize) -> Values<'_, PrimitiveArray<T>> {
        let Operand { array, is_constant } = &self.operands[index];
        Values { array: array.as_primitive(), is_constant: *is_constant }
    }

    /// The texts of an argument that the binder has given this type.
    pub fn texts(&self, index: usize) -> Values<'_, StringArray> {
        let Operand { array, is_constant } = &self.operands[index];
        Values { array: array.as_string(), is_constant: *is_constant }
    }

    /// The rows in which no argument is null.
    fn present(&self) -> Option<NullBuffer> {
        let of_operand = |operand: &Operand| match operand.is_constant {
            false => operand.array.nulls().cloned(),
            true if operand.array.is_null(0) => Some(NullBuffer::new_null(self.n_rows)),
            true => None,
        };
        let each = self.operands.iter().map(of_operand);
        each.reduce(|one, two| NullBuffer::union(one.as_ref(), two.as_ref())).flatten()
    }

    /// Computes a number for each row in which no argument is null; `None` makes it null.
    ///
    /// `compute` is also called for the other rows, whose values are arbitrary: a loop without branches is faster.
    pub fn compute_numbers<T: ArrowPrimitiveType>(&self, compute: impl Fn(usize) -> Option<T::Native>) -> ArrayRef {
        let mut values = Vec::with_capacity(self.n_rows);
        let has_result = BooleanBuffer::collect_bool(self.n_rows, |row| {
            let result = compute(row);
            values.push(result.unwrap_or_default());
            result.is_some()
        });
        let nulls = NullBuffer::union(self.present().as_ref(), Some(&NullBuffer::new(has_result)));
        Arc::new(PrimitiveArray::<T>::new(values.into(), nulls.filter(|nulls| nulls.null_count() > 0)))
    }

    /// As [`Self::compute_numbers`], for timestamps.
    pub fn compute_timestamps(&self, compute: impl Fn(usize) -> Option<i64>) -> ArrayRef {
        let micros = self.compute_numbers::<TimestampMicrosecondType>(compute);
        Arc::new(micros.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC"))
    }

    /// Computes a text for each row in which no argument is null; `None` makes it null.
    pub fn compute_texts<S: AsRef<str>>(&self, compute: impl Fn(usize) -> Option<S>) -> ArrayRef {
        let present = self.present();
        let is_present = |row: usize| present.as_ref().is_none_or(|present| present.is_valid(row));
        let texts = (0..self.n_rows).map(|row| if is_present(row) { compute(row) } else { None });
        Arc::new(texts.collect::<StringArray>())
    }
}

/// A result that is a number: neither NaN nor infinite.
pub(super) fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}
