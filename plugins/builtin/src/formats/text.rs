//! `text`: each payload is one text.

use arrow::array::{Array, AsArray, RecordBatch};
use pipeline_stage::{
    ColumnFrom, ColumnType, Decoded, Format, FormatContext, FormatOptions, Framing, RawRows, Result, StageError,
    StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::{Row, Table, text_of};
use super::value::Value;

/// Takes each payload as it is, as text: documents for a transform such as `unnest`, lines of a log.
///
/// `schema` declares one column for it, of type `string`; further columns may stand beside the payload (`meta`). In
/// files each line is a payload.
///
/// A payload that is empty, blank or not UTF-8 is rejected and becomes a dead letter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextOptions {}

impl StageOptions for TextOptions {
    const NAME: &'static str = "text";
    const EXAMPLE: &'static str = "
documents:
  type: file
  path: documents.jsonl
  format: text
  schema:
    document: string
";
}

impl FormatOptions for TextOptions {
    fn build(self, context: FormatContext) -> Result<Box<dyn Format>> {
        let fields: Vec<usize> = (0..context.columns.len())
            .filter(|column| matches!(context.columns[*column].from, ColumnFrom::Field(_)))
            .collect();
        let &[column] = fields.as_slice() else {
            return Err(StageError::config(format!(
                "`schema` has {} columns for the payload, `text` has one of type `string`; others need `meta`",
                fields.len()
            )));
        };
        let payload = &context.columns[column];
        let name = &payload.name;
        if payload.column_type != ColumnType::String {
            let given = payload.column_type.name();
            return Err(StageError::config(format!(
                "column `{name}` is `{given}`, a payload is text: `{name}: string`"
            )));
        }
        if payload.from != ColumnFrom::Field(vec![name.clone()]) {
            return Err(StageError::config(format!(
                "column `{name}` has `from`, but text has no fields: delete `from`"
            )));
        }
        Ok(Box::new(Text { column, table: Table::new(context)? }))
    }
}

struct Text {
    /// The one that takes the payload.
    column: usize,
    table: Table,
}

impl Format for Text {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decode(&mut self, raw: &RawRows, offsets: &[u64]) -> Result<Decoded> {
        let column = self.column;
        self.table.decode(raw, offsets, &mut |payload: &[u8], row: &mut Row| {
            row.set(column, Value::Text(text_of(payload)?));
            Ok(())
        })
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Option<RawRows>> {
        let texts = rows.column(self.column).as_string::<i32>();
        let texts = (0..texts.len()).map(|row| texts.value(row));
        Ok(Some(RawRows::of_payloads(texts.collect())))
    }
}

#[cfg(test)]
mod tests {
    use pipeline_stage::{Column, Meta};

    use super::*;
    use crate::formats::fixtures::{column, context, decode, decode_one, from, meta};

    fn text(columns: Vec<Column>) -> Result<Box<dyn Format>> {
        TextOptions {}.build(context(columns))
    }

    #[test]
    fn payloads_are_kept_to_the_byte() {
        let mut format =
            text(vec![meta("n", ColumnType::Integer, Meta::Offset), column("t", ColumnType::String)]).unwrap();
        for payload in [" {\"a\": 1}\r\n", "x", "\0😀 \u{1b}[2J"] {
            assert_eq!(decode_one(&mut *format, payload.as_bytes()), Ok(format!("0 {payload}")));
        }
        let (decoded, again) = {
            let decoded = decode(&mut *format, &[Some(b"a"), Some(b"\xff"), Some(b" "), None, Some(b"b")]).unwrap();
            let again = format.encode(&decoded.batch).unwrap().unwrap();
            (decoded, again)
        };
        let reasons: Vec<&str> = decoded.rejected.iter().map(|(_, why)| why.as_str()).collect();
        let expected =
            ["the payload is not UTF-8 at byte 0", "the payload is empty", "it has no payload (a tombstone)"];
        assert_eq!((decoded.rows, reasons), (Some(vec![0, 4]), expected.to_vec()));
        assert_eq!(again.payloads.iter().flatten().collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn refuses_columns_that_a_text_does_not_have() {
        let t = || column("t", ColumnType::String);
        for (columns, why) in [
            (vec![], "`schema` has 0 columns for the payload, `text` has one of type `string`; others need `meta`"),
            (
                vec![t(), column("u", ColumnType::String)],
                "`schema` has 2 columns for the payload, `text` has one of type `string`; others need `meta`",
            ),
            (vec![column("t", ColumnType::Float)], "column `t` is `float`, a payload is text: `t: string`"),
            (vec![from("a.b", t())], "column `t` has `from`, but text has no fields: delete `from`"),
        ] {
            assert_eq!(text(columns).err().map(|error| error.to_string()).as_deref(), Some(why));
        }
    }
}
