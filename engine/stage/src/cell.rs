//! One value of a row, whatever the column's type: for sinks that write row by row.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::downcast_primitive_array;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, TimeUnit};

use crate::position::Timestamp;

/// A value of one of the types that columns have.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// Text, of a `string` column.
    Text(&'a str),
    /// Of an `integer` column.
    Integer(i64),
    /// Of a `float` column; columns that detectors add may be infinite.
    Float(f64),
    /// Of a `boolean` column.
    Boolean(bool),
    /// Of a `timestamp` column.
    Time(Timestamp),
    /// A value of an Arrow type that no declared column has, in the form in which Arrow shows it to programmers.
    Other(String),
}

/// A value of a type that no column of a pipeline has: numbers as they are, the rest in Arrow's words for programmers.
fn other(column: &dyn Array, row: usize) -> String {
    downcast_primitive_array!(
        column => format!("{:?}", column.value(row)),
        _ => format!("{:?}", column.slice(row, 1))
    )
}

impl<'a> Cell<'a> {
    /// The value of a column in a row; the row must be there.
    pub fn of(column: &'a dyn Array, row: usize) -> Self {
        if column.is_null(row) {
            return Cell::Null;
        }
        match column.data_type() {
            DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(row)),
            DataType::Int64 => Cell::Integer(column.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => Cell::Float(column.as_primitive::<Float64Type>().value(row)),
            DataType::Boolean => Cell::Boolean(column.as_boolean().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Cell::Time(Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)))
            }
            // The null type has no null buffer.
            DataType::Null => Cell::Null,
            _ => Cell::Other(other(column, row)),
        }
    }
}
