//! Operators between operands, which form chains: `a AND b AND c`, `a + b - c`.

use arrow::compute::kernels::cmp;
use sqlparser::ast::{BinaryOperator, Expr};

use super::{Binder, spanning};
use crate::expression::error::ExpressionError;
use crate::expression::functions::print;
use crate::expression::operators::arithmetic::{self, Sign};
use crate::expression::operators::compare::Comparison;
use crate::expression::operators::logic;
use crate::expression::tree::{Nulls, Typed};
use crate::expression::types::Type;

/// What is between two operands.
#[derive(Debug, Clone, Copy)]
enum Infix {
    Compare(Comparison),
    Arithmetic(Sign),
}

/// Operators of which any number make one call.
#[derive(Debug, Clone, Copy)]
enum Join {
    All,
    Any,
    Text,
}

impl Binder<'_> {
    /// A chain of operators, whose syntax is as deep as it is long: taken apart without recursion.
    pub(super) fn chain(&mut self, syntax: &Expr) -> Option<Typed> {
        let mut links = Vec::new();
        let mut first = syntax;
        while let Expr::BinaryOp { left, op, right } = first {
            links.push((op, right));
            first = left;
        }
        let mut result = self.expression(first);
        let mut links = links.into_iter().rev().peekable();
        while let Some((operator, right)) = links.next() {
            let Some(join) = join_of(operator) else {
                let right = self.expression(right);
                result = self.infix(operator, result, right);
                continue;
            };
            // Equal ones in a row become one call.
            let mut all = vec![result, self.expression(right)];
            while let Some((_, next)) = links.next_if(|(next, _)| *next == operator) {
                all.push(self.expression(next));
            }
            result = self.joined(join, all);
        }
        result
    }

    fn joined(&mut self, join: Join, operands: Vec<Option<Typed>>) -> Option<Typed> {
        let operands = match join {
            Join::Text => {
                // Missing operands have been reported.
                let operands: Vec<Typed> = operands.into_iter().collect::<Option<_>>()?;
                self.printed(operands)?
            }
            Join::All | Join::Any => {
                let checked: Vec<_> = operands.into_iter().map(|operand| self.condition(operand?)).collect();
                checked.into_iter().collect::<Option<Vec<_>>>()?
            }
        };
        let operation = match join {
            Join::All => logic::all(),
            Join::Any => logic::any(),
            Join::Text => arithmetic::join(),
        };
        let span = spanning(&operands);
        self.apply(operation, operands, span)
    }

    fn printed(&mut self, operands: Vec<Typed>) -> Option<Vec<Typed>> {
        let has_text = operands.iter().any(|operand| operand.data_type == Type::Text);
        if !has_text {
            let error = ExpressionError::new(spanning(&operands), "`||` joins texts, and none of these is one");
            let are_conditions = operands.iter().all(|operand| operand.data_type == Type::Boolean);
            return self.fail(error.with_help(if are_conditions { "write `OR`" } else { "write `CONCAT(a, b)`" }));
        }
        let printed: Vec<_> = operands.into_iter().map(|operand| self.as_text(operand, "`||`")).collect();
        printed.into_iter().collect()
    }

    /// Turns any value into a text.
    pub(super) fn as_text(&mut self, operand: Typed, wanted_by: &str) -> Option<Typed> {
        let Some(operation) = print(operand.data_type) else {
            let message = format!("{}, {wanted_by} joins texts", self.said(&operand));
            return self.fail(ExpressionError::new(operand.span, message));
        };
        let span = operand.span.clone();
        self.apply(operation, vec![operand], span)
    }

    fn infix(&mut self, operator: &BinaryOperator, left: Option<Typed>, right: Option<Typed>) -> Option<Typed> {
        let infix = match operator {
            BinaryOperator::Eq => Infix::Compare(cmp::eq),
            BinaryOperator::NotEq => Infix::Compare(cmp::neq),
            BinaryOperator::Lt => Infix::Compare(cmp::lt),
            BinaryOperator::LtEq => Infix::Compare(cmp::lt_eq),
            BinaryOperator::Gt => Infix::Compare(cmp::gt),
            BinaryOperator::GtEq => Infix::Compare(cmp::gt_eq),
            BinaryOperator::Plus => Infix::Arithmetic(Sign::Plus),
            BinaryOperator::Minus => Infix::Arithmetic(Sign::Minus),
            BinaryOperator::Multiply => Infix::Arithmetic(Sign::Times),
            BinaryOperator::Divide => Infix::Arithmetic(Sign::DividedBy),
            BinaryOperator::Modulo => Infix::Arithmetic(Sign::Modulo),
            other => {
                let span =
                    left.map_or(0, |left| left.span.start)..right.map_or(self.text.len(), |right| right.span.end);
                return self.fail(ExpressionError::new(span, format!("there is no operator `{other}`")));
            }
        };
        let (left, right) = (left?, right?);
        for operand in [&left, &right] {
            if operand.is_null_literal() {
                let error =
                    ExpressionError::new(operand.span.clone(), format!("`{operator}` with NULL is always NULL"));
                let other = if left.is_null_literal() { self.quoted(&right) } else { self.quoted(&left) };
                let other = other.trim_matches('`');
                return self.fail(error.with_help(match infix {
                    Infix::Compare(_) => format!("write `{other} IS NULL` or `{other} IS NOT NULL`"),
                    Infix::Arithmetic(_) => "leave it out".to_owned(),
                }));
            }
        }
        match infix {
            Infix::Compare(comparison) => self.compare(comparison, Nulls::OfAny, left, right),
            Infix::Arithmetic(sign) => self.arithmetic(sign, left, right),
        }
    }
}

/// None for operators that take two operands only.
fn join_of(operator: &BinaryOperator) -> Option<Join> {
    match operator {
        BinaryOperator::And => Some(Join::All),
        BinaryOperator::Or => Some(Join::Any),
        BinaryOperator::StringConcat => Some(Join::Text),
        _ => None,
    }
}
