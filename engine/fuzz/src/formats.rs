//! What the formats' targets share: building a format, decoding payloads, and laws that hold for every format.

use std::sync::LazyLock;

use arrow::array::{Array, BinaryArray, RecordBatch};
use pipeline_stage::{
    Cell, Column, ColumnFrom, ColumnType, Decoded, Format, FormatContext, Kind, Make, RawRows, StageType, Zone,
};
use serde_json::Value;

/// More payloads than that in one input teach nothing.
pub const MAX_PAYLOADS: usize = 16;

static FORMATS: LazyLock<Vec<StageType>> =
    LazyLock::new(|| pipeline_builtin::stages().into_iter().filter(|stage| stage.kind == Kind::Format).collect());

/// The format of this name, as a pipeline would have it.
pub fn format(name: &str, options: &Value, columns: &[Column]) -> Box<dyn Format> {
    let stage = FORMATS.iter().find(|stage| stage.name == name).expect("it is built in");
    let Make::Format(make) = &stage.make else { panic!("it is a format") };
    let context = FormatContext { columns: columns.to_vec(), zone: Zone::Utc };
    make(options.clone(), context).expect("the options are right")
}

/// A column that may be null, from a field with names from the outside in.
pub fn nullable(name: &str, column_type: ColumnType, path: &str) -> Column {
    let from = ColumnFrom::Field(path.split('.').map(str::to_owned).collect());
    Column { name: name.into(), column_type, nullable: true, from }
}

/// Payloads as a source gives them.
pub fn raw_rows(payloads: &[&[u8]], header: Option<&[u8]>) -> RawRows {
    RawRows {
        payloads: BinaryArray::from_iter_values(payloads),
        keys: None,
        times: None,
        header: header.map(Into::into),
        topic: "readings".into(),
        partition: 0,
    }
}

/// What became of each payload: its row in words, or why there is none.
pub type Fates = Vec<Result<String, String>>;

/// Sorts what was decoded by payload, and checks that each payload has one fate.
pub fn fates(decoded: &Decoded, n_payloads: usize) -> Fates {
    let mut fates: Vec<Option<Result<String, String>>> = vec![None; n_payloads];
    let all: Vec<u32> = (0..n_payloads as u32).collect();
    let good = decoded.rows.as_deref().unwrap_or(&all);
    assert_eq!(good.len(), decoded.batch.num_rows(), "each row says which payload it came from");
    for (row, payload) in good.iter().enumerate() {
        assert_eq!(fates[*payload as usize].replace(Ok(in_words(&decoded.batch, row))), None);
    }
    for (payload, why) in &decoded.rejected {
        assert!(!why.is_empty(), "a rejected payload has a reason");
        assert_eq!(fates[*payload as usize].replace(Err(why.clone())), None);
    }
    fates.into_iter().map(|fate| fate.expect("each payload becomes a row or is rejected")).collect()
}

/// Decodes payloads in one batch.
pub fn decode(format: &mut dyn Format, raw: &RawRows) -> pipeline_stage::Result<Decoded> {
    let offsets: Vec<u64> = (0..raw.payloads.len() as u64).collect();
    format.decode(raw, &offsets)
}

/// What a decoder writes of the rows that it has accepted is read by another one as the same rows.
pub fn comes_back(format: &dyn Format, mut fresh: Box<dyn Format>, decoded: &Decoded) {
    let raw = format.encode(&decoded.batch).expect("rows can be written").expect("built-in formats write");
    let again = decode(&mut *fresh, &raw).expect("its own header is right");
    let before: Vec<String> = (0..decoded.batch.num_rows()).map(|row| in_words(&decoded.batch, row)).collect();
    let after: Fates = fates(&again, raw.payloads.len());
    let before: Fates = before.into_iter().map(Ok).collect();
    assert_eq!(before, after, "what was written is read as it was");
}

/// The values of a row, each with its sign and all its digits.
pub fn in_words(batch: &RecordBatch, row: usize) -> String {
    let values = batch.columns().iter().map(|column| match Cell::of(column, row) {
        Cell::Null => "null".into(),
        Cell::Text(text) => format!("{text:?}"),
        Cell::Integer(number) => number.to_string(),
        Cell::Float(number) => format!("{number:?}"),
        Cell::Boolean(is_true) => is_true.to_string(),
        Cell::Time(time) => time.0.to_string(),
        Cell::Other(text) => text,
    });
    values.collect::<Vec<String>>().join(" ")
}
