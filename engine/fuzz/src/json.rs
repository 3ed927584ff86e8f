//! `format: json`: the fast way, which assumes the shape of the payloads before, against the slow one through serde, and
//! both against serde's own picture of the payload.

use pipeline_stage::{Column, ColumnFrom, ColumnType};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::formats::{self, MAX_PAYLOADS, comes_back, decode, fates, nullable, raw_rows};

/// The first byte chooses the columns; what follows are payloads, one a line.
pub fn run(bytes: &[u8]) -> bool {
    let Some((choice, rest)) = bytes.split_first() else { return false };
    let columns = columns(*choice);
    let payloads: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').take(MAX_PAYLOADS).collect();
    let build = || formats::format("json", &json!({}), &columns);

    let mut together = build();
    let decoded = decode(&mut *together, &raw_rows(&payloads, None)).expect("JSON has no header to be wrong");
    let together_fates = fates(&decoded, payloads.len());
    for (payload, fate) in payloads.iter().zip(&together_fates) {
        // A decoder that has seen nothing has no shape to assume: it goes by serde.
        let alone = decode(&mut *build(), &raw_rows(&[payload], None)).expect("as above");
        assert_eq!(&fates(&alone, 1)[0], fate, "alone, and after others");
        match fate {
            Ok(_) => assert!(serde_json::from_slice::<IgnoredAny>(payload).is_ok(), "it is no JSON"),
            Err(why) => is_refused_rightly(why, payload),
        }
    }
    let good = decoded.rows.clone().unwrap_or_else(|| (0..payloads.len() as u32).collect());
    for (row, payload) in good.iter().enumerate() {
        is_what_serde_finds(&columns, &decoded.batch, row, payloads[*payload as usize]);
    }
    comes_back(&*together, build(), &decoded);
    decoded.batch.num_rows() != 0
}

fn columns(choice: u8) -> Vec<Column> {
    let is_required = |column: Column| Column { nullable: false, ..column };
    let flat = [
        nullable("id", ColumnType::String, "id"),
        nullable("value", ColumnType::Float, "value"),
        nullable("time", ColumnType::Timestamp, "time"),
    ];
    match choice % 3 {
        0 => flat.into_iter().map(is_required).collect(),
        1 => {
            let more = [nullable("count", ColumnType::Integer, "count"), nullable("on", ColumnType::Boolean, "on")];
            flat.into_iter().chain(more).collect()
        }
        _ => vec![
            nullable("value", ColumnType::Float, "data.value"),
            nullable("name", ColumnType::String, "data.name"),
            nullable("first", ColumnType::Integer, "tags.0"),
            nullable("on", ColumnType::Boolean, "tags.1.on"),
        ],
    }
}

fn is_refused_rightly(why: &str, payload: &[u8]) {
    let is_said_to_be_no_json = why.starts_with("it is not JSON") || why.starts_with("the JSON is cut off");
    if is_said_to_be_no_json {
        assert!(serde_json::from_slice::<Value>(payload).is_err(), "{why}");
    }
    if why.starts_with("the payload is not UTF-8") {
        assert!(std::str::from_utf8(payload).is_err(), "{why}");
    }
}

/// Each column holds what serde finds in its place.
fn is_what_serde_finds(columns: &[Column], batch: &arrow::array::RecordBatch, row: usize, payload: &[u8]) {
    // What nobody asked for may be too deep or too large for a `Value`; the payload is good all the same.
    let Ok(whole) = serde_json::from_slice::<Value>(payload) else { return };
    for (number, column) in columns.iter().enumerate() {
        let one = batch.project(&[number]).expect("the column is there");
        let found = formats::in_words(&one, row);
        if let Some(expected) = expected(column, &whole) {
            assert_eq!(found, expected, "column `{}`", column.name);
        }
    }
}

/// The value of a column in words; none when that takes more than serde to know.
fn expected(column: &Column, whole: &Value) -> Option<String> {
    let ColumnFrom::Field(path) = &column.from else { return None };
    let value = path.iter().try_fold(whole, |value, name| match value {
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        Value::Object(values) => values.get(name),
        _ => None,
    });
    Some(match (column.column_type, value.unwrap_or(&Value::Null)) {
        (_, Value::Null) => "null".into(),
        (ColumnType::String, Value::String(text)) => format!("{text:?}"),
        (ColumnType::Boolean, Value::Bool(is_true)) => is_true.to_string(),
        (ColumnType::Float, Value::Number(number)) => format!("{:?}", number.as_f64()?),
        (ColumnType::Integer, Value::Number(number)) => match number.as_i64() {
            Some(whole) => whole.to_string(),
            None => (number.as_f64()? as i64).to_string(),
        },
        (ColumnType::Timestamp, Value::String(text)) => {
            let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
            // Chrono keeps leap seconds in the nanoseconds of the second before.
            (time.timestamp_subsec_nanos() < 1_000_000_000).then(|| time.timestamp_micros().to_string())?
        }
        (ColumnType::Timestamp, _) => return None,
        (_, other) => panic!("column `{}` cannot take {other}", column.name),
    })
}
