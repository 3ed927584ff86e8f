//! From sqlparser's syntax tree to a typed tree: finds columns, checks types, reports all mistakes at once.

mod arithmetic;
mod calls;
mod chains;
mod comparisons;
mod operators;

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use sqlparser::ast::{DataType as SqlType, Expr, Ident, Interval, TypedString, Value, ValueWithSpan};

use super::error::{ExpressionError, in_backticks, nearest};
use super::functions::convert;
use super::literals::{self, Literal};
use super::parse::{Parsed, as_bytes, too_deep};
use super::tree::{Node, Operation, Typed};
use super::types::Type;

/// The deepest tree. Computing a level takes less than 2 KB of stack; chains of `AND`, `OR` and `||` are one level.
const MAX_DEPTH: usize = 100;

/// Compiles one expression for rows of one schema.
pub(super) struct Binder<'a> {
    text: &'a str,
    parsed: &'a Parsed,
    schema: &'a Schema,
    depth: usize,
    /// The indices of the columns used, in the order of the text.
    pub columns: Vec<usize>,
    /// What is wrong, in the order of the text.
    pub errors: Vec<ExpressionError>,
}

impl<'a> Binder<'a> {
    /// A binder that has not looked at the syntax yet.
    pub fn new(text: &'a str, parsed: &'a Parsed, schema: &'a Schema) -> Self {
        Binder { text, parsed, schema, depth: 0, columns: Vec::new(), errors: Vec::new() }
    }

    /// Compiles an expression; none if it is wrong, which is then among the errors.
    pub fn expression(&mut self, syntax: &Expr) -> Option<Typed> {
        if self.depth == MAX_DEPTH {
            return self.fail(too_deep(0..self.text.len()));
        }
        self.depth += 1;
        let typed = self.any_expression(syntax);
        self.depth -= 1;
        typed
    }

    fn any_expression(&mut self, syntax: &Expr) -> Option<Typed> {
        match syntax {
            Expr::Identifier(name) => self.column(name),
            Expr::CompoundIdentifier(names) => self.qualified_column(names),
            Expr::Value(value) => self.value(value),
            Expr::TypedString(typed) => self.typed_string(typed),
            Expr::Interval(interval) => self.interval(interval),
            Expr::Nested(inner) => {
                let mut typed = self.expression(inner)?;
                typed.span =
                    self.parsed.tokens.start_before(typed.span.start)..self.parsed.tokens.end_after(typed.span.end, 1);
                Some(typed)
            }
            Expr::Function(_)
            | Expr::Case { .. }
            | Expr::Cast { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. } => self.call(syntax),
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                let error = ExpressionError::new(self.whole(), "an expression sees one row, it cannot have queries");
                self.fail(error.with_help("write the values out: `sensor_id IN ('a', 'b')`"))
            }
            Expr::Position { .. } => self.call(syntax),
            _ => self.operator(syntax),
        }
    }

    fn column(&mut self, name: &Ident) -> Option<Typed> {
        let span = as_bytes(name.span);
        let Some((index, field)) = self.schema.column_with_name(&name.value) else {
            let error = self.unknown_column(name, span);
            return self.fail(error);
        };
        let Some(data_type) = Type::of_column(field.data_type()) else {
            let message = format!("column `{}` is {}, which expressions cannot use", name.value, field.data_type());
            return self.fail(ExpressionError::new(span, message));
        };
        if !self.columns.contains(&index) {
            self.columns.push(index);
        }
        let node = Node::Column { index, name: name.value.clone(), data_type: field.data_type().clone() };
        Some(Typed { node, data_type, is_nullable: field.is_nullable(), span, depth: 1 })
    }

    fn unknown_column(&self, name: &Ident, span: Range<usize>) -> ExpressionError {
        let names = || self.schema.fields().iter().map(|field| field.name().as_str());
        let error = ExpressionError::new(span, format!("there is no column `{}`", name.value));
        match nearest(&name.value, names()) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None if name.quote_style == Some('"') => {
                error.with_help(format!("text is written in single quotes: '{}'", name.value))
            }
            None if self.schema.fields().is_empty() => error.with_help("there are no columns"),
            None => error.with_help(format!("there are {}", in_backticks(names()))),
        }
    }

    fn qualified_column(&mut self, names: &[Ident]) -> Option<Typed> {
        let spans = names.iter().map(|name| as_bytes(name.span));
        let span = spans.reduce(|first, last| first.start..last.end).unwrap_or_else(|| self.whole());
        let joined = names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".");
        let last = names.last().map_or("", |name| &name.value);
        let error = ExpressionError::new(span, format!("`{joined}` is not the name of a column"));
        let error = if self.schema.column_with_name(&joined).is_some() {
            error.with_help(format!("write a name with dots in double quotes: \"{joined}\""))
        } else if self.schema.column_with_name(last).is_some() {
            error.with_help(format!("write `{last}`: there is only one table"))
        } else {
            error
        };
        self.fail(error)
    }

    fn value(&mut self, value: &ValueWithSpan) -> Option<Typed> {
        let span = as_bytes(value.span);
        match &value.value {
            Value::Number(digits, false) => self.literal(literals::number(digits), span),
            Value::SingleQuotedString(text) => self.literal(Ok(literals::text(text)), span),
            Value::Boolean(boolean) => self.literal(Ok(literals::boolean(*boolean)), span),
            Value::Null => self.literal(Ok(literals::null()), span),
            _ => {
                let message = format!("`{}` is not part of the language", &self.text[span.clone()]);
                self.fail(
                    ExpressionError::new(span, message).with_help("there are numbers, 'texts', TRUE, FALSE and NULL"),
                )
            }
        }
    }

    fn typed_string(&mut self, typed: &TypedString) -> Option<Typed> {
        let span = as_bytes(typed.value.span);
        let span = self.parsed.tokens.start_before(span.start)..span.end;
        match (&typed.data_type, &typed.value.value) {
            (SqlType::Timestamp(None, _), Value::SingleQuotedString(text)) => {
                self.literal(literals::timestamp(text), span)
            }
            (other, _) => {
                let error = ExpressionError::new(span, format!("there are no literals of type {other}"));
                self.fail(error.with_help("write TIMESTAMP '2025-07-20T08:19:16Z'"))
            }
        }
    }

    fn interval(&mut self, interval: &Interval) -> Option<Typed> {
        let (text, span) = match interval.value.as_ref() {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) => (text, as_bytes(*span)),
            Expr::Value(ValueWithSpan { value: Value::Number(text, false), span }) => (text, as_bytes(*span)),
            _ => {
                let error = ExpressionError::new(self.whole(), "an interval must be written out");
                return self.fail(error.with_help("write it like INTERVAL '5 minutes'"));
            }
        };
        let unit = interval.leading_field.as_ref().map(|unit| unit.to_string());
        let n_units = usize::from(unit.is_some());
        let tokens = &self.parsed.tokens;
        let span = tokens.start_before(span.start)..tokens.end_after(span.end, n_units);
        if interval.last_field.is_some() || interval.leading_precision.is_some() {
            let error = ExpressionError::new(span, "this form of interval is not part of the language");
            return self.fail(error.with_help("write it like INTERVAL '1 hour 30 minutes'"));
        }
        self.literal(literals::interval(text, unit.as_deref()), span)
    }

    fn literal(&mut self, literal: Literal, span: Range<usize>) -> Option<Typed> {
        match literal {
            Ok((array, data_type)) => Some(constant(array, data_type, span)),
            Err((message, help)) => self.fail(ExpressionError::new(span, message).with_help(help)),
        }
    }

    /// Turns a value into another type where this is done silently: integers into floats, NULL into anything.
    fn coerced(&mut self, typed: Typed, to: Type) -> Option<Typed> {
        if typed.data_type == to {
            return Some(typed);
        }
        match convert(typed.data_type, to) {
            Some(operation) => {
                let span = typed.span.clone();
                self.apply(operation, vec![typed], span)
            }
            None => {
                let message =
                    format!("{} is {}, expected {}", self.quoted(&typed), typed.data_type.described(), to.described());
                self.fail(ExpressionError::new(typed.span, message))
            }
        }
    }

    fn apply(&mut self, operation: Operation, arguments: Vec<Typed>, span: Range<usize>) -> Option<Typed> {
        match operation.apply(arguments, span.clone()) {
            Ok(typed) if typed.depth <= MAX_DEPTH => Some(typed),
            Ok(_) => self.fail(too_deep(span)),
            // Arrow refuses constants, such as a pattern it cannot read.
            Err(error) => self.fail(ExpressionError::new(span, format!("this cannot be computed: {error}"))),
        }
    }

    fn fail<T>(&mut self, error: ExpressionError) -> Option<T> {
        // Each branch of a tree that is too deep says so.
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
        None
    }

    /// The words of a part, in backticks, shortened if they are many.
    fn quoted(&self, typed: &Typed) -> String {
        const MOST_LETTERS: usize = 40;
        let words = &self.text[typed.span.clone()];
        match words.char_indices().nth(MOST_LETTERS) {
            Some((end, _)) => format!("`{}…`", &words[..end]),
            None => format!("`{words}`"),
        }
    }

    /// `value` is a float
    fn said(&self, typed: &Typed) -> String {
        match typed.data_type {
            Type::Null => "`NULL` is no value".to_owned(),
            data_type => format!("{} is {}", self.quoted(typed), data_type.described()),
        }
    }

    fn whole(&self) -> Range<usize> {
        0..self.text.len()
    }
}

fn constant(array: ArrayRef, data_type: Type, span: Range<usize>) -> Typed {
    Typed::constant(array, data_type, span)
}

/// From the first to the last.
fn spanning(operands: &[Typed]) -> Range<usize> {
    let start = operands.first().map_or(0, |first| first.span.start);
    start..operands.last().map_or(start, |last| last.span.end)
}
