//! `json`: one JSON object for each row.

mod fields;
mod layouts;
mod literals;
mod runs;
mod steps;
mod values;
mod wanted;

use std::ops::Range;

use arrow::array::{BinaryArray, RecordBatch};
use pipeline_stage::{
    Column, ColumnFrom, Decoded, Format, FormatContext, FormatOptions, Framing, RawRows, Result, StageOptions,
    row_to_json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use super::rows::{ReadRows, Row, Table, text_of};
use fields::{Fields, Walk, not_json};
use layouts::Layouts;

/// Reads one JSON object for each row (RFC 8259); in files one object for each line.
///
/// A column takes the field of its name, or the one that `from` names: `data.value` is the field `value` of the
/// object `data`, `readings.0` the first element of the array `readings`. Other fields are skipped.
///
/// Types are not guessed: text is not a number, nor a number text. An `integer` takes `5` and `5.0`, not `5.5`. A
/// `timestamp` takes RFC 3339 text, with or without zone, or a number: seconds since 1970 below 100,000,000,000,
/// milliseconds from there on. A field that is missing or null is null in a column that is `nullable`.
///
/// A payload is rejected, and becomes a dead letter with the reason, when it is no JSON object, when a column cannot
/// take what it finds, or when a declared field is there twice.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonOptions {}

impl StageOptions for JsonOptions {
    const NAME: &'static str = "json";
    const EXAMPLE: &'static str = "
readings:
  type: file
  path: readings.jsonl
  format: json
  schema:
    sensor_id: string
    metric_type: string
    value: { type: float, from: data.value }
    timestamp: timestamp
";
}

impl FormatOptions for JsonOptions {
    fn build(self, context: FormatContext) -> Result<Box<dyn Format>> {
        Ok(Box::new(self.build_json(context)?))
    }
}

impl JsonOptions {
    fn build_json(self, context: FormatContext) -> Result<Json> {
        let table = Table::new(context)?;
        let fields = Fields::new(table.columns());
        Ok(Json { seen: vec![false; fields.len()], fields, table, layouts: Layouts::new() })
    }
}

struct Json {
    table: Table,
    fields: Fields,
    seen: Vec<bool>,
    layouts: Layouts,
}

impl Format for Json {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decode(&mut self, raw: &RawRows, offsets: &[u64]) -> Result<Decoded> {
        let Json { table, fields, seen, layouts } = self;
        let ends = raw.payloads.value_offsets();
        layouts.begin_batch(offsets.len(), (ends[ends.len() - 1] - ends[0]) as usize);
        table.decode(raw, offsets, &mut Objects { fields, seen, layouts })
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Option<RawRows>> {
        let payloads = (0..rows.num_rows()).map(|row| write_object(self.table.columns(), rows, row));
        Ok(Some(RawRows::of_payloads(payloads.collect::<Vec<_>>())))
    }
}

/// Reads the objects of a batch.
struct Objects<'a> {
    fields: &'a Fields,
    seen: &'a mut [bool],
    layouts: &'a mut Layouts,
}

impl ReadRows for Objects<'_> {
    fn read(&mut self, payload: &[u8], row: &mut Row) -> Result<(), String> {
        if self.layouts.read(payload, self.fields, row) {
            return Ok(());
        }
        row.take_back();
        read_object(text_of(payload)?, self.fields, self.seen, row)?;
        self.layouts.learn(payload, self.fields);
        Ok(())
    }

    fn expects_run(&self) -> bool {
        self.layouts.expects_run()
    }

    fn read_run(&mut self, payloads: &BinaryArray, rows: Range<usize>, row: &mut Row) -> usize {
        self.layouts.read_run(payloads, rows, self.fields, row)
    }

    fn after_run(&mut self, n_good: usize) {
        self.layouts.after_run(n_good);
    }
}

/// A row as an object from which it can be read; columns from beside the payload are left out.
fn write_object(columns: &[Column], rows: &RecordBatch, row: usize) -> Vec<u8> {
    let mut object = Map::new();
    for (column, value) in columns.iter().zip(row_to_json(rows, row).into_iter().map(|(_, value)| value)) {
        let ColumnFrom::Field(path) = &column.from else { continue };
        let Some((last, outer)) = path.split_last() else { continue };
        let mut inside = &mut object;
        for name in outer {
            let below = inside.entry(name).or_insert_with(|| Value::Object(Map::new()));
            inside = below.as_object_mut().expect("`schema` has no field below one that has a value");
        }
        inside.insert(last.clone(), value);
    }
    Value::Object(object).to_string().into_bytes()
}

fn read_object(text: &str, fields: &Fields, seen: &mut [bool], row: &mut Row) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let mut walk = Walk::new(fields, row, seen);
    let read = walk.root().deserialize(&mut json).and_then(|()| json.end());
    let Walk { at, problem, .. } = walk;
    match (read, problem) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(why)) => Err(why),
        (Err(error), None) => Err(not_json(&error, text, fields, at)),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
    use pipeline_stage::ColumnType;
    use pipeline_testkit::Random;
    use serde_json::json;

    use super::*;
    use crate::formats::fixtures::{column, context, decode, decode_one, from, nullable, raw_rows};

    fn json(columns: Vec<Column>) -> Box<dyn Format> {
        JsonOptions {}.build(context(columns)).unwrap()
    }

    fn readings() -> Box<dyn Format> {
        json(vec![
            column("id", ColumnType::String),
            column("value", ColumnType::Float),
            column("time", ColumnType::Timestamp),
        ])
    }

    #[test]
    fn rejects_what_it_cannot_read_and_says_why() {
        let nested = format!(r#"{{"id": {}{}, "value": 1, "time": 0}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for (payload, why) in [
            ("hello", "it is not JSON: expected value at byte 1: `hello`"),
            ("", "the payload is empty"),
            (" \r\n", "the payload is empty"),
            ("[1]", "it is an array, it must be an object"),
            ("7", "it is the number `7`, it must be an object"),
            ("null", "it is null, it must be an object"),
            (r#"{"id": "a", "val"#, "the JSON is cut off at byte 16: EOF while parsing a string"),
            (r#"{"id": "a", "value": 1, "time": 0"#, "the JSON is cut off at byte 33: EOF while parsing an object"),
            (r#"{"id": "a", "value": 1, "time": 0} x"#, "it is not JSON: trailing characters at byte 36: `x`"),
            (
                r#"{"id": "a", "value": NaN, "time": 0}"#,
                "it is not JSON: expected value at byte 22, in field `value`: `NaN, \"time\": 0}`",
            ),
            (
                r#"{"id": "a", "value": -Infinity}"#,
                "it is not JSON: invalid number at byte 23, in field `value`: `Infinity}`",
            ),
            (
                r#"{"id": "a", "value": 1e999, "time": 0}"#,
                "field `value` is a number too large for a float, at byte 26",
            ),
            (r#"{"id": "a", "value": "1.5", "time": 0}"#, "column `value` is the text `1.5`, it must be a number"),
            (r#"{"id": "a", "value": true, "time": 0}"#, "column `value` is `true`, it must be a number"),
            (r#"{"id": "a", "value": {"x": 1}, "time": 0}"#, "column `value` is an object, it must be a number"),
            (r#"{"id": ["a"], "value": 1, "time": 0}"#, "column `id` is an array, it must be text"),
            (r#"{"id": 17, "value": 1, "time": 0}"#, "column `id` is the number `17`, it must be text"),
            (r#"{"id": "a", "time": 0}"#, "column `value` is missing, it must be a number (or `nullable: true`)"),
            (r#"{"id": null, "value": 1, "time": 0}"#, "column `id` is null, it must be text (or `nullable: true`)"),
            (r#"{"id": "a", "value": 1, "time": 0, "value": 2}"#, "field `value` is there twice"),
            (
                r#"{"id": "\ud800", "value": 1, "time": 0}"#,
                "it is not JSON: unexpected end of hex escape at byte 15, in field `id`: `\", \"value\": 1, \"time…`",
            ),
            (
                "{\"id\": \"a\nb\"}",
                "it is not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 2, byte 0, in field `id`: `b\"}`",
            ),
            (
                r#"{"id": "a", "value": 1, "time": "soon"}"#,
                "column `time` is the text `soon`, it must be a time like `2025-07-20T08:19:16Z`, or seconds or milliseconds since 1970",
            ),
            (
                r#"{"id": "a", "value": 1, "time": 1e300}"#,
                "column `time` is the number `1e300`, it must be in the years 0 to 9999",
            ),
            (&nested, "column `id` is an array, it must be text"),
        ] {
            assert_eq!(decode_one(&mut *readings(), payload.as_bytes()), Err(why.into()), "{payload:.60}");
        }
        let not_utf8 = b"{\"id\": \"\xff\"}";
        assert_eq!(decode_one(&mut *readings(), not_utf8), Err("the payload is not UTF-8 at byte 8".into()));
    }

    #[test]
    fn wrong_values_are_shown_shortened_and_harmless() {
        let payload = json!({"id": "a", "value": format!("\u{1b}[2J{}", "x".repeat(5_000_000)), "time": 0}).to_string();
        let why = decode_one(&mut *readings(), payload.as_bytes()).unwrap_err();
        assert!(why.starts_with(r"column `value` is the text `\u{1b}[2Jxxx") && why.len() < 150, "{why}");
    }

    #[test]
    fn a_rejected_row_leaves_nothing_behind() {
        let good =
            |id: &str| format!(r#"{{"time": 0, "value": 1.5, "id": "{id}", "more": {{"value": [1e999, {{}}]}}}}"#);
        let payloads = [good("a"), r#"{"id": "lost", "value": 7, "time": "x"}"#.into(), "{".into(), good("b")];
        let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|text| Some(text.as_bytes())).chain([None]).collect();
        let decoded = decode(&mut *readings(), &payloads).unwrap();
        let ids: Vec<_> = decoded.batch.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!((ids, decoded.rows), (vec!["a", "b"], Some(vec![0, 3])));
        let rejected: Vec<u32> = decoded.rejected.iter().map(|(row, _)| *row).collect();
        assert_eq!(rejected, [1, 2, 4]);
        assert_eq!(decoded.rejected[2].1, "it has no payload (a tombstone)");
    }

    #[test]
    fn texts_are_kept_exactly() {
        let texts =
            ["", "\0", "a\0b", "'; DROP TABLE x; --", "\"\\\n\r\t", "😀 <@here> *b* &amp;", "\u{202e}", "\u{feff}x"];
        let mut format = json(vec![column("id", ColumnType::String)]);
        for text in texts {
            let decoded = decode(&mut *format, &[Some(json!({"id": text}).to_string().as_bytes())]).unwrap();
            assert_eq!(decoded.batch.column(0).as_string::<i32>().value(0), text);
        }
        let escaped = decode(&mut *format, &[Some(br#"{"\u0069d": "\ud83d\ude00\u0000"}"#)]).unwrap();
        assert_eq!(escaped.batch.column(0).as_string::<i32>().value(0), "😀\0");
    }

    #[test]
    fn numbers_are_rounded_correctly_and_integers_not_at_all() {
        let mut format = json(vec![nullable("f", ColumnType::Float), nullable("i", ColumnType::Integer)]);
        let mut random = Random::new(5);
        for _ in 0..2_000 {
            let value = f64::from_bits(random.bits());
            if value.is_finite() {
                let payload = format!(r#"{{"f": {value:e}}}"#);
                let decoded = decode(&mut *format, &[Some(payload.as_bytes())]).unwrap();
                assert_eq!(decoded.batch.column(0).as_primitive::<Float64Type>().value(0).to_bits(), value.to_bits());
            }
        }
        for (number, whole) in [
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("5.0", Ok(5)),
            ("-0", Ok(0)),
            ("1e3", Ok(1_000)),
            ("5.5", Err("is the number `5.5`, it must be a whole number")),
            ("9223372036854775808", Err("is the number `9223372036854775808`, it must fit in 64 bits")),
            ("1e300", Err("is the number `1e300`, it must fit in 64 bits")),
            ("18446744073709551616", Err("is the number `1.8446744073709552e19`, it must fit in 64 bits")),
            ("9007199254740991.0", Ok(9_007_199_254_740_991)),
            (
                "9007199254740993.0",
                Err("is the number `9007199254740992.0`, a whole number that large must be written without a point"),
            ),
        ] {
            let payload = format!(r#"{{"i": {number}}}"#);
            let decoded = decode(&mut *format, &[Some(payload.as_bytes())]).unwrap();
            match whole {
                Ok(whole) => assert_eq!(decoded.batch.column(1).as_primitive::<Int64Type>().value(0), whole),
                Err(why) => assert_eq!(decoded.rejected[0].1, format!("column `i` {why}")),
            }
        }
    }

    #[test]
    fn finds_fields_inside_others() {
        let mut format = json(vec![
            from("data.value", nullable("value", ColumnType::Float)),
            from("data.value", nullable("again", ColumnType::Integer)),
            from("tags.0", nullable("first", ColumnType::String)),
            from("tags.2.name", nullable("third", ColumnType::String)),
        ]);
        let mut row = |payload: &str| decode_one(&mut *format, payload.as_bytes());
        assert_eq!(row(r#"{"tags": ["a", [1, 2], {"name": "c"}, 4], "data": {"value": 2}}"#), Ok("2.0 2 a c".into()));
        assert_eq!(row(r#"{"tags": {"0": "a"}, "data": null}"#), Ok("null null a null".into()));
        assert_eq!(row(r#"{"tags": [], "data": {}}"#), Ok("null null null null".into()));
        assert_eq!(row(r#"{"data": 5}"#), Err("field `data` is the number `5`, it must be an object".into()));
        assert_eq!(row(r#"{"data": {}, "data": {}}"#), Err("field `data` is there twice".into()));
        let why = "column `value` (from `data.value`) is the text `x`, it must be a number";
        assert_eq!(row(r#"{"data": {"value": "x"}}"#), Err(why.into()));
    }

    #[test]
    fn times_are_kept_from_the_year_0_to_9999() {
        let mut format = json(vec![column("time", ColumnType::Timestamp)]);
        for (time, micros) in [
            (r#""0000-01-01T00:00:00Z""#, -62_167_219_200_000_000),
            (r#""9999-12-31T23:59:59.999999Z""#, 253_402_300_799_999_999),
            ("1752999556.25", 1_752_999_556_250_000),
            ("1752999556250", 1_752_999_556_250_000),
        ] {
            let decoded = decode(&mut *format, &[Some(format!(r#"{{"time": {time}}}"#).as_bytes())]).unwrap();
            assert_eq!(decoded.batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), micros, "{time}");
        }
    }

    #[test]
    fn depth_that_nobody_asked_for_is_skipped() {
        let depth = 100_000;
        let payload = format!(r#"{{"x": {}{}, "id": "a"}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(decode_one(&mut *json(vec![column("id", ColumnType::String)]), payload.as_bytes()), Ok("a".into()));
    }

    #[test]
    fn any_bytes_are_read_or_rejected() {
        let mut random = Random::new(11);
        let good = r#"{"id": "a\n\u00e9😀", "value": -1.5e3, "time": "2025-07-20T08:19:16Z"}"#.as_bytes();
        let (mut format, mut n_rejected) = (readings(), 0);
        for _ in 0..20_000 {
            let mut payload = good.to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(payload.len());
                match random.below(3) {
                    0 => payload.truncate(at.max(1)),
                    1 => payload[at] = random.bits() as u8,
                    _ => drop(payload.remove(at)),
                }
                if payload.is_empty() {
                    break;
                }
            }
            let decoded = format.decode(&raw_rows(&[Some(&payload)]), &[0]).unwrap();
            assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), 1);
            n_rejected += decoded.rejected.len();
        }
        assert!(10_000 < n_rejected && n_rejected < 20_000, "{n_rejected}");
    }
}
