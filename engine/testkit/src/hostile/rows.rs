//! The hostile batches themselves; all have the columns of the readings, or more.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    make_array, new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{DataType, Field, Schema};
use pipeline_stage::MAX_BATCH_ROWS;

use crate::readings::{reading_schema, readings};

/// Batches that have broken stages before.
pub struct Hostile {
    /// What is hostile about them.
    pub name: &'static str,
    /// The batches, in order.
    pub batches: Vec<RecordBatch>,
    /// The same rows in arrays as everyone expects them; none where these are no different.
    pub plain: Option<Vec<RecordBatch>>,
}

impl Hostile {
    fn new(name: &'static str, batches: Vec<RecordBatch>) -> Self {
        Hostile { name, batches, plain: None }
    }

    /// Ordinary rows with the columns of these batches.
    pub fn with_the_columns_of(&self, rows: &RecordBatch) -> RecordBatch {
        let schema = self.batches[0].schema();
        let more = schema.fields().len() - rows.num_columns();
        with_more_columns(rows, more)
    }
}

/// Columns of the readings.
const SENSOR: usize = 0;
const METRIC: usize = 1;
const VALUE: usize = 2;
const TIME: usize = 3;

/// A text that no reading has, and some do: a document, or a stuck sender.
const HUGE_TEXT_BYTES: usize = 1 << 20;

/// All of them.
pub fn hostile_batches() -> Vec<Hostile> {
    let some = readings(7, 600);
    vec![
        Hostile::new("empty batches", vec![some.slice(0, 0), some.clone(), RecordBatch::new_empty(some.schema())]),
        Hostile::new("all null", vec![all_null(&some), some.clone(), all_null(&some)]),
        Hostile::new(
            "NaN and infinity",
            vec![with_values(&some, &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -f64::NAN])],
        ),
        Hostile::new("huge and tiny values", vec![with_values(&some, &HUGE_AND_TINY)]),
        Hostile::new("huge texts", vec![with_texts(&some.slice(0, 6), &"x".repeat(HUGE_TEXT_BYTES))]),
        Hostile::new(
            "odd texts",
            vec![with_texts(&some, "\0 \u{202e}\"'\\\r\n💥{}$%;--\u{feff}"), with_texts(&some, "")],
        ),
        Hostile::new("times at both ends", vec![with_times(&some, |row| [i64::MIN, i64::MAX, 0, -1][row % 4])]),
        Hostile::new(
            "times going backwards",
            vec![with_times(&some, |row| 1_752_999_556_000_000 - 1_000_000 * row as i64)],
        ),
        Hostile::new("one series, one time, twice", vec![one_series(&some), one_series(&some)]),
        Hostile::new("a full batch", vec![readings(9, MAX_BATCH_ROWS)]),
        Hostile::new("a thousand more columns", vec![with_more_columns(&some, 1_000)]),
        Hostile { plain: Some([some.slice(0, 90), some.slice(90, 500)].iter().map(copied).collect()), ..sliced(&some) },
        Hostile {
            plain: Some(vec![copied(&some)]),
            ..Hostile::new("rubbish below nulls", vec![rubbish_below_nulls(&some)])
        },
        Hostile {
            plain: Some(vec![copied(&some)]),
            ..Hostile::new("null buffers without nulls", vec![all_valid(&some)])
        },
    ]
}

const HUGE_AND_TINY: [f64; 8] = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -0.0, 1e300, -1e300, 1e-300];

fn with_column(batch: &RecordBatch, column: usize, array: ArrayRef) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    columns[column] = array;
    RecordBatch::try_new(batch.schema(), columns).expect("the column has the type of the one before it")
}

/// Every nullable column is null everywhere.
fn all_null(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| match field.is_nullable() {
        true => new_null_array(field.data_type(), batch.num_rows()),
        false => column.clone(),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("nullable columns may be null")
}

/// Every other value is one of these.
fn with_values(batch: &RecordBatch, values: &[f64]) -> RecordBatch {
    let usual = |row: usize| 20.0 + (row % 7) as f64;
    let hostile = |row: usize| values[row / 2 % values.len()];
    let array: Float64Array =
        (0..batch.num_rows()).map(|row| Some(if row % 2 == 0 { hostile(row) } else { usual(row) })).collect();
    with_column(batch, VALUE, Arc::new(array))
}

/// Every other row is of a sensor of this name.
fn with_texts(batch: &RecordBatch, text: &str) -> RecordBatch {
    let names: StringArray =
        (0..batch.num_rows()).map(|row| Some(if row % 2 == 0 { text } else { "sensor-02" })).collect();
    let names: ArrayRef = Arc::new(names);
    with_column(&with_column(batch, SENSOR, names.clone()), METRIC, names)
}

fn with_times(batch: &RecordBatch, time: impl Fn(usize) -> i64) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values((0..batch.num_rows()).map(time));
    with_column(batch, TIME, Arc::new(times.with_timezone("UTC")))
}

fn one_series(batch: &RecordBatch) -> RecordBatch {
    let texts = |text| -> ArrayRef { Arc::new(StringArray::from(vec![text; batch.num_rows()])) };
    let batch = with_column(batch, SENSOR, texts("sensor-02"));
    with_times(&with_column(&batch, METRIC, texts("temperature")), |_| 1_752_999_556_000_000)
}

/// The rows with columns of all types behind them.
pub fn with_more_columns(batch: &RecordBatch, more: usize) -> RecordBatch {
    let n_rows = batch.num_rows();
    let kinds: [ArrayRef; 4] = [
        Arc::new((0..n_rows).map(|row| (row % 3 != 0).then_some(row as i64)).collect::<Int64Array>()),
        Arc::new((0..n_rows).map(|row| Some(row % 2 == 0)).collect::<BooleanArray>()),
        Arc::new((0..n_rows).map(|row| (row % 5 != 0).then(|| format!("text {row}"))).collect::<StringArray>()),
        Arc::new((0..n_rows).map(|row| Some(row as f64)).collect::<Float64Array>()),
    ];
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut columns = batch.columns().to_vec();
    for number in 0..more {
        let array = &kinds[number % kinds.len()];
        fields.push(Field::new(format!("more_{number}"), array.data_type().clone(), true));
        columns.push(array.clone());
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("all columns have as many rows")
}

/// Slices whose columns start at other places of their arrays, so that bits of nulls stand inside of bytes.
fn sliced(batch: &RecordBatch) -> Hostile {
    let schema = reading_schema();
    let columns = schema.fields().iter().enumerate().map(|(number, field)| {
        let before = batch.column(number).slice(0, 3 + 2 * number);
        let whole = concat(&[before.as_ref(), batch.column(number).as_ref(), before.as_ref()]);
        let whole = whole.unwrap_or_else(|error| panic!("`{}`: {error}", field.name()));
        whole.slice(3 + 2 * number, batch.num_rows())
    });
    let whole = RecordBatch::try_new(schema.clone(), columns.collect()).expect("the columns are those of the schema");
    Hostile::new("sliced arrays", vec![whole.slice(0, 90), whole.slice(90, 500)])
}

/// The same rows in arrays of their own that start at 0.
fn copied(batch: &RecordBatch) -> RecordBatch {
    // Of one batch `concat` would give the batch itself.
    let (first, second) = (batch.slice(0, 1), batch.slice(1, batch.num_rows() - 1));
    concat_batches(&batch.schema(), &[first, second]).expect("both have the same columns")
}

/// What stands below a null may be anything.
fn rubbish_below_nulls(batch: &RecordBatch) -> RecordBatch {
    let values = batch.column(VALUE).to_data();
    let numbers: Vec<f64> = (0..batch.num_rows())
        .map(|row| if values.is_null(row) { f64::NAN } else { values.buffers()[0].typed_data::<f64>()[row] })
        .collect();
    let data = values.into_builder().buffers(vec![Buffer::from_vec(numbers)]).build();
    with_column(batch, VALUE, make_array(data.expect("only values were changed")))
}

/// A buffer of nulls that says of no row that it is null.
fn all_valid(batch: &RecordBatch) -> RecordBatch {
    let with_buffer = |column: &ArrayRef| {
        let nulls = column.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(column.len()));
        make_array(column.to_data().into_builder().nulls(Some(nulls)).build().expect("the length is the same"))
    };
    let columns = batch.columns().iter().map(with_buffer).collect();
    debug_assert!(matches!(batch.column(VALUE).data_type(), DataType::Float64));
    RecordBatch::try_new(batch.schema(), columns).expect("nothing is null that may not be")
}
