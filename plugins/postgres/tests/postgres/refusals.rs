//! Rows that a table can never take come back, all of them, and nothing is written.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use pipeline_stage::{Refused, timestamp_type};
use serde_json::json;

use crate::fixture::{assert_done, batch, claimed, commit, database, epoch, numbers, owner, refused, sink};

fn reasons(refused: &[Refused]) -> Vec<(usize, usize, usize, &str)> {
    refused.iter().map(|refused| (refused.epoch, refused.batch, refused.row, refused.why.as_str())).collect()
}

#[tokio::test]
async fn values_without_a_form_in_the_table_are_refused() {
    let database = database().await;
    database.execute("CREATE TABLE t (s varchar(3), i int, f real, d numeric, at timestamptz NOT NULL)").await;
    let fields = vec![
        Field::new("s", DataType::Utf8, true),
        Field::new("i", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("d", DataType::Float64, true),
        Field::new("at", timestamp_type(), true),
    ];
    let rows = batch(
        Arc::new(Schema::new(fields)),
        vec![
            Arc::new(StringArray::from(vec!["äöü", "äöüß", "a\0b", "", "", "", "", "", "", ""])),
            Arc::new(Int64Array::from(vec![0, 0, 0, 1 << 31, 0, 0, 0, 0, 0, 0])),
            Arc::new(Float64Array::from(vec![f64::INFINITY, 0.0, 0.0, 0.0, 1e39, 1e-60, 0.0, 0.0, 0.0, 0.0])),
            Arc::new(Float64Array::from(vec![f64::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, f64::INFINITY, 0.0, 0.0, 0.0])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![
                    Some(0),
                    Some(0),
                    Some(0),
                    Some(0),
                    Some(0),
                    Some(0),
                    Some(0),
                    None,
                    Some(-210_866_803_200_000_001),
                    Some(i64::MIN),
                ])
                .with_timezone("UTC"),
            ),
        ],
    );
    let mut sink = claimed(&database, rows.schema()).await;
    let found = refused(sink.commit(&[epoch(&owner("0", "life-1", 1), 1, vec![rows.clone()])]).await);
    assert_eq!(
        reasons(&found),
        [
            (0, 0, 1, "column `s` of the table takes 3 characters, the text has 4"),
            (0, 0, 2, "column `s`: the text holds a NUL character, which PostgreSQL cannot store"),
            (0, 0, 3, "column `i` of the table is too small for 2147483648"),
            (0, 0, 4, "column `f` of the table cannot hold 1e39"),
            (0, 0, 5, "column `f` of the table cannot hold 1e-60"),
            (0, 0, 6, "column `d` of the table cannot hold inf"),
            (0, 0, 7, "column `at` must have a value and the row has none"),
            (0, 0, 8, "column `at`: -4713-11-23T23:59:59.999999Z is before PostgreSQL's first day"),
            (0, 0, 9, "column `at`: -9223372036854775808 is before PostgreSQL's first day"),
        ]
    );
    assert_eq!(database.count("SELECT count(*) FROM t").await, 0);
    // The engine makes dead letters of them and comes again with the rest.
    commit(sink.as_mut(), 1, vec![rows.slice(0, 1)]).await;
    let found = database.query("SELECT s, f, d FROM t").await;
    assert_eq!(found, [["äöü", "Infinity", "NaN"].map(|text| Some(text.to_owned()))]);
}

#[tokio::test]
async fn rows_that_break_a_constraint_are_found_among_many() {
    let database = database().await;
    database.execute("CREATE TABLE t (n bigint UNIQUE CHECK (n <> 77)); INSERT INTO t VALUES (500)").await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    for n_filler in [0, 20_000] {
        let me = owner("0", "life-1", 1);
        let filler: Vec<i64> = (1_000_000..1_000_000 + n_filler).collect();
        let epochs = [
            epoch(&me, 1, vec![numbers(&filler), numbers(&[1, 77, 2, 500])]),
            epoch(&me, 2, vec![numbers(&[3, 1, 4])]),
        ];
        let found = refused(sink.commit(&epochs).await);
        let check = "PostgreSQL refuses it: new row for relation \"t\" violates check constraint \"t_n_check\": Failing row contains (77)";
        let unique = |n: i64| {
            format!(
                "PostgreSQL refuses it: duplicate key value violates unique constraint \"t_n_key\": Key (n)=({n}) already exists"
            )
        };
        assert_eq!(reasons(&found), [(0, 1, 1, check), (0, 1, 3, unique(500).as_str()), (1, 0, 1, unique(1).as_str())]);
        assert_eq!(database.count("SELECT count(*) FROM t").await, 1, "rows were left by the search");
    }
}

#[tokio::test]
async fn refusals_of_both_kinds_come_back_together() {
    let database = database().await;
    database.execute("CREATE TABLE t (n smallint CHECK (n <> 77))").await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    let found = refused(sink.commit(&[epoch(&owner("0", "life-1", 1), 1, vec![numbers(&[1, 77, 40_000, 2])])]).await);
    assert_eq!(found.iter().map(|refused| refused.row).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn constraints_that_wait_for_the_commit_triggers_and_partitions_are_about_rows_too() {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE deferred (n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED);
             CREATE TABLE checked (n bigint);
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN IF NEW.n = 2 THEN RAISE 'two is not wanted'; END IF; RETURN NEW; END$$;
             CREATE TRIGGER refuse BEFORE INSERT ON checked FOR EACH ROW EXECUTE FUNCTION refuse();
             CREATE TABLE parted (n bigint) PARTITION BY RANGE (n);
             CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (2)",
        )
        .await;
    for (table, values, why) in [
        ("deferred", [1, 3, 1], "duplicate key value violates unique constraint"),
        ("checked", [1, 3, 2], "two is not wanted"),
        ("parted", [0, 1, 2], "no partition of relation \"parted\" found for row"),
    ] {
        let mut sink = sink(&database, json!({ "table": table }), numbers(&[]).schema());
        let me = owner(table, "life-1", 1);
        sink.claim(&me).await.unwrap();
        let found = refused(sink.commit(&[epoch(&me, 1, vec![numbers(&values)])]).await);
        assert_eq!(found.iter().map(|refused| refused.row).collect::<Vec<_>>(), [2], "{table}");
        assert!(found[0].why.contains(why), "{}", found[0].why);
        assert_done(sink.commit(&[epoch(&me, 1, vec![numbers(&values[..2])])]).await, 1);
    }
}

#[tokio::test]
async fn values_that_only_the_server_can_judge_are_refused_by_it() {
    let database = database().await;
    database
        .execute("CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE t (s jsonb, m mood, k text); CREATE INDEX ON t (k)")
        .await;
    let fields = ["s", "m", "k"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec();
    let long: String = (0..200_000u64).map(|i| char::from(b'a' + (i * i * 31 % 1_000_003 % 26) as u8)).collect();
    let rows = batch(
        Arc::new(Schema::new(fields)),
        vec![
            Arc::new(StringArray::from(vec!["{", "{}", "{}", "{}", r#""\u0000""#])),
            Arc::new(StringArray::from(vec!["calm", "angry", "calm", "calm", "calm"])),
            Arc::new(StringArray::from(vec!["a", "b", &long, "c", "d"])),
        ],
    );
    let mut sink = claimed(&database, rows.schema()).await;
    let found = refused(sink.commit(&[epoch(&owner("0", "life-1", 1), 1, vec![rows])]).await);
    let expected = [
        "invalid input syntax for type json",
        "invalid input value for enum",
        "index row",
        "unsupported Unicode escape",
    ];
    assert_eq!(found.iter().map(|refused| refused.row).collect::<Vec<_>>(), [0, 1, 2, 4]);
    for (refused, why) in found.iter().zip(expected) {
        assert!(refused.why.contains(why), "{}", refused.why);
    }
}
