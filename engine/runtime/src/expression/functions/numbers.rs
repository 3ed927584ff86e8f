//! Functions of numbers; what has no finite result is null.

use arrow::datatypes::{Float64Type, Int64Type};

use crate::expression::cells::finite;
use crate::expression::error::ExpressionError;
use crate::expression::tree::{Nulls, Operation, Typed};
use crate::expression::types::Type;

type Made = Result<Operation, ExpressionError>;

pub fn abs(arguments: &[Typed]) -> Made {
    of_number(arguments, i64::checked_abs, f64::abs)
}

pub fn floor(arguments: &[Typed]) -> Made {
    of_number(arguments, Some, f64::floor)
}

pub fn ceil(arguments: &[Typed]) -> Made {
    of_number(arguments, Some, f64::ceil)
}

pub fn round(arguments: &[Typed]) -> Made {
    match (arguments[0].data_type, arguments.len()) {
        (_, 1) => of_number(arguments, Some, f64::round),
        (Type::Float, _) => Ok(Operation::new(Type::Float, Nulls::Possible, |arguments| {
            let (floats, digits) = (arguments.numbers::<Float64Type>(0), arguments.numbers::<Int64Type>(1));
            Ok(arguments.compute_numbers::<Float64Type>(|row| round_float(floats.at(row), digits.at(row))))
        })),
        _ => Ok(Operation::new(Type::Integer, Nulls::Possible, |arguments| {
            let (integers, digits) = (arguments.numbers::<Int64Type>(0), arguments.numbers::<Int64Type>(1));
            Ok(arguments.compute_numbers::<Int64Type>(|row| round_integer(integers.at(row), digits.at(row))))
        })),
    }
}

pub fn sqrt(_: &[Typed]) -> Made {
    of_float(f64::sqrt)
}

pub fn exp(_: &[Typed]) -> Made {
    of_float(f64::exp)
}

pub fn ln(_: &[Typed]) -> Made {
    of_float(f64::ln)
}

pub fn log10(_: &[Typed]) -> Made {
    of_float(f64::log10)
}

pub fn power(_: &[Typed]) -> Made {
    Ok(Operation::new(Type::Float, Nulls::Possible, |arguments| {
        let (bases, exponents) = (arguments.numbers::<Float64Type>(0), arguments.numbers::<Float64Type>(1));
        Ok(arguments.compute_numbers::<Float64Type>(|row| finite(bases.at(row).powf(exponents.at(row)))))
    }))
}

fn of_float(compute: fn(f64) -> f64) -> Made {
    Ok(Operation::new(Type::Float, Nulls::Possible, move |arguments| {
        let floats = arguments.numbers::<Float64Type>(0);
        Ok(arguments.compute_numbers::<Float64Type>(|row| finite(compute(floats.at(row)))))
    }))
}

fn of_number(arguments: &[Typed], of_integer: fn(i64) -> Option<i64>, of_float: fn(f64) -> f64) -> Made {
    if arguments[0].data_type == Type::Float {
        return self::of_float(of_float);
    }
    Ok(Operation::new(Type::Integer, Nulls::Possible, move |arguments| {
        let integers = arguments.numbers::<Int64Type>(0);
        Ok(arguments.compute_numbers::<Int64Type>(|row| of_integer(integers.at(row))))
    }))
}

fn round_float(float: f64, digits: i64) -> Option<f64> {
    // 10^22 is the greatest power of ten that a float holds exactly. A float has at most 17 digits, so that beyond
    // this nothing is left to round, or nothing is left at all.
    if digits > 22 {
        return finite(float);
    }
    let scale = 10_f64.powi(digits.unsigned_abs().min(400) as i32);
    if digits < 0 {
        return if scale.is_finite() { finite((float / scale).round() * scale) } else { finite(float).map(|_| 0.0) };
    }
    match float * scale {
        // So great that it has no digits after the point.
        scaled if scaled.is_infinite() => finite(float),
        scaled => finite(scaled.round() / scale),
    }
}

fn round_integer(integer: i64, digits: i64) -> Option<i64> {
    if digits >= 0 {
        return Some(integer);
    }
    let Some(scale) = u32::try_from(digits.unsigned_abs()).ok().and_then(|zeros| 10_i128.checked_pow(zeros)) else {
        return Some(0);
    };
    let integer = i128::from(integer);
    let half = integer.signum() * scale / 2;
    i64::try_from((integer + half) / scale * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_any_number_of_digits() {
        for (float, digits, expected) in [
            (2.5, 0, 2.5_f64.round()),
            (-2.5, 0, -3.0),
            (1234.5678, 2, 1234.57),
            (1250.0, -2, 1300.0),
            (0.1, 400, 0.1),
            (1e300, 20, 1e300),
            (1e300, -400, 0.0),
            (4e22, -22, 4e22),
        ] {
            assert_eq!(round_float(float, digits), Some(expected), "{float} {digits}");
        }
        for (integer, digits, expected) in [
            (1250, -2, Some(1300)),
            (-1250, -2, Some(-1300)),
            (1249, -2, Some(1200)),
            (7, 3, Some(7)),
            (i64::MAX, -19, None),
            (i64::MAX, -20, Some(0)),
            (i64::MAX, -18, Some(9_000_000_000_000_000_000)),
            (i64::MAX, -1, None),
            (i64::MAX, i64::MIN, Some(0)),
        ] {
            assert_eq!(round_integer(integer, digits), expected, "{integer} {digits}");
        }
    }
}
