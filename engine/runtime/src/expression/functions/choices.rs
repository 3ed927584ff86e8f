//! Functions that choose among values: `CASE`, `COALESCE`, `NULLIF`, `LEAST`, `GREATEST`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::kernels::cmp;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, is_null, nullif, or_kleene};
use arrow::error::ArrowError;

use crate::expression::error::ExpressionError;
use crate::expression::operators::compare::{Comparison, ordered};
use crate::expression::operators::logic::where_true;
use crate::expression::tree::{Arguments, Nulls, Operand, Operation, Typed};
use crate::expression::types::Type;

type Made = Result<Operation, ExpressionError>;

/// `CASE`: conditions and values in turn, at the end the value for the rest.
///
/// All values are computed for all rows: none of them can fail.
pub fn case(value: Type) -> Operation {
    Operation::new(value, Nulls::Possible, |arguments| {
        let last = arguments.operands.len() - 1;
        let mut chosen = arguments.expanded(last)?;
        for index in (0..last).step_by(2).rev() {
            let condition = arguments.expanded(index)?;
            let is_met = where_true(condition.as_boolean());
            chosen = zip(&is_met, &arguments.operands[index + 1], &Operand::rows(chosen))?;
        }
        Ok(chosen)
    })
}

pub fn coalesce(arguments: &[Typed]) -> Made {
    Ok(Operation::new(arguments[0].data_type, Nulls::OfAll, |arguments| {
        fold(arguments, |chosen, _| is_not_null(&chosen.array))
    }))
}

pub fn least(arguments: &[Typed]) -> Made {
    Ok(extreme(arguments[0].data_type, cmp::lt_eq))
}

pub fn greatest(arguments: &[Typed]) -> Made {
    Ok(extreme(arguments[0].data_type, cmp::gt_eq))
}

pub fn null_if(arguments: &[Typed]) -> Made {
    Ok(Operation::new(arguments[0].data_type, Nulls::Possible, |arguments| {
        let value = Operand::rows(arguments.expanded(0)?);
        let is_unwanted = cmp::eq(&ordered(&value), &ordered(&arguments.operands[1]))?;
        nullif(&value.array, &where_true(&is_unwanted))
    }))
}

fn extreme(value: Type, is_first: Comparison) -> Operation {
    Operation::new(value, Nulls::OfAll, move |arguments| {
        fold(arguments, |chosen, next| {
            let is_better = is_first(&ordered(chosen), &ordered(next))?;
            let is_only = is_null(&next.expanded(arguments.n_rows)?)?;
            Ok(where_true(&or_kleene(&is_better, &is_only)?))
        })
    })
}

/// Goes through the arguments, keeping for each row the one chosen so far or taking the next.
fn fold<K>(arguments: &Arguments, keeps: K) -> Result<ArrayRef, ArrowError>
where
    K: Fn(&Operand, &Operand) -> Result<BooleanArray, ArrowError>,
{
    let mut chosen = Operand::rows(arguments.expanded(0)?);
    for next in &arguments.operands[1..] {
        let is_kept = keeps(&chosen, next)?;
        chosen = Operand::rows(zip(&is_kept, &chosen, next)?);
    }
    Ok(Arc::clone(&chosen.array))
}
