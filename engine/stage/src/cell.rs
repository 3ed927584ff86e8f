//! One value of a row, whatever the column's type: for sinks that write row by row.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;

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
    /// A value of an Arrow type that no declared column has, in Arrow's own words.
    Other(String),
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
            _ => match array_value_to_string(column, row) {
                Ok(text) => Cell::Other(text),
                Err(error) => Cell::Other(error.to_string()),
            },
        }
    }
}
