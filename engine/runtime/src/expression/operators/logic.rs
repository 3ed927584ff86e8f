//! `AND`, `OR`, `NOT`, `IS TRUE`, `IS NULL`: SQL's logic of true, false and unknown (null).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{and_kleene, is_not_null, is_null, not, or_kleene};
use arrow::error::ArrowError;

use crate::expression::tree::{Arguments, Nulls, Operation};
use crate::expression::types::Type;

/// All of any number of conditions: false if one is false, else null if one is null.
pub fn all() -> Operation {
    Operation::new(Type::Boolean, Nulls::OfAny, |arguments| join(arguments, and_kleene))
}

/// Any of any number of conditions: true if one is true, else null if one is null.
pub fn any() -> Operation {
    Operation::new(Type::Boolean, Nulls::OfAny, |arguments| join(arguments, or_kleene))
}

/// The opposite; null stays null.
pub fn negate() -> Operation {
    Operation::new(Type::Boolean, Nulls::OfAny, |arguments| Ok(Arc::new(not(arguments.expanded(0)?.as_boolean())?)))
}

/// `IS TRUE` and `IS FALSE`: never null.
pub fn is(wanted: bool) -> Operation {
    Operation::new(Type::Boolean, Nulls::Never, move |arguments| {
        let condition = arguments.expanded(0)?;
        let condition = condition.as_boolean();
        let as_wanted = if wanted { condition.clone() } else { not(condition)? };
        Ok(Arc::new(where_true(&as_wanted)))
    })
}

/// `IS NULL` for values of any type.
pub fn is_missing() -> Operation {
    Operation::new(Type::Boolean, Nulls::Never, |arguments| Ok(Arc::new(is_null(&arguments.expanded(0)?)?)))
}

/// `IS NOT NULL` for values of any type.
pub fn is_present() -> Operation {
    Operation::new(Type::Boolean, Nulls::Never, |arguments| Ok(Arc::new(is_not_null(&arguments.expanded(0)?)?)))
}

/// The same with null as false.
pub(in crate::expression) fn where_true(condition: &BooleanArray) -> BooleanArray {
    match condition.nulls() {
        Some(nulls) => BooleanArray::new(condition.values() & nulls.inner(), None),
        None => condition.clone(),
    }
}

type Join = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, ArrowError>;

fn join(arguments: &Arguments, two: Join) -> Result<ArrayRef, ArrowError> {
    let mut joined = arguments.expanded(0)?.as_boolean().clone();
    for index in 1..arguments.operands.len() {
        joined = two(&joined, arguments.expanded(index)?.as_boolean())?;
    }
    Ok(Arc::new(joined))
}
