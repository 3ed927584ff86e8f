//! The functions, in one table from which the documentation is made.

mod casts;
mod choices;
mod numbers;
mod refused;
mod texts;
mod times;

use arrow::array::{Array, AsArray};

use super::error::{ExpressionError, in_backticks, nearest};
use super::tree::{Operation, Typed};

pub(super) use casts::{convert, print};
pub(super) use choices::case;
pub(super) use refused::refusal;

/// What the documentation says about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionDoc {
    /// In capitals; expressions may write it in any case.
    pub name: &'static str,
    /// How a call looks.
    pub signature: &'static str,
    /// What it gives.
    pub description: &'static str,
    /// An expression that calls it.
    pub example: &'static str,
    /// What the example gives, as it is printed.
    pub result: &'static str,
}

/// All functions, those with a syntax of their own (`CAST`, `EXTRACT`) included, by theme.
pub fn functions() -> impl Iterator<Item = &'static FunctionDoc> {
    FUNCTIONS.iter().map(|function| &function.doc)
}

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Text,
    Integer,
    /// Integers are turned into floats.
    Float,
    /// An integer or a float, as it is.
    Number,
    Timestamp,
    /// A timestamp or an interval.
    Time,
    /// Anything that can be written as a text, which it is turned into.
    Printed,
    Any,
    /// All of these have one type in common, and are turned into it.
    Same,
}

/// Makes the operation for arguments that fit the parameters.
type Make = fn(&[Typed]) -> Result<Operation, ExpressionError>;

/// A function as the binder sees it.
pub(super) struct Function {
    pub doc: FunctionDoc,
    other_name: Option<&'static str>,
    pub parameters: &'static [Parameter],
    /// So many of the last parameters may be left out.
    pub n_optional: usize,
    /// True if the last parameter may be given any number of times.
    pub is_repeated: bool,
    /// True if its arguments are not just separated by commas.
    pub has_own_syntax: bool,
    pub make: Make,
}

impl Function {
    const fn new(
        signature: [&'static str; 2],
        description: &'static str,
        [example, result]: [&'static str; 2],
        parameters: &'static [Parameter],
        make: Make,
    ) -> Self {
        let [name, signature] = signature;
        let doc = FunctionDoc { name, signature, description, example, result };
        Function { doc, other_name: None, parameters, n_optional: 0, is_repeated: false, has_own_syntax: false, make }
    }

    const fn or_name(mut self, other_name: &'static str) -> Self {
        self.other_name = Some(other_name);
        self
    }

    const fn optional(mut self, n_optional: usize) -> Self {
        self.n_optional = n_optional;
        self
    }

    const fn with_own_syntax(mut self) -> Self {
        self.has_own_syntax = true;
        self
    }

    const fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }
}

/// The function of this name, in any case.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    let is_name = |known: &str| known.eq_ignore_ascii_case(name);
    FUNCTIONS.iter().find(|function| is_name(function.doc.name) || function.other_name.is_some_and(is_name))
}

/// What to write instead of a function that is not known.
pub(super) fn help_for(name: &str) -> String {
    match nearest(name, functions().map(|doc| doc.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", in_backticks(functions().map(|doc| doc.name))),
    }
}

use Parameter::{Any, Float, Integer, Number, Printed, Same, Text, Time, Timestamp};

#[rustfmt::skip]
static FUNCTIONS: &[Function] = &[
    Function::new(["ABS", "ABS(number)"],
        "The number without its sign.",
        ["ABS(-2.5)", "2.5"], &[Number], numbers::abs),
    Function::new(["ROUND", "ROUND(number [, digits])"],
        "The nearest number with so many digits after the point (none if not said), halves away from zero; \
         negative digits round to tens, hundreds and so on.",
        ["ROUND(21.456, 1)", "21.5"], &[Number, Integer], numbers::round).optional(1),
    Function::new(["FLOOR", "FLOOR(number)"],
        "The greatest whole number that is not above the number, of the same type.",
        ["FLOOR(-2.5)", "-3.0"], &[Number], numbers::floor),
    Function::new(["CEIL", "CEIL(number)"],
        "The least whole number that is not below the number, of the same type.",
        ["CEIL(2.1)", "3.0"], &[Number], numbers::ceil).or_name("CEILING"),
    Function::new(["SQRT", "SQRT(number)"],
        "The square root; NULL for negative numbers.",
        ["SQRT(2.25)", "1.5"], &[Float], numbers::sqrt),
    Function::new(["EXP", "EXP(number)"],
        "e to the power of the number; NULL if that is too great.",
        ["EXP(0)", "1.0"], &[Float], numbers::exp),
    Function::new(["LN", "LN(number)"],
        "The natural logarithm; NULL for zero and negative numbers.",
        ["LN(1)", "0.0"], &[Float], numbers::ln),
    Function::new(["LOG10", "LOG10(number)"],
        "The logarithm to base 10; NULL for zero and negative numbers.",
        ["LOG10(1000)", "3.0"], &[Float], numbers::log10),
    Function::new(["POWER", "POWER(base, exponent)"],
        "The base to the power of the exponent, a float; NULL if there is no finite one.",
        ["POWER(2, 10)", "1024.0"], &[Float, Float], numbers::power).or_name("POW"),
    Function::new(["LEAST", "LEAST(value, …)"],
        "The least of the values that are not NULL.",
        ["LEAST(3, 1, NULL)", "1"], &[Same], choices::least).repeated(),
    Function::new(["GREATEST", "GREATEST(value, …)"],
        "The greatest of the values that are not NULL.",
        ["GREATEST(3, 4.5)", "4.5"], &[Same], choices::greatest).repeated(),
    Function::new(["COALESCE", "COALESCE(value, …)"],
        "The first value that is not NULL.",
        ["COALESCE(NULL, 'unknown')", "unknown"], &[Same], choices::coalesce).repeated(),
    Function::new(["NULLIF", "NULLIF(value, unwanted)"],
        "NULL if the value equals the unwanted one, else the value.",
        ["NULLIF(-999, -999) IS NULL", "true"], &[Same, Same], choices::null_if),
    Function::new(["LOWER", "LOWER(text)"],
        "The text in small letters.",
        ["LOWER('Sensor-É')", "sensor-é"], &[Text], texts::lower),
    Function::new(["UPPER", "UPPER(text)"],
        "The text in capitals.",
        ["UPPER('sensor')", "SENSOR"], &[Text], texts::upper),
    Function::new(["LENGTH", "LENGTH(text)"],
        "The number of characters (Unicode code points, not bytes).",
        ["LENGTH('20 °C')", "5"], &[Text], texts::length).or_name("CHAR_LENGTH"),
    Function::new(["TRIM", "TRIM(text)"],
        "The text without white space at its ends.",
        ["TRIM('  a b ')", "a b"], &[Text], texts::trim),
    Function::new(["LTRIM", "LTRIM(text)"],
        "The text without white space at its beginning.",
        ["LTRIM('  a') = 'a'", "true"], &[Text], texts::trim_start),
    Function::new(["RTRIM", "RTRIM(text)"],
        "The text without white space at its end.",
        ["RTRIM('a  ') = 'a'", "true"], &[Text], texts::trim_end),
    Function::new(["CONCAT", "CONCAT(value, …)"],
        "The values as texts, one after the other; NULL counts as empty, while `||` gives NULL if one side is.",
        ["CONCAT('sensor-', 7, NULL)", "sensor-7"], &[Printed], texts::concat).repeated(),
    Function::new(["SUBSTR", "SUBSTR(text, start [, count])"],
        "So many characters (all if not said) from a place on, counted from 1; NULL for a negative count.",
        ["SUBSTR('sensor-07', 8)", "07"], &[Text, Integer, Integer], texts::substring).optional(1).or_name("SUBSTRING"),
    Function::new(["STARTS_WITH", "STARTS_WITH(text, beginning)"],
        "True if the text begins so.",
        ["STARTS_WITH('sensor-07', 'sensor')", "true"], &[Text, Text], texts::starts_with),
    Function::new(["EXTRACT", "EXTRACT(part FROM timestamp)"],
        "A part of a UTC time as an integer: YEAR, QUARTER, MONTH, WEEK (ISO), DAY, DOY (of the year), DOW (of the week, \
         0 is Sunday), ISODOW (1 is Monday), HOUR, MINUTE, SECOND; or EPOCH, the seconds since 1970 as a float. \
         Of an interval only EPOCH: its length in seconds.",
        ["EXTRACT(HOUR FROM TIMESTAMP '2025-07-20T08:19:16Z')", "8"], &[Text, Time], times::extract).with_own_syntax(),
    Function::new(["DATE_TRUNC", "DATE_TRUNC('part', timestamp)"],
        "The beginning of the year, quarter, month, week (Monday), day, hour, minute or second of a UTC time.",
        ["DATE_TRUNC('hour', TIMESTAMP '2025-07-20T08:19:16Z')", "2025-07-20T08:00:00Z"],
        &[Text, Timestamp], times::truncate),
    Function::new(["CAST", "CAST(value AS type), value::type"],
        "The value as another type: STRING, INTEGER, FLOAT, BOOLEAN or TIMESTAMP; NULL if it cannot be read so. \
         Floats are rounded to integers, halves away from zero.",
        ["CAST('21.5' AS FLOAT) + 1", "22.5"], &[Any, Text], casts::cast).with_own_syntax(),
];

/// The text of an argument that must be written out, because the operation depends on it.
fn literal<'a>(argument: &'a Typed, what: &str) -> Result<&'a str, ExpressionError> {
    match argument.node.constant() {
        Some(array) if array.is_valid(0) => Ok(array.as_string::<i32>().value(0)),
        _ => Err(ExpressionError::new(argument.span.clone(), format!("the {what} must be written out, as 'text'"))),
    }
}
