//! `format: csv`: any cut into batches gives the same rows, and what is written is read again.

use pipeline_stage::ColumnType;
use serde_json::json;

use crate::formats::{self, MAX_PAYLOADS, comes_back, decode, fates, nullable, raw_rows};

/// Stands between two records of an input: records may have line feeds inside.
const BETWEEN: u8 = 0x1e;

/// The first byte chooses the options; what follows are records, the first of which may be a header.
pub fn run(bytes: &[u8]) -> bool {
    let Some((choice, rest)) = bytes.split_first() else { return false };
    let columns = [
        nullable("id", ColumnType::String, "id"),
        nullable("value", ColumnType::Float, "value"),
        nullable("count", ColumnType::Integer, "count"),
        nullable("on", ColumnType::Boolean, "on"),
        nullable("time", ColumnType::Timestamp, "time"),
    ];
    let has_header = choice & 1 != 0;
    let null_text = [None, Some(""), Some("NA"), Some("\"")][usize::from(choice >> 1 & 3)];
    let delimiter = [",", ";", "\t", "|"][usize::from(choice >> 3 & 3)];
    let quote = ["\"", "'"][usize::from(choice >> 5 & 1)];
    let options = json!({ "header": has_header, "null_text": null_text, "delimiter": delimiter, "quote": quote });
    let build = || formats::format("csv", &options, &columns);

    let mut records = rest.split(|byte| *byte == BETWEEN).take(MAX_PAYLOADS);
    let header = if has_header { records.next() } else { None };
    let payloads: Vec<&[u8]> = records.collect();
    let mut together = build();
    let Ok(decoded) = decode(&mut *together, &raw_rows(&payloads, header)) else {
        assert!(has_header, "without a header nothing but rows can be wrong");
        return false;
    };
    let together_fates = fates(&decoded, payloads.len());
    for (payload, fate) in payloads.iter().zip(&together_fates) {
        let alone = decode(&mut *build(), &raw_rows(&[payload], header)).expect("the header was right before");
        assert_eq!(&fates(&alone, 1)[0], fate, "alone, and after others");
    }
    comes_back(&*together, build(), &decoded);
    decoded.batch.num_rows() != 0
}
