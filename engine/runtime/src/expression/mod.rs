//! The language of `when:` and of computed columns: SQL expressions over one row, checked when a pipeline is planned
//! and compiled to Arrow kernels.
//!
//! # The language
//!
//! * Columns by name, in double quotes if the name is no word: `value`, `"°C"`. Capitals count.
//! * Literals: `5`, `2.5`, `'text'`, `TRUE`, `FALSE`, `NULL`, `TIMESTAMP '2025-07-20T08:19:16Z'`,
//!   `INTERVAL '1 hour 30 minutes'`. A text that is compared with a timestamp is read as one.
//! * `=` `<>` `<` `<=` `>` `>=`, `BETWEEN`, `IN (…)`, `LIKE`, `ILIKE`, `IS [NOT] NULL | TRUE | FALSE | UNKNOWN`,
//!   `IS [NOT] DISTINCT FROM`, `AND`, `OR`, `NOT`, `+` `-` `*` `/` `%`, `||`, `CASE`, `::`, and [`functions`].
//! * No clock, no chance, no query: the same row always gives the same result.
//!
//! # What is decided
//!
//! * Logic has SQL's three values. A condition that is `NULL` does not hold.
//! * No row can fail. What has no result is `NULL`: division by zero, overflow of integers, a text that is no number, a
//!   float that would be infinite or NaN.
//! * An operator between an integer and a float computes with floats; between two integers it stays with integers, and
//!   `7 / 2` is 3.
//! * NaN, which only a plugin's column can have, equals itself and is above all numbers, as in PostgreSQL; -0 is 0.
//! * Texts are compared by Unicode code points.

mod bind;
mod cells;
mod error;
mod functions;
mod habits;
mod literals;
mod operators;
mod parse;
mod tokens;
mod tree;
mod types;

#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::resume_unwind;
use std::thread;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;

use bind::Binder;
use tree::{Node, Typed};
use types::Type;

pub use error::ExpressionError;
pub use functions::{FunctionDoc, functions};

/// An expression, compiled for the rows of one schema.
#[derive(Clone)]
pub struct Expression {
    text: String,
    node: Node,
    data_type: DataType,
    is_nullable: bool,
    columns: Vec<String>,
}

impl Expression {
    /// Compiles an expression of any type a column can have.
    ///
    /// An error has all that is wrong with names and types, or the first thing that cannot be read, by place.
    pub fn compile(text: &str, schema: &Schema) -> Result<Expression, Vec<ExpressionError>> {
        compile(text, schema, |_, typed| match typed.data_type {
            Type::Null => {
                Err(ExpressionError::new(typed.span, "`NULL` alone has no type")
                    .with_help("`CAST(NULL AS FLOAT)` has one"))
            }
            Type::Interval => {
                Err(ExpressionError::new(typed.span, "the result is an interval, which no column can have")
                    .with_help("`EXTRACT(EPOCH FROM …)` gives seconds"))
            }
            _ => Ok(typed),
        })
    }

    /// Compiles a condition: an expression that is true, false or null.
    pub fn compile_condition(text: &str, schema: &Schema) -> Result<Expression, Vec<ExpressionError>> {
        compile(text, schema, |binder, typed| {
            binder.condition(typed).ok_or_else(|| binder.errors.pop().expect("a refused condition has an error"))
        })
    }

    /// The type of the result: that of a column (see [`pipeline_stage::ColumnType`]).
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// False if no row can give null.
    pub fn is_nullable(&self) -> bool {
        self.is_nullable
    }

    /// The names of the columns it uses, each once, in the order of the text.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Computes one value for each row.
    ///
    /// An error says that the batch has not the schema the expression was compiled for; no content of rows leads to one.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        self.node.evaluate(batch)?.expanded(batch.num_rows())
    }

    /// Says for each row whether the condition holds; there are no nulls in the answer.
    ///
    /// Errors as [`Expression::evaluate`], and for an expression that is no condition.
    pub fn select(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let array = self.evaluate(batch)?;
        match array.as_boolean_opt() {
            Some(condition) => Ok(operators::logic::where_true(condition)),
            None => Err(ArrowError::SchemaError(format!("`{}` is not a condition", self.text))),
        }
    }
}

/// Decides whether a result may be the whole expression.
type Check = fn(&mut Binder<'_>, Typed) -> Result<Typed, ExpressionError>;

/// The stack that compiling may use. Without optimisation sqlparser takes up to 80 KB for a level, so that 50 levels
/// would not fit into the 2 MB of most threads; what is not touched costs nothing.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Compiles in a thread of its own, because of its stack.
fn compile(text: &str, schema: &Schema, check: Check) -> Result<Expression, Vec<ExpressionError>> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("expression".to_owned()).stack_size(STACK_BYTES);
        let compiling = match thread.spawn_scoped(scope, || compile_here(text, schema, check)) {
            Ok(compiling) => compiling,
            Err(error) => {
                let message = format!("there is no thread to read the expression: {error}");
                return Err(vec![ExpressionError::new(0..text.len(), message)]);
            }
        };
        compiling.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn compile_here(text: &str, schema: &Schema, check: Check) -> Result<Expression, Vec<ExpressionError>> {
    let is_column = |name: &str| schema.column_with_name(name).is_some();
    let parsed = parse::parse(text).map_err(|errors| habits::suggest_quotes(text, errors, is_column))?;
    let mut binder = Binder::new(text, &parsed, schema);
    let Some(typed) = binder.expression(&parsed.syntax) else {
        binder.errors.sort_by_key(|error| error.span.start);
        return Err(binder.errors);
    };
    let typed = check(&mut binder, typed).map_err(|error| vec![error])?;
    let columns = binder.columns.iter().map(|index| schema.field(*index).name().clone()).collect();
    Ok(Expression {
        text: text.to_owned(),
        node: typed.node,
        data_type: typed.data_type.arrow(),
        is_nullable: typed.is_nullable,
        columns,
    })
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression")
            .field("text", &self.text)
            .field("data_type", &self.data_type)
            .finish_non_exhaustive()
    }
}
