//! Arithmetic between numbers, timestamps and intervals.

use super::Binder;
use crate::expression::error::ExpressionError;
use crate::expression::operators::arithmetic::{self, Sign};
use crate::expression::tree::Typed;
use crate::expression::types::Type;

impl Binder<'_> {
    pub(super) fn arithmetic(&mut self, sign: Sign, left: Typed, right: Typed) -> Option<Typed> {
        use Type::{Interval, Timestamp};
        let span = left.span.start..right.span.end;
        let operation = match (left.data_type, sign, right.data_type) {
            (one, _, two) if one.is_number() && two.is_number() => return self.of_numbers(sign, left, right),
            (Timestamp, Sign::Plus | Sign::Minus, Interval) => arithmetic::moved(sign),
            (Interval, Sign::Plus, Timestamp) => return self.apply(arithmetic::moved(sign), vec![right, left], span),
            (Timestamp, Sign::Minus, Timestamp) => arithmetic::distance(),
            (Interval, Sign::Plus | Sign::Minus, Interval) => arithmetic::intervals(sign),
            _ => return self.fail(self.no_arithmetic(sign, &left, &right)),
        };
        self.apply(operation, vec![left, right], span)
    }

    fn of_numbers(&mut self, sign: Sign, left: Typed, right: Typed) -> Option<Typed> {
        let span = left.span.start..right.span.end;
        if left.data_type == Type::Integer && right.data_type == Type::Integer {
            return self.apply(arithmetic::integers(sign), vec![left, right], span);
        }
        let both = vec![self.coerced(left, Type::Float)?, self.coerced(right, Type::Float)?];
        self.apply(arithmetic::floats(sign), both, span)
    }

    fn no_arithmetic(&self, sign: Sign, left: &Typed, right: &Typed) -> ExpressionError {
        let has_time =
            [left, right].iter().any(|operand| matches!(operand.data_type, Type::Timestamp | Type::Interval));
        let is_moved = has_time && matches!(sign, Sign::Plus | Sign::Minus);
        // Points at the operand that is out of place: with a time the other one, else the one that is no number.
        let is_wrong = |operand: &&Typed| {
            if is_moved { operand.data_type != Type::Timestamp } else { !operand.data_type.is_number() }
        };
        let wrong = [right, left].into_iter().find(is_wrong).unwrap_or(right);
        let sign = sign.text();
        if is_moved {
            let message = format!("{}, `{sign}` moves a timestamp by an interval", self.said(wrong));
            return ExpressionError::new(wrong.span.clone(), message).with_help("write it like INTERVAL '5 minutes'");
        }
        let error = ExpressionError::new(wrong.span.clone(), format!("{}, `{sign}` takes numbers", self.said(wrong)));
        match (sign, wrong.data_type) {
            ("+", Type::Text) => error.with_help("texts are joined by `||`, and `CAST(… AS FLOAT)` reads a number"),
            (_, Type::Text) => error.with_help("`CAST(… AS FLOAT)` reads a number"),
            _ => error,
        }
    }
}
