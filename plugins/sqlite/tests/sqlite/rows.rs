//! Rows are stored as they were, or come back with the reason.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use pipeline_stage::ErrorKind;

use crate::fixture::{Folder, batch, commit, epoch, failed, numbers, owner, refused};

const TEXTS: [Option<&str>; 6] = [
    Some(""),
    Some("it's \"quoted\"\\ a\0b"),
    Some("'; DROP TABLE t; --"),
    Some("🌡 naïve 漢字 \u{10FFFF}"),
    Some("007\t1e5\n"),
    None,
];
const INTEGERS: [Option<i64>; 6] = [Some(0), Some(-1), Some(i64::MAX), Some(i64::MIN), Some((1 << 53) + 1), None];
const FLOATS: [Option<f64>; 6] =
    [Some(5e-324), Some(f64::MAX), Some(0.1 + 0.2), Some(f64::INFINITY), Some(f64::NEG_INFINITY), None];
const BOOLEANS: [Option<bool>; 6] = [Some(true), Some(false), Some(true), Some(false), Some(true), None];
const TIMES: [(Option<i64>, Option<&str>); 6] = [
    (Some(0), Some("1970-01-01 00:00:00.000000")),
    (Some(-1), Some("1969-12-31 23:59:59.999999")),
    (Some(-62_167_219_200_000_000), Some("0000-01-01 00:00:00.000000")),
    (Some(253_402_300_799_999_999), Some("9999-12-31 23:59:59.999999")),
    (Some(1_752_999_556_412_000), Some("2025-07-20 08:19:16.412000")),
    (None, None),
];

fn extremes(n: usize) -> RecordBatch {
    let times: Vec<Option<i64>> = TIMES.iter().map(|(micros, _)| *micros).collect();
    batch(vec![
        ("s", Arc::new(StringArray::from(TEXTS.repeat(n)))),
        ("i", Arc::new(Int64Array::from(INTEGERS.repeat(n)))),
        ("f", Arc::new(Float64Array::from(FLOATS.repeat(n)))),
        ("b", Arc::new(BooleanArray::from(BOOLEANS.repeat(n)))),
        ("at", Arc::new(TimestampMicrosecondArray::from(times.repeat(n)).with_timezone("UTC"))),
    ])
}

#[tokio::test]
async fn extremes_of_every_type_are_stored_exactly_in_chunks_of_every_size() {
    let folder = Folder::new();
    let rows = extremes(200);
    let mut sink = folder.claimed(rows.schema()).await;
    // 1,111 rows need a statement of each size.
    commit(sink.as_mut(), 1, vec![rows.slice(0, 1_111)]).await;
    let mut connection = folder.connect().await;
    type Found = (Option<String>, Option<i64>, Option<f64>, Option<bool>, Option<String>);
    let found: Vec<Found> =
        sqlx::query_as("SELECT s, i, f, b, at FROM t ORDER BY id").fetch_all(&mut connection).await.unwrap();
    assert_eq!(found.len(), 1_111);
    for (row, found) in found.into_iter().enumerate() {
        let i = row % 6;
        let expected = (TEXTS[i].map(String::from), INTEGERS[i], FLOATS[i], BOOLEANS[i], TIMES[i].1.map(String::from));
        assert_eq!(found, expected, "row {row}");
    }
    let types = folder
        .query("SELECT DISTINCT typeof(s), typeof(i), typeof(f), typeof(b), typeof(at) FROM t WHERE s IS NOT NULL")
        .await;
    assert_eq!(types, [["text", "integer", "real", "integer", "text"].map(|text| Some(text.to_owned()))]);
}

#[tokio::test]
async fn times_compare_with_those_of_sqlite() {
    let folder = Folder::new();
    let rows = extremes(1);
    let mut sink = folder.claimed(rows.schema()).await;
    commit(sink.as_mut(), 1, vec![rows]).await;
    for (condition, n_rows) in [
        ("at > datetime('2025-07-20 08:19:16')", 2),
        ("at > datetime('2025-07-20 08:19:17')", 1),
        ("unixepoch(at) = 1752999556", 1),
        ("date(at) = '2025-07-20'", 1),
    ] {
        assert_eq!(folder.count(&format!("SELECT count(*) FROM t WHERE {condition}")).await, n_rows, "{condition}");
    }
}

#[tokio::test]
async fn rows_that_can_never_be_stored_come_back_and_nothing_is_written() {
    let folder = Folder::new();
    folder.execute("CREATE TABLE t (n INTEGER UNIQUE CHECK (n <> 77), f REAL); INSERT INTO t VALUES (500, 0)").await;
    let rows = |numbers: Vec<i64>, floats: Vec<f64>| {
        batch(vec![("n", Arc::new(Int64Array::from(numbers))), ("f", Arc::new(Float64Array::from(floats)))])
    };
    let filler: Vec<i64> = (1_000..4_000).collect();
    let first = rows(filler.clone(), vec![0.0; filler.len()]);
    let second = rows(vec![1, 77, 2, 500, 3, 1], vec![0.0, 0.0, f64::NAN, 0.0, 0.0, 0.0]);
    let mut sink = folder.claimed(first.schema()).await;
    let me = owner("0", "life-1", 1);
    let found = refused(sink.commit(&[epoch(&me, 1, vec![first]), epoch(&me, 2, vec![second.clone()])]).await);
    let found: Vec<(usize, usize, usize, &str)> =
        found.iter().map(|refused| (refused.epoch, refused.batch, refused.row, refused.why.as_str())).collect();
    assert_eq!(
        found,
        [
            (1, 0, 1, "SQLite refuses it: CHECK constraint failed: n <> 77"),
            (1, 0, 2, "column `f`: is not a number (NaN), which SQLite cannot store"),
            (1, 0, 3, "SQLite refuses it: UNIQUE constraint failed: t.n"),
            (1, 0, 5, "SQLite refuses it: UNIQUE constraint failed: t.n"),
        ]
    );
    assert_eq!(folder.count("SELECT count(*) FROM t").await, 1);
    commit(sink.as_mut(), 1, vec![second.slice(0, 1), second.slice(4, 1)]).await;
    assert_eq!(folder.count("SELECT count(*) FROM t").await, 3);
}

#[tokio::test]
async fn a_table_that_is_altered_is_looked_at_again() {
    let folder = Folder::new();
    let mut sink = folder.claimed(numbers(&[]).schema()).await;
    let me = owner("0", "life-1", 1);
    folder.execute("DROP TABLE t").await;
    let error = failed(sink.commit(&[epoch(&me, 1, vec![numbers(&[1])])]).await);
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    sink.claim(&me).await.unwrap();
    commit(sink.as_mut(), 1, vec![numbers(&[1])]).await;
    folder.execute("ALTER TABLE t RENAME COLUMN n TO m").await;
    assert_eq!(failed(sink.commit(&[epoch(&me, 2, vec![numbers(&[1])])]).await).kind(), ErrorKind::Transient);
    let error = failed(sink.claim(&me).await);
    assert_eq!((error.kind(), error.option()), (ErrorKind::Fatal, Some("table")));
}
