//! What the tests of all formats share.

use arrow::array::{BinaryArray, RecordBatch};
use pipeline_stage::{
    Cell, Column, ColumnFrom, ColumnType, Decoded, Format, FormatContext, Meta, RawRows, Result, Zone,
};

pub fn context(columns: Vec<Column>) -> FormatContext {
    FormatContext { columns, zone: Zone::Utc }
}

pub fn column(name: &str, column_type: ColumnType) -> Column {
    Column { name: name.into(), column_type, nullable: false, from: ColumnFrom::Field(vec![name.into()]) }
}

pub fn nullable(name: &str, column_type: ColumnType) -> Column {
    Column { nullable: true, ..column(name, column_type) }
}

pub fn meta(name: &str, column_type: ColumnType, meta: Meta) -> Column {
    Column { from: ColumnFrom::Meta(meta), ..column(name, column_type) }
}

/// The column taken from another field, in the words of a pipeline file: `data.value`.
pub fn from(path: &str, column: Column) -> Column {
    Column { from: ColumnFrom::Field(path.split('.').map(str::to_owned).collect()), ..column }
}

pub fn raw_rows(payloads: &[Option<&[u8]>]) -> RawRows {
    RawRows {
        payloads: BinaryArray::from_iter(payloads),
        keys: None,
        times: None,
        header: None,
        topic: "readings".into(),
        partition: 3,
    }
}

pub fn decode(format: &mut dyn Format, payloads: &[Option<&[u8]>]) -> Result<Decoded> {
    let offsets: Vec<u64> = (0..payloads.len() as u64).collect();
    format.decode(&raw_rows(payloads), &offsets)
}

/// The values of a row, separated by spaces.
pub fn row_of(batch: &RecordBatch, row: usize) -> String {
    let values = batch.columns().iter().map(|column| match Cell::of(column, row) {
        Cell::Null => "null".into(),
        Cell::Text(text) => text.into(),
        Cell::Integer(number) => number.to_string(),
        Cell::Float(number) => format!("{number:?}"),
        Cell::Boolean(is_true) => is_true.to_string(),
        Cell::Time(time) => time.to_string(),
        Cell::Other(text) => text,
    });
    values.collect::<Vec<String>>().join(" ")
}

/// The values of the row that one payload makes, or why it makes none.
pub fn decode_one(format: &mut dyn Format, payload: &[u8]) -> Result<String, String> {
    let mut decoded = decode(format, &[Some(payload)]).unwrap();
    match decoded.rejected.pop() {
        Some((_, why)) => Err(why),
        None => Ok(row_of(&decoded.batch, 0)),
    }
}
