//! `+`, `-`, `*`, `/`, `%` and `||`.
//!
//! What has no result is null: overflow, division by zero, a float that is not finite. So one odd row stops nothing,
//! and no expression makes a NaN or an infinity.

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{DurationMicrosecondType, Float64Type, Int64Type, TimestampMicrosecondType};

use crate::expression::cells::finite;
use crate::expression::tree::{Nulls, Operation};
use crate::expression::types::Type;

/// An operator between two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Plus,
    Minus,
    Times,
    DividedBy,
    Modulo,
}

impl Sign {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Sign::Plus => "+",
            Sign::Minus => "-",
            Sign::Times => "*",
            Sign::DividedBy => "/",
            Sign::Modulo => "%",
        }
    }
}

/// The operation between integers; division drops the fraction, the remainder has the sign of the dividend.
pub fn integers(sign: Sign) -> Operation {
    let compute: fn(i64, i64) -> Option<i64> = match sign {
        Sign::Plus => i64::checked_add,
        Sign::Minus => i64::checked_sub,
        Sign::Times => i64::checked_mul,
        Sign::DividedBy => i64::checked_div,
        // Not `checked_rem`: the remainder of the least integer by -1 is 0, though their quotient overflows.
        Sign::Modulo => |dividend, divisor| (divisor != 0).then(|| dividend.wrapping_rem(divisor)),
    };
    whole_numbers::<Int64Type, Int64Type, Int64Type>(Type::Integer, compute)
}

/// The operation between floats.
pub fn floats(sign: Sign) -> Operation {
    let compute: fn(f64, f64) -> f64 = match sign {
        Sign::Plus => |one, two| one + two,
        Sign::Minus => |one, two| one - two,
        Sign::Times => |one, two| one * two,
        Sign::DividedBy => |one, two| one / two,
        Sign::Modulo => |one, two| one % two,
    };
    Operation::new(Type::Float, Nulls::Possible, move |arguments| {
        let (one, two) = (arguments.numbers::<Float64Type>(0), arguments.numbers::<Float64Type>(1));
        Ok(arguments.compute_numbers::<Float64Type>(|row| finite(compute(one.at(row), two.at(row)))))
    })
}

/// `-number`
pub fn negate(number: Type) -> Operation {
    Operation::new(number, Nulls::Possible, move |arguments| match number {
        Type::Float => {
            let floats = arguments.numbers::<Float64Type>(0);
            Ok(arguments.compute_numbers::<Float64Type>(|row| finite(-floats.at(row))))
        }
        Type::Interval => {
            let micros = arguments.numbers::<DurationMicrosecondType>(0);
            Ok(arguments.compute_numbers::<DurationMicrosecondType>(|row| micros.at(row).checked_neg()))
        }
        _ => {
            let integers = arguments.numbers::<Int64Type>(0);
            Ok(arguments.compute_numbers::<Int64Type>(|row| integers.at(row).checked_neg()))
        }
    })
}

/// A timestamp moved by an interval, to earlier times if the sign is minus.
pub fn moved(sign: Sign) -> Operation {
    let compute = if sign == Sign::Minus { i64::checked_sub } else { i64::checked_add };
    Operation::new(Type::Timestamp, Nulls::Possible, move |arguments| {
        let times = arguments.numbers::<TimestampMicrosecondType>(0);
        let intervals = arguments.numbers::<DurationMicrosecondType>(1);
        Ok(arguments.compute_timestamps(|row| compute(times.at(row), intervals.at(row))))
    })
}

/// The interval from the second timestamp to the first.
pub fn distance() -> Operation {
    whole_numbers::<TimestampMicrosecondType, TimestampMicrosecondType, DurationMicrosecondType>(
        Type::Interval,
        i64::checked_sub,
    )
}

/// The sum or the difference of two intervals.
pub fn intervals(sign: Sign) -> Operation {
    let compute = if sign == Sign::Minus { i64::checked_sub } else { i64::checked_add };
    whole_numbers::<DurationMicrosecondType, DurationMicrosecondType, DurationMicrosecondType>(Type::Interval, compute)
}

/// `text || text`, all of them; null if one is null.
pub fn join() -> Operation {
    Operation::new(Type::Text, Nulls::OfAny, |arguments| {
        let texts: Vec<_> = (0..arguments.operands.len()).map(|index| arguments.texts(index)).collect();
        Ok(arguments.compute_texts(|row| Some(texts.iter().map(|texts| texts.at(row)).collect::<String>())))
    })
}

/// An operation between whole numbers of 64 bits, whatever they count.
fn whole_numbers<A, B, C>(result: Type, compute: fn(i64, i64) -> Option<i64>) -> Operation
where
    A: ArrowPrimitiveType<Native = i64>,
    B: ArrowPrimitiveType<Native = i64>,
    C: ArrowPrimitiveType<Native = i64>,
{
    Operation::new(result, Nulls::Possible, move |arguments| {
        let (one, two) = (arguments.numbers::<A>(0), arguments.numbers::<B>(1));
        Ok(arguments.compute_numbers::<C>(|row| compute(one.at(row), two.at(row))))
    })
}
