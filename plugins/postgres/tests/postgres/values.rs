//! Every value is in the table as it was in the row.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use pipeline_stage::timestamp_type;
use serde_json::json;

use crate::fixture::{batch, claimed, commit, database, sink};

const YEAR_0: i64 = -62_167_219_200_000_000;
/// 4714-11-24 BC, the first day that PostgreSQL has.
const FIRST_TIME: i64 = -210_866_803_200_000_000;
const END_OF_9999: i64 = 253_402_300_799_999_999;

const TEXTS: [Option<&str>; 8] = [
    Some(""),
    Some("\\N"),
    Some("it's \"quoted\"\\"),
    Some("'; DROP TABLE t; --"),
    Some("🌡 naïve 漢字 \u{10FFFF}"),
    Some("tab\tnew\nline\r\u{1}"),
    Some("NULL"),
    None,
];
const INTEGERS: [Option<i64>; 8] =
    [Some(0), Some(-1), Some(i64::MAX), Some(i64::MIN), Some(1 << 53), Some((1 << 53) + 1), Some(42), None];
const FLOATS: [Option<f64>; 8] = [
    Some(-0.0),
    Some(f64::MAX),
    Some(5e-324),
    Some(0.1 + 0.2),
    Some(f64::INFINITY),
    Some(f64::NEG_INFINITY),
    Some(f64::NAN),
    None,
];
const BOOLEANS: [Option<bool>; 8] =
    [Some(true), Some(false), Some(true), Some(false), Some(true), Some(true), Some(false), None];
const TIMES: [Option<i64>; 8] = [
    Some(i64::MAX - 1),
    Some(-1),
    Some(1),
    Some(YEAR_0),
    Some(END_OF_9999),
    Some(1_752_999_556_412_345),
    Some(FIRST_TIME),
    None,
];

/// The extremes of every type, `n` times.
fn extremes(n: usize) -> RecordBatch {
    let fields = vec![
        Field::new("s", DataType::Utf8, true),
        Field::new("i", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("at", timestamp_type(), true),
    ];
    batch(
        Arc::new(Schema::new(fields)),
        vec![
            Arc::new(StringArray::from(TEXTS.repeat(n))),
            Arc::new(Int64Array::from(INTEGERS.repeat(n))),
            Arc::new(Float64Array::from(FLOATS.repeat(n))),
            Arc::new(BooleanArray::from(BOOLEANS.repeat(n))),
            Arc::new(TimestampMicrosecondArray::from(TIMES.repeat(n)).with_timezone("UTC")),
        ],
    )
}

fn float_text(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => value.to_string(),
    }
}

#[tokio::test]
async fn extremes_of_every_type_are_stored_exactly_by_insert_and_by_copy() {
    for n in [1, 1_300] {
        let database = database().await;
        let rows = extremes(n);
        let mut sink = claimed(&database, rows.schema()).await;
        commit(sink.as_mut(), 1, vec![rows]).await;
        let found = database
            .query("SELECT s, i, f, b::text, (extract(epoch FROM at) * 1000000)::bigint FROM t ORDER BY id")
            .await;
        assert_eq!(found.len(), 8 * n);
        for (row, found) in found.iter().enumerate() {
            let i = row % 8;
            assert_eq!(found[0].as_deref(), TEXTS[i], "row {row}");
            assert_eq!(found[1], INTEGERS[i].map(|value| value.to_string()), "row {row}");
            let float = found[2].as_ref().map(|text| float_text(text.parse().unwrap()));
            assert_eq!(float, FLOATS[i].map(float_text), "row {row}");
            assert_eq!(found[3], BOOLEANS[i].map(|value| value.to_string()), "row {row}");
            assert_eq!(found[4], TIMES[i].map(|micros| micros.to_string()), "row {row}");
        }
    }
}

#[tokio::test]
async fn slices_of_batches_are_written_and_nothing_else() {
    let database = database().await;
    let rows = extremes(2);
    let mut sink = claimed(&database, rows.schema()).await;
    commit(sink.as_mut(), 1, vec![rows.slice(2, 2), rows.slice(0, 0), rows.slice(13, 1)]).await;
    let found = database.query("SELECT s, i FROM t ORDER BY id").await;
    let expected: Vec<Vec<Option<String>>> = [2, 3, 5]
        .into_iter()
        .map(|i| vec![TEXTS[i].map(String::from), INTEGERS[i].map(|value| value.to_string())])
        .collect();
    assert_eq!(found, expected);
}

/// What a value of each column type looks like in the other types that a table may have for it.
#[tokio::test]
async fn other_types_of_columns_take_the_same_values() {
    let cases = [
        ("s", "varchar(5)", vec!["\"ä€𝄞xy\""], vec!["ä€𝄞xy"]),
        ("s", "char(3)", vec!["\"a\""], vec!["a  "]),
        ("s", "json", vec![r#""{\"a\":  1}""#], vec![r#"{"a":  1}"#]),
        ("s", "jsonb", vec![r#""{\"a\":  1}""#], vec![r#"{"a": 1}"#]),
        ("s", "mood", vec!["\"calm\""], vec!["calm"]),
        ("s", "short_text", vec!["\"abc\""], vec!["abc"]),
        ("i", "smallint", vec!["-32768", "32767"], vec!["-32768", "32767"]),
        ("i", "integer", vec!["-2147483648", "2147483647"], vec!["-2147483648", "2147483647"]),
        ("i", "double precision", vec!["9007199254740992"], vec!["9.007199254740992e+15"]),
        (
            "i",
            "numeric",
            vec!["0", "-10000", "9223372036854775807", "-9223372036854775808", "100020003"],
            vec!["0", "-10000", "9223372036854775807", "-9223372036854775808", "100020003"],
        ),
        ("f", "real", vec!["0.1", "-2.5", "3e38"], vec!["0.1", "-2.5", "3e+38"]),
        (
            "f",
            "numeric",
            vec!["0.1", "-12345.678", "1e-7", "1e20", "0.0", "123456789.125", "5e-324"],
            vec!["0.1", "-12345.678", "0.0000001", "100000000000000000000", "0", "123456789.125", &TINY],
        ),
        ("f", "numeric(6,2)", vec!["3.14159", "-9999.99"], vec!["3.14", "-9999.99"]),
        ("at", "timestamp", vec!["1752999556412345"], vec!["2025-07-20 08:19:16.412345"]),
        ("at", "timestamptz(0)", vec!["1752999556000000"], vec!["2025-07-20 08:19:16+00"]),
    ];
    let database = database().await;
    database.execute("CREATE TYPE mood AS ENUM ('calm', 'loud'); CREATE DOMAIN short_text AS varchar(3)").await;
    for (column, sql_type, given, expected) in cases {
        for n in [1, 11_000] {
            database.execute(&format!("DROP TABLE IF EXISTS x; CREATE TABLE x (id serial, v {sql_type})")).await;
            let rows = column_of(column, &given.repeat(n));
            let mut sink = sink(&database, json!({ "table": "x" }), rows.schema());
            let task = format!("{column} {sql_type} {n}");
            let owner = crate::fixture::owner(&task, "life-1", 1);
            sink.claim(&owner).await.unwrap();
            let committed = sink.commit(&[crate::fixture::epoch(&owner, 1, vec![rows])]).await;
            crate::fixture::assert_done(committed, 1);
            let found = database.query("SET timezone = 'UTC'; SELECT v::text || '' FROM x ORDER BY id").await;
            let found: Vec<String> = found.into_iter().map(|row| row[0].clone().unwrap()).collect();
            // A cast to text drops the spaces that a char(n) is filled with.
            let expected: Vec<&str> =
                expected.iter().map(|text| if sql_type == "char(3)" { text.trim_end() } else { text }).collect();
            assert_eq!(found, expected.repeat(n), "{column} in {sql_type}");
        }
    }
}

/// 5e-324 written out.
static TINY: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("0.{}5", "0".repeat(323)));

/// One column called `v`, of values written as JSON.
fn column_of(kind: &str, values: &[&str]) -> RecordBatch {
    let texts: Vec<serde_json::Value> = values.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let integers = || texts.iter().map(|value| value.as_i64().unwrap());
    let (data_type, array): (DataType, arrow::array::ArrayRef) = match kind {
        "s" => {
            (DataType::Utf8, Arc::new(StringArray::from_iter_values(texts.iter().map(|value| value.as_str().unwrap()))))
        }
        "i" => (DataType::Int64, Arc::new(Int64Array::from_iter_values(integers()))),
        "f" => (
            DataType::Float64,
            Arc::new(Float64Array::from_iter_values(texts.iter().map(|value| value.as_f64().unwrap()))),
        ),
        _ => (timestamp_type(), Arc::new(TimestampMicrosecondArray::from_iter_values(integers()).with_timezone("UTC"))),
    };
    batch(Arc::new(Schema::new(vec![Field::new("v", data_type, false)])), vec![array])
}
