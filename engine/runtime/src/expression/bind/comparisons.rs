//! Comparisons: which types can be compared, and what to say of others.

use arrow::array::{Array, AsArray};
use sqlparser::ast::Expr;

use super::{Binder, spanning};
use crate::expression::error::ExpressionError;
use crate::expression::literals;
use crate::expression::operators::compare::{self, Comparison};
use crate::expression::tree::{Nulls, Typed};
use crate::expression::types::Type;

/// Why values must be of one type, for messages.
pub(super) const COMPARED: &str = "they cannot be compared";
pub(super) const CHOSEN: &str = "either may be the result, so they need one type";

impl Binder<'_> {
    /// Compares two values of any types that can be compared.
    pub(super) fn compare(&mut self, comparison: Comparison, nulls: Nulls, left: Typed, right: Typed) -> Option<Typed> {
        let span = left.span.start..right.span.end;
        let both = self.of_one_type(vec![left, right], COMPARED)?;
        self.apply(compare::compare(comparison, nulls), both, span)
    }

    /// Brings values to one type; texts that are written beside timestamps are read as such.
    pub(super) fn of_one_type(&mut self, operands: Vec<Typed>, purpose: &str) -> Option<Vec<Typed>> {
        let has_time = operands.iter().any(|operand| operand.data_type == Type::Timestamp);
        let read =
            operands.into_iter().map(|operand| if has_time { self.time_literal(operand) } else { Some(operand) });
        let operands = read.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
        let mut common = Type::Null;
        for operand in &operands {
            let Some(wider) = common.common(operand.data_type) else {
                let other = operands.iter().find(|other| !other.is_null_literal()).unwrap_or(operand);
                return self.fail(self.not_of_one_type(other, operand, purpose));
            };
            common = wider;
        }
        operands.into_iter().map(|operand| self.coerced(operand, common)).collect()
    }

    fn time_literal(&mut self, operand: Typed) -> Option<Typed> {
        let Some(text) = literal_text(&operand) else {
            return Some(operand);
        };
        let literal = literals::timestamp(text);
        self.literal(literal, operand.span)
    }

    pub(super) fn distinct(&mut self, one: &Expr, two: &Expr, comparison: Comparison) -> Option<Typed> {
        let (one, two) = (self.expression(one), self.expression(two));
        self.compare(comparison, Nulls::Never, one?, two?)
    }

    pub(super) fn between(&mut self, value: &Expr, is_negated: bool, low: &Expr, high: &Expr) -> Option<Typed> {
        let all = [value, low, high].map(|operand| self.expression(operand));
        let all: Vec<Typed> = all.into_iter().collect::<Option<_>>()?;
        if let Some(null) = all.iter().find(|operand| operand.is_null_literal()) {
            let error = ExpressionError::new(null.span.clone(), "`BETWEEN` with NULL is never true");
            return self.fail(error.with_help("write `<=` or `>=` for one bound alone"));
        }
        let all = self.of_one_type(all, COMPARED)?;
        let span = spanning(&all);
        let between = self.apply(compare::between(), all, span)?;
        self.negated(between, is_negated)
    }

    pub(super) fn in_list(&mut self, value: &Expr, list: &[Expr], is_negated: bool) -> Option<Typed> {
        let all: Vec<_> = std::iter::once(value).chain(list).map(|member| self.expression(member)).collect();
        let all: Vec<Typed> = all.into_iter().collect::<Option<_>>()?;
        if let Some(null) = all[1..].iter().find(|member| member.is_null_literal()) {
            let error = ExpressionError::new(null.span.clone(), "nothing is equal to NULL, not even in a list");
            return self.fail(error.with_help(format!("write `{} IS NULL`", &self.text[all[0].span.clone()])));
        }
        let span = all[0].span.start..self.parsed.tokens.end_of_parentheses(all[0].span.end);
        let mut all = self.of_one_type(all, COMPARED)?;
        let constants: Option<Vec<_>> = all[1..].iter().map(|member| member.node.constant().cloned()).collect();
        let look_up = constants.and_then(|constants| compare::is_among(all[0].data_type, &constants));
        if look_up.is_some() {
            all.truncate(1);
        }
        let operation = look_up.unwrap_or_else(compare::equals_any);
        let found = self.apply(operation, all, span)?;
        self.negated(found, is_negated)
    }

    pub(super) fn like(&mut self, text: &Expr, pattern: &Expr, is_negated: bool, ignores_case: bool) -> Option<Typed> {
        let both = [text, pattern].map(|operand| self.expression(operand));
        let both: Vec<Typed> = both.into_iter().collect::<Option<_>>()?;
        if let Some(wrong) = both.iter().find(|operand| operand.data_type != Type::Text) {
            let message = format!("{}, `LIKE` takes texts", self.said(wrong));
            return self.fail(ExpressionError::new(wrong.span.clone(), message));
        }
        let span = spanning(&both);
        let matches = self.apply(compare::matches_pattern(ignores_case), both, span)?;
        self.negated(matches, is_negated)
    }

    fn not_of_one_type(&self, first: &Typed, other: &Typed, purpose: &str) -> ExpressionError {
        let message = format!("{} and {}: {purpose}", self.said(first), self.said(other));
        let error = ExpressionError::new(other.span.clone(), message);
        let words = |typed: &Typed| self.text[typed.span.clone()].to_owned();
        let is_text = |typed: &&Typed| typed.data_type == Type::Text;
        match ([first, other].into_iter().find(is_text), first.data_type, other.data_type) {
            (_, Type::Boolean, Type::Integer | Type::Text) => {
                let condition = words(first);
                error.with_help(format!("a boolean is a condition by itself: `{condition}` or `NOT {condition}`"))
            }
            (_, Type::Timestamp, Type::Integer | Type::Float) => {
                error.with_help("`EXTRACT(EPOCH FROM …)` gives seconds since 1970")
            }
            (Some(text), one, two) if one.is_number() || two.is_number() => match literal_text(text) {
                Some(digits) if digits.parse::<f64>().is_ok_and(f64::is_finite) => {
                    error.with_help(format!("numbers are written without quotes: `{digits}`"))
                }
                Some(_) => error.with_help("numbers are written without quotes"),
                None => error.with_help(format!("`CAST({} AS FLOAT)` reads a number", words(text))),
            },
            _ => error.with_help("`CAST(… AS type)` turns one type into another"),
        }
    }
}

/// The text of an operand that is the same for all rows.
fn literal_text(operand: &Typed) -> Option<&str> {
    match operand.node.constant() {
        Some(array) if array.is_valid(0) => Some(array.as_string_opt::<i32>()?.value(0)),
        _ => None,
    }
}
