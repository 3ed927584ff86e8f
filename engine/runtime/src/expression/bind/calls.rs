//! Calls of functions, those with a syntax of their own included, and `CASE`.

use std::ops::Range;

use arrow::compute::kernels::cmp;
use sqlparser::ast::{
    CaseWhen, CeilFloorKind, DateTimeField, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
};
use sqlparser::tokenizer::Token;

use super::comparisons::CHOSEN;
use super::{Binder, constant};
use crate::expression::error::ExpressionError;
use crate::expression::functions::{Function, Parameter, case, find, help_for, refusal};
use crate::expression::literals;
use crate::expression::parse::as_bytes;
use crate::expression::tree::{Nulls, Typed};
use crate::expression::types::Type;

impl Binder<'_> {
    pub(super) fn call(&mut self, syntax: &Expr) -> Option<Typed> {
        match syntax {
            Expr::Function(call) => self.ordinary(call),
            Expr::Case { case_token, end_token, operand, conditions, else_result } => {
                let span = as_bytes(case_token.0.span).start..as_bytes(end_token.0.span).end;
                self.case(span, operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Cast { expr, data_type, format: None, .. } => self.cast(expr, &data_type.to_string()),
            Expr::Extract { field, expr, .. } => self.extract(&field.to_string(), expr),
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.with_syntax("CEIL", &[Some(expr)])
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.with_syntax("FLOOR", &[Some(expr)])
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.with_syntax("SUBSTR", &[Some(expr), substring_from.as_deref(), substring_for.as_deref()])
            }
            Expr::Trim { expr, trim_where: None, trim_what: None, trim_characters: None } => {
                self.with_syntax("TRIM", &[Some(expr)])
            }
            Expr::Trim { .. } => {
                let error = ExpressionError::new(self.whole(), "`TRIM` takes one text, and removes only white space");
                self.fail(error.with_help("`LTRIM` and `RTRIM` trim one end"))
            }
            Expr::Position { .. } => self.unknown_function("POSITION", self.whole()),
            _ => self.fail(ExpressionError::new(self.whole(), "this form of call is not part of the language")),
        }
    }

    fn ordinary(&mut self, call: &Call) -> Option<Typed> {
        let [name] = call.name.0.as_slice() else {
            return self.fail(ExpressionError::new(self.whole(), format!("no function is called `{}`", call.name)));
        };
        let Some(name) = name.as_ident() else {
            return self.fail(ExpressionError::new(self.whole(), format!("no function is called `{name}`")));
        };
        let name_span = as_bytes(name.span);
        // Words that SQL reads as calls without parentheses, such as `user`, may be columns.
        if matches!(call.args, FunctionArguments::None) && self.schema.column_with_name(&name.value).is_some() {
            return self.column(name);
        }
        let function = find(&name.value);
        if let Some(function) = function.filter(|function| function.has_own_syntax) {
            let span = name_span.start..self.parsed.tokens.end_of_parentheses(name_span.end);
            let error = ExpressionError::new(span, format!("`{}` is not called like this", function.doc.name));
            return self.fail(error.with_help(format!("write `{}`", function.doc.signature)));
        }
        let Some(function) = function else {
            return self.unknown_function(&name.value, name_span);
        };
        let span = name_span.start..self.parsed.tokens.end_of_parentheses(name_span.end);
        let is_plain = call.over.is_none() && call.filter.is_none() && call.null_treatment.is_none();
        let arguments = match &call.args {
            FunctionArguments::List(list)
                if is_plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                list.args.iter().map(plain).collect::<Option<Vec<&Expr>>>()
            }
            _ => None,
        };
        let Some(arguments) = arguments else {
            let error = ExpressionError::new(span, "this form of call is not part of the language");
            return self.fail(error.with_help(format!("write `{}`", function.doc.signature)));
        };
        let arguments: Vec<_> = arguments.into_iter().map(|argument| self.expression(argument)).collect();
        let arguments = arguments.into_iter().collect::<Option<Vec<Typed>>>()?;
        self.checked(function, span, arguments)
    }

    fn unknown_function(&mut self, name: &str, span: Range<usize>) -> Option<Typed> {
        let error = match refusal(name) {
            Some((message, help)) => ExpressionError::new(span, message).with_help(help),
            None => ExpressionError::new(span, format!("no function is called `{name}`")).with_help(help_for(name)),
        };
        self.fail(error)
    }

    /// A call that sqlparser has read by a rule of its own; arguments that are left out are `None`.
    fn with_syntax(&mut self, name: &str, arguments: &[Option<&Expr>]) -> Option<Typed> {
        let arguments: Vec<_> = arguments.iter().flatten().map(|argument| self.expression(argument)).collect();
        let arguments = arguments.into_iter().collect::<Option<Vec<Typed>>>()?;
        let first = arguments.first().map_or_else(|| self.whole(), |first| first.span.clone());
        let span = self.parsed.tokens.enclosing_call(&first);
        self.named(name, span, arguments)
    }

    fn extract(&mut self, part: &str, value: &Expr) -> Option<Typed> {
        let value = self.expression(value)?;
        let tokens = &self.parsed.tokens;
        let call = tokens.enclosing_call(&value.span);
        // EXTRACT ( part FROM …
        let part_span = self.trimmed(tokens.end_after(call.start, 2)..tokens.end_after(call.start, 3));
        let (array, data_type) = literals::text(part.trim_matches('\''));
        self.named("EXTRACT", call, vec![constant(array, data_type, part_span), value])
    }

    fn cast(&mut self, value: &Expr, type_name: &str) -> Option<Typed> {
        let value = self.expression(value)?;
        let tokens = &self.parsed.tokens;
        let is_short = tokens.all().iter().any(|(token, span)| {
            *token == Token::DoubleColon
                && value.span.end <= span.start
                && self.text[value.span.end..span.start].trim().is_empty()
        });
        let (span, name_span) = if is_short {
            let colons = tokens.end_after(value.span.end, 1);
            let end = tokens.end_while(colons, is_word_of_type).max(tokens.end_after(colons, 1));
            (value.span.start..end, colons..end)
        } else {
            let call = tokens.enclosing_call(&value.span);
            let name_start = tokens.end_after(value.span.end, 1);
            (call.clone(), name_start..call.end.saturating_sub(1).max(name_start))
        };
        let (array, data_type) = literals::text(type_name);
        let type_name = constant(array, data_type, self.trimmed(name_span));
        self.named("CAST", span, vec![value, type_name])
    }

    fn named(&mut self, name: &str, span: Range<usize>, arguments: Vec<Typed>) -> Option<Typed> {
        match find(name) {
            Some(function) => self.checked(function, span, arguments),
            None => self.fail(ExpressionError::new(span, format!("no function is called `{name}`"))),
        }
    }

    /// Checks number and types of the arguments and applies the function.
    fn checked(&mut self, function: &'static Function, span: Range<usize>, arguments: Vec<Typed>) -> Option<Typed> {
        let n_parameters = function.parameters.len();
        let has_too_few = arguments.len() < n_parameters - function.n_optional;
        let has_too_many = n_parameters < arguments.len() && !function.is_repeated;
        if has_too_few || has_too_many {
            let arguments = match arguments.len() {
                1 => "1 argument".to_owned(),
                count => format!("{count} arguments"),
            };
            let message = format!("`{}` does not take {arguments}", function.doc.name);
            return self
                .fail(ExpressionError::new(span, message).with_help(format!("write `{}`", function.doc.signature)));
        }
        let arguments = if function.parameters.contains(&Parameter::Same) {
            self.of_one_type(arguments, CHOSEN)?
        } else {
            let parameters = function.parameters.iter().chain(function.parameters.last().into_iter().cycle());
            let fitted: Vec<_> = arguments
                .into_iter()
                .zip(parameters)
                .map(|(argument, parameter)| self.fitted(argument, *parameter, function))
                .collect();
            fitted.into_iter().collect::<Option<Vec<_>>>()?
        };
        match (function.make)(&arguments) {
            Ok(operation) => self.apply(operation, arguments, span),
            Err(error) => self.fail(error),
        }
    }

    fn fitted(&mut self, argument: Typed, parameter: Parameter, function: &Function) -> Option<Typed> {
        let (fits, wanted, otherwise) = match (parameter, argument.data_type) {
            (Parameter::Any, _) => return Some(argument),
            (Parameter::Printed, _) => return self.as_text(argument, &format!("`{}`", function.doc.name)),
            (Parameter::Text, found) => (found == Type::Text, "a string", Type::Text),
            (Parameter::Integer, found) => (found == Type::Integer, "an integer", Type::Integer),
            (Parameter::Float, found) => (found == Type::Float, "a number", Type::Float),
            (Parameter::Number | Parameter::Same, found) => (found.is_number(), "a number", Type::Float),
            (Parameter::Timestamp, found) => (found == Type::Timestamp, "a timestamp", Type::Timestamp),
            (Parameter::Time, found) => {
                (matches!(found, Type::Timestamp | Type::Interval), "a timestamp or an interval", Type::Timestamp)
            }
        };
        let widens =
            argument.is_null_literal() || (parameter == Parameter::Float && argument.data_type == Type::Integer);
        if fits {
            return Some(argument);
        }
        if widens {
            return self.coerced(argument, otherwise);
        }
        let message = format!("{}, `{}` takes {wanted}", self.said(&argument), function.doc.name);
        self.fail(ExpressionError::new(argument.span, message).with_help(format!("`{}`", function.doc.signature)))
    }

    fn case(
        &mut self,
        span: Range<usize>,
        operand: Option<&Expr>,
        branches: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Option<Typed> {
        let operand = operand.map(|operand| self.expression(operand));
        let (mut conditions, mut values) = (Vec::new(), Vec::new());
        for branch in branches {
            let condition = self.expression(&branch.condition);
            conditions.push(match &operand {
                Some(operand) => self.case_equals(operand.clone(), condition),
                None => condition.and_then(|condition| self.condition(condition)),
            });
            values.push(self.expression(&branch.result));
        }
        values.push(match otherwise {
            Some(otherwise) => self.expression(otherwise),
            None => {
                let (array, data_type) = literals::null();
                Some(constant(array, data_type, span.end..span.end))
            }
        });
        let conditions = conditions.into_iter().collect::<Option<Vec<Typed>>>()?;
        let values = self.of_one_type(values.into_iter().collect::<Option<_>>()?, CHOSEN)?;
        let value_type = values[0].data_type;
        let mut values = values.into_iter();
        let mut arguments = Vec::new();
        for (condition, value) in conditions.into_iter().zip(&mut values) {
            arguments.extend([condition, value]);
        }
        arguments.extend(values);
        self.apply(case(value_type), arguments, span)
    }

    fn case_equals(&mut self, operand: Option<Typed>, value: Option<Typed>) -> Option<Typed> {
        let (operand, value) = (operand?, value?);
        if value.is_null_literal() {
            let error = ExpressionError::new(value.span, "nothing is equal to NULL, not even NULL");
            return self.fail(error.with_help("write `CASE WHEN … IS NULL THEN …`"));
        }
        self.compare(cmp::eq, Nulls::OfAny, operand, value)
    }

    /// Without the white space around it.
    fn trimmed(&self, span: Range<usize>) -> Range<usize> {
        let words = &self.text[span.clone()];
        let start = span.start + (words.len() - words.trim_start().len());
        start..(start + words.trim().len())
    }
}

fn is_word_of_type(token: &Token) -> bool {
    const WORDS: [&str; 6] = ["DOUBLE", "PRECISION", "TIMESTAMP", "WITH", "TIME", "ZONE"];
    matches!(token, Token::Word(word) if WORDS.iter().any(|known| word.value.eq_ignore_ascii_case(known)))
}

/// The expression of an argument without a name.
fn plain(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    }
}
