//! `when:`: read, bound to columns and computed over rows at the edges of their types.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use pipeline_runtime::expression::{Expression, ExpressionError};

/// Longer texts are not read in another way than short ones.
const MAX_BYTES: usize = 4_096;

static ROWS: LazyLock<RecordBatch> = LazyLock::new(rows);

/// The bytes are the text of an expression.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if MAX_BYTES < text.len() {
        return false;
    }
    let schema = ROWS.schema();
    match Expression::compile_condition(text, &schema) {
        Ok(condition) => {
            let chosen = condition.select(&ROWS).expect("no row can fail");
            assert_eq!((chosen.len(), chosen.null_count()), (ROWS.num_rows(), 0));
        }
        Err(errors) => are_said(&errors, text),
    }
    match Expression::compile(text, &schema) {
        Ok(expression) => holds(&expression),
        Err(errors) => {
            are_said(&errors, text);
            return false;
        }
    }
    true
}

fn are_said(errors: &[ExpressionError], text: &str) {
    assert!(!errors.is_empty(), "what is refused has a reason");
    for error in errors {
        assert!(!error.message.is_empty());
        assert!(text.get(error.span.clone()).is_some(), "{error} is at {:?}, which is no part of the text", error.span);
    }
}

/// No row can fail, what has no result is null, and a row gives the same whatever rows are beside it.
fn holds(expression: &Expression) {
    let all = expression.evaluate(&ROWS).expect("no row can fail");
    assert_eq!((all.len(), all.data_type()), (ROWS.num_rows(), expression.data_type()));
    assert!(expression.is_nullable() || all.null_count() == 0, "it said that there is no null");
    if *all.data_type() == DataType::Float64 {
        let floats = all.as_primitive::<Float64Type>();
        assert!(floats.iter().flatten().all(f64::is_finite), "a float that is not finite is null");
    }
    for row in 0..ROWS.num_rows() {
        let alone = expression.evaluate(&ROWS.slice(row, 1)).expect("no row can fail");
        assert_eq!(in_words(&alone, 0), in_words(&all, row), "row {row}, alone and beside others");
    }
}

fn in_words(array: &ArrayRef, row: usize) -> String {
    match array.is_null(row) {
        true => "null".into(),
        false => match array.data_type() {
            DataType::Timestamp(_, _) => {
                array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row).to_string()
            }
            _ => array_value_to_string(array, row).expect("a value can be shown"),
        },
    }
}

/// Cells at the edges; no NaN and nothing infinite, so that none may come out.
fn rows() -> RecordBatch {
    let texts =
        [None, Some(""), Some("a"), Some("sensor-01"), Some("Ünï😀"), Some("12"), Some("2025-07-20"), Some("%_")];
    let floats = [Some(0.0), None, Some(-0.0), Some(2.5), Some(-1e308), Some(f64::MAX), Some(5e-324), Some(9.3e18)];
    let integers = [Some(0), Some(-1), None, Some(7), Some(i64::MAX), Some(i64::MIN), Some(1 << 53), Some(12)];
    let booleans = [Some(true), Some(false), None, None, Some(true), Some(false), Some(true), None];
    let times =
        [Some(0), Some(-1), Some(1_752_999_556_500_000), None, Some(i64::MAX), Some(i64::MIN), Some(1), Some(1 << 50)];
    let columns: [(&str, ArrayRef); 5] = [
        ("t", Arc::new(StringArray::from_iter(texts))),
        ("f", Arc::new(Float64Array::from_iter(floats))),
        ("i", Arc::new(Int64Array::from_iter(integers))),
        ("b", Arc::new(BooleanArray::from_iter(booleans))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
        .expect("the columns are equally long")
}
