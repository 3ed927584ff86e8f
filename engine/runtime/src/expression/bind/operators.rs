//! Operators with one operand, and the way to those with more.

use arrow::compute::kernels::cmp;
use sqlparser::ast::{Expr, UnaryOperator, Value};
use sqlparser::tokenizer::Token;

use super::Binder;
use crate::expression::error::ExpressionError;
use crate::expression::literals;
use crate::expression::operators::arithmetic;
use crate::expression::operators::logic;
use crate::expression::parse::as_bytes;
use crate::expression::tree::{Operation, Typed};
use crate::expression::types::Type;

impl Binder<'_> {
    pub(super) fn operator(&mut self, syntax: &Expr) -> Option<Typed> {
        match syntax {
            Expr::BinaryOp { .. } => self.chain(syntax),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::IsNull(value) => self.postfix(value, logic::is_missing(), false),
            Expr::IsNotNull(value) => self.postfix(value, logic::is_present(), false),
            Expr::IsUnknown(condition) => self.postfix(condition, logic::is_missing(), true),
            Expr::IsNotUnknown(condition) => self.postfix(condition, logic::is_present(), true),
            Expr::IsTrue(condition) => self.postfix(condition, logic::is(true), true),
            Expr::IsFalse(condition) => self.postfix(condition, logic::is(false), true),
            Expr::IsNotTrue(condition) => {
                let is_true = self.postfix(condition, logic::is(true), true)?;
                self.negated(is_true, true)
            }
            Expr::IsNotFalse(condition) => {
                let is_false = self.postfix(condition, logic::is(false), true)?;
                self.negated(is_false, true)
            }
            Expr::IsDistinctFrom(one, two) => self.distinct(one, two, cmp::distinct),
            Expr::IsNotDistinctFrom(one, two) => self.distinct(one, two, cmp::not_distinct),
            Expr::Between { expr, negated, low, high } => self.between(expr, *negated, low, high),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true)
            }
            _ => self.fail(ExpressionError::new(self.whole(), unknown_syntax(syntax))),
        }
    }

    fn unary(&mut self, operator: UnaryOperator, operand: &Expr) -> Option<Typed> {
        match (operator, operand) {
            // The least integer has no positive counterpart.
            (UnaryOperator::Minus, Expr::Value(value)) if matches!(value.value, Value::Number(_, false)) => {
                let span = as_bytes(value.span);
                let literal = literals::number(&format!("-{}", &self.text[span.clone()]));
                self.literal(literal, self.parsed.tokens.start_before(span.start)..span.end)
            }
            (UnaryOperator::Not, operand) => {
                let operand = self.expression(operand)?;
                let operand = self.condition(operand)?;
                self.negated(operand, true).map(|typed| self.with_prefix(typed))
            }
            (UnaryOperator::Minus | UnaryOperator::Plus, operand) => {
                let operand = self.expression(operand)?;
                let is_signed = operand.data_type.is_number() || operand.data_type == Type::Interval;
                if !is_signed {
                    let message = format!("{}, `{operator}` takes a number", self.said(&operand));
                    return self.fail(ExpressionError::new(operand.span, message));
                }
                let operand = self.with_prefix(operand);
                if operator == UnaryOperator::Plus {
                    return Some(operand);
                }
                let (operation, span) = (arithmetic::negate(operand.data_type), operand.span.clone());
                self.apply(operation, vec![operand], span)
            }
            _ => self.fail(ExpressionError::new(self.whole(), format!("there is no operator `{operator}`"))),
        }
    }

    /// The same with the sign or word before it.
    fn with_prefix(&self, mut typed: Typed) -> Typed {
        typed.span.start = self.parsed.tokens.start_before(typed.span.start);
        typed
    }

    /// `IS …` and its kind, whose words follow the value.
    fn postfix(&mut self, value: &Expr, operation: Operation, is_of_condition: bool) -> Option<Typed> {
        let mut value = self.expression(value)?;
        if is_of_condition {
            value = self.condition(value)?;
        }
        let end = self.parsed.tokens.end_while(value.span.end, |token| {
            matches!(token, Token::Word(word) if ["IS", "NOT", "NULL", "TRUE", "FALSE", "UNKNOWN"]
                .iter().any(|known| word.value.eq_ignore_ascii_case(known)))
        });
        let span = value.span.start..end;
        self.apply(operation, vec![value], span)
    }

    /// Checks that a value is true or false.
    pub(in crate::expression) fn condition(&mut self, operand: Typed) -> Option<Typed> {
        if operand.data_type == Type::Boolean {
            return Some(operand);
        }
        if operand.is_null_literal() {
            return self.coerced(operand, Type::Boolean);
        }
        let words = &self.text[operand.span.clone()];
        let help = match operand.data_type {
            Type::Integer | Type::Float => Some(format!("compare it: `{words} > 0`")),
            Type::Text => Some(format!("compare it: `{words} = 'text'`")),
            _ => None,
        };
        let message = format!("{}, expected a condition (true or false)", self.said(&operand));
        let mut error = ExpressionError::new(operand.span, message);
        error.help = help.filter(|help| help.len() < 60);
        self.fail(error)
    }

    pub(super) fn negated(&mut self, condition: Typed, is_negated: bool) -> Option<Typed> {
        if !is_negated {
            return Some(condition);
        }
        let span = condition.span.clone();
        self.apply(logic::negate(), vec![condition], span)
    }
}

fn unknown_syntax(syntax: &Expr) -> &'static str {
    match syntax {
        Expr::SimilarTo { .. } | Expr::RLike { .. } => "there are no regular expressions, only LIKE and ILIKE",
        Expr::Like { .. } | Expr::ILike { .. } => {
            "LIKE has no ANY and no ESCAPE here; `\\` goes before a letter that is meant itself"
        }
        Expr::AtTimeZone { .. } => "there are no time zones here, all timestamps are UTC",
        Expr::AnyOp { .. } | Expr::AllOp { .. } => "there is no ANY and no ALL, write `IN (…)` or several conditions",
        Expr::Tuple(_) => "a list in parentheses stands only after IN",
        Expr::Collate { .. } => "there are no collations, texts are compared by their Unicode code points",
        _ => "this is not part of the language of expressions",
    }
}
