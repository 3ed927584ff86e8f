//! Comparisons, `BETWEEN`, `IN` and `LIKE`.
//!
//! Floats are in one order, PostgreSQL's: -0 equals 0, NaN equals NaN and is above all numbers. So `NOT a < b` is
//! `a >= b` for all values. Arrow's own order tells -0 from 0 and puts negative NaNs first.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Datum};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cmp;
use arrow::compute::{and_kleene, ilike, like, or_kleene};
use arrow::datatypes::{DurationMicrosecondType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::expression::tree::{Arguments, Nulls, Operand, Operation};
use crate::expression::types::Type;

/// One of Arrow's comparisons.
pub type Comparison = fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>;

/// Compares two values; null if one is null, unless the comparison says otherwise.
pub fn compare(comparison: Comparison, nulls: Nulls) -> Operation {
    Operation::new(Type::Boolean, nulls, move |arguments| {
        let [one, two] = [&arguments.operands[0], &arguments.operands[1]];
        Ok(Arc::new(comparison(&ordered(one), &ordered(two))?))
    })
}

/// `value BETWEEN low AND high`, both included.
pub fn between() -> Operation {
    Operation::new(Type::Boolean, Nulls::OfAny, |arguments| {
        let [low, high] = [1, 2].map(|index| ordered(&arguments.operands[index]));
        let value = ordered(&Operand::rows(arguments.expanded(0)?));
        Ok(Arc::new(and_kleene(&cmp::gt_eq(&value, &low)?, &cmp::lt_eq(&value, &high)?)?))
    })
}

/// `text LIKE pattern`: `%` for any letters, `_` for one, `\` before one that is meant itself.
pub fn matches_pattern(ignores_case: bool) -> Operation {
    let matches = if ignores_case { ilike } else { like };
    Operation::new(Type::Boolean, Nulls::OfAny, move |arguments| {
        Ok(Arc::new(matches(&arguments.operands[0], &arguments.operands[1])?))
    })
}

/// `value IN (…)` for a list of constants, which are no arguments: one look-up however long the list is.
///
/// None for types of which there are so few values that [`equals_any`] is as good.
pub fn is_among(value: Type, constants: &[ArrayRef]) -> Option<Operation> {
    Some(match value {
        Type::Text => among_texts(constants),
        Type::Float => among::<Float64Type, _>(constants, |float| order_float(float).to_bits()),
        Type::Integer => among::<Int64Type, _>(constants, |integer| integer),
        Type::Timestamp => among::<TimestampMicrosecondType, _>(constants, |micros| micros),
        Type::Interval => among::<DurationMicrosecondType, _>(constants, |micros| micros),
        Type::Boolean | Type::Null => return None,
    })
}

/// `value IN (…)` for any list; its members are the arguments after the value.
pub fn equals_any() -> Operation {
    Operation::new(Type::Boolean, Nulls::OfAny, compare_with_each)
}

fn compare_with_each(arguments: &Arguments) -> Result<ArrayRef, ArrowError> {
    // Expanded, because of two constants Arrow would give one row.
    let value = ordered(&Operand::rows(arguments.expanded(0)?));
    let mut found = BooleanArray::from(vec![false; arguments.n_rows]);
    for member in &arguments.operands[1..] {
        found = or_kleene(&found, &cmp::eq(&value, &ordered(member))?)?;
    }
    Ok(Arc::new(found))
}

fn among<T, K>(constants: &[ArrayRef], key: fn(T::Native) -> K) -> Operation
where
    T: ArrowPrimitiveType,
    K: Hash + Eq + Send + Sync + 'static,
{
    let present = constants.iter().filter(|constant| constant.is_valid(0));
    let members: HashSet<K> = present.map(|constant| key(constant.as_primitive::<T>().value(0))).collect();
    let has_null = constants.iter().any(|constant| constant.is_null(0));
    Operation::new(Type::Boolean, null_if(has_null), move |arguments| {
        let values = arguments.numbers::<T>(0);
        Ok(found(arguments, has_null, |row| members.contains(&key(values.at(row)))))
    })
}

fn among_texts(constants: &[ArrayRef]) -> Operation {
    let present = constants.iter().filter(|constant| constant.is_valid(0));
    let members: HashSet<String> = present.map(|constant| constant.as_string::<i32>().value(0).to_owned()).collect();
    let has_null = constants.iter().any(|constant| constant.is_null(0));
    Operation::new(Type::Boolean, null_if(has_null), move |arguments| {
        let texts = arguments.texts(0);
        Ok(found(arguments, has_null, |row| members.contains(texts.at(row))))
    })
}

fn null_if(has_null: bool) -> Nulls {
    if has_null { Nulls::Possible } else { Nulls::OfAny }
}

/// A value that is not found is unknown if the list has a null: it might be that.
fn found(arguments: &Arguments, has_null: bool, is_member: impl Fn(usize) -> bool) -> ArrayRef {
    let found: BooleanArray = (0..arguments.n_rows).map(|row| Some(is_member(row))).collect();
    let of_value = arguments.operands[0].array.nulls();
    let of_list = has_null.then(|| NullBuffer::new(found.values().clone()));
    let nulls = NullBuffer::union(of_value, of_list.as_ref());
    Arc::new(BooleanArray::new(found.values().clone(), nulls))
}

/// The operand with floats such that Arrow's order is ours.
pub(in crate::expression) fn ordered(operand: &Operand) -> Operand {
    let array = match operand.array.as_primitive_opt::<Float64Type>() {
        Some(floats) => Arc::new(floats.unary::<_, Float64Type>(order_float)),
        None => Arc::clone(&operand.array),
    };
    Operand { array, is_constant: operand.is_constant }
}

fn order_float(float: f64) -> f64 {
    // Adding zero turns -0 into 0.
    if float.is_nan() { f64::NAN } else { float + 0.0 }
}
