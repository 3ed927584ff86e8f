//! The types an expression computes with.

use arrow::datatypes::{DataType, TimeUnit};
use pipeline_stage::ColumnType;

/// The type of an expression: one of the types of columns, or one that only exists on the way to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// The literal `NULL`, which fits every type.
    Null,
    Boolean,
    /// 64 bits, signed.
    Integer,
    /// 64 bits.
    Float,
    Text,
    /// Microseconds since 1970, UTC.
    Timestamp,
    /// A length of time in microseconds (Arrow `Duration`); no column has it.
    Interval,
}

impl Type {
    /// The type of a column; none for Arrow's types that no pipeline column has.
    pub fn of_column(data_type: &DataType) -> Option<Self> {
        let column_type = ColumnType::of(data_type)?;
        Some(match column_type {
            ColumnType::String => Type::Text,
            ColumnType::Integer => Type::Integer,
            ColumnType::Float => Type::Float,
            ColumnType::Boolean => Type::Boolean,
            ColumnType::Timestamp => Type::Timestamp,
        })
    }

    /// The Arrow type of its arrays.
    pub fn arrow(self) -> DataType {
        match self {
            Type::Null => DataType::Null,
            Type::Boolean => ColumnType::Boolean.arrow(),
            Type::Integer => ColumnType::Integer.arrow(),
            Type::Float => ColumnType::Float.arrow(),
            Type::Text => ColumnType::String.arrow(),
            Type::Timestamp => ColumnType::Timestamp.arrow(),
            Type::Interval => DataType::Duration(TimeUnit::Microsecond),
        }
    }

    /// With its article, for messages.
    pub fn described(self) -> &'static str {
        match self {
            Type::Null => "NULL",
            Type::Boolean => "a boolean",
            Type::Integer => "an integer",
            Type::Float => "a float",
            Type::Text => "a string",
            Type::Timestamp => "a timestamp",
            Type::Interval => "an interval",
        }
    }

    /// True for what arithmetic takes.
    pub fn is_number(self) -> bool {
        matches!(self, Type::Integer | Type::Float)
    }

    /// The type both can be turned into without being asked to: `NULL` fits all, integers become floats.
    pub fn common(self, other: Type) -> Option<Type> {
        match (self, other) {
            (Type::Null, any) | (any, Type::Null) => Some(any),
            (one, same) if one == same => Some(one),
            (one, two) if one.is_number() && two.is_number() => Some(Type::Float),
            _ => None,
        }
    }

    /// The type that a name after `::` or in `CAST(… AS …)` stands for; SQL's and those of pipeline files.
    pub fn named(name: &str) -> Option<Type> {
        Some(match name.to_ascii_uppercase().as_str() {
            "BOOLEAN" | "BOOL" => Type::Boolean,
            "INTEGER" | "INT" | "BIGINT" | "INT8" | "INT64" => Type::Integer,
            "FLOAT" | "DOUBLE" | "DOUBLE PRECISION" | "FLOAT8" | "FLOAT64" => Type::Float,
            "STRING" | "TEXT" | "VARCHAR" => Type::Text,
            "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE" | "TIMESTAMPTZ" => Type::Timestamp,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_a_column_is_known() {
        for column_type in
            [ColumnType::String, ColumnType::Integer, ColumnType::Float, ColumnType::Boolean, ColumnType::Timestamp]
        {
            let data_type = column_type.arrow();
            let known = Type::of_column(&data_type).expect("a type of a column");
            assert_eq!(known.arrow(), data_type);
            assert_eq!(Type::named(column_type.name()), Some(known));
        }
    }
}
