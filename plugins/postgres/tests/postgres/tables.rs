//! Tables that are missing, fit, or do not.

use pipeline_stage::{Claim, ErrorKind};
use serde_json::json;

use crate::fixture::{claimed, commit, database, failed, numbers, owner, readings, schema, sink, try_sink};

#[test]
fn says_what_it_is_and_builds_its_example() {
    pipeline_testkit::checks_out(&pipeline_postgres::stages()[0]);
}

#[tokio::test]
async fn makes_a_missing_table_with_id_and_indexes() {
    let database = database().await;
    let indexes = json!(["timestamp", "sensor_id", ["sensor_id", "metric_type", "timestamp"]]);
    let options = json!({ "table": "sensor_data", "indexes": indexes });
    let mut sink = sink(&database, options, schema());
    assert!(sink.check().await.is_empty());
    assert_eq!(
        database.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await,
        0,
        "a check made a table"
    );
    assert_eq!(sink.claim(&owner("0", "life-1", 1)).await.unwrap(), Claim::New);
    commit(sink.as_mut(), 1, vec![readings(&["a", "b"])]).await;
    let columns = database
        .query("SELECT column_name || ' ' || data_type || ' ' || is_nullable FROM information_schema.columns WHERE table_name = 'sensor_data' ORDER BY ordinal_position")
        .await;
    let columns: Vec<String> = columns.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(
        columns,
        [
            "id bigint NO",
            "sensor_id text NO",
            "metric_type text NO",
            "value double precision YES",
            "timestamp timestamp with time zone NO"
        ]
    );
    let indexes = database.query("SELECT indexname FROM pg_indexes WHERE tablename = 'sensor_data' ORDER BY 1").await;
    let indexes: Vec<String> = indexes.into_iter().map(|row| row[0].clone().unwrap()).collect();
    let names = ["pkey", "sensor_id_idx", "sensor_id_metric_type_timestamp_idx", "timestamp_idx"];
    assert_eq!(indexes, names.map(|name| format!("sensor_data_{name}")));
    let ids = database.query("SELECT string_agg(id || sensor_id, ' ' ORDER BY id) FROM sensor_data").await;
    assert_eq!(ids[0][0].as_deref(), Some("1a 2b"));
    assert!(sink.check().await.is_empty());
}

#[tokio::test]
async fn writes_into_a_table_of_another_schema_under_other_names() {
    let database = database().await;
    database.execute(r#"CREATE SCHEMA plant; CREATE TABLE plant."Odd ""name""" (id serial, "select" text, v real, site text DEFAULT 'x' NOT NULL)"#).await;
    let options = json!({ "table": r#"plant.Odd "name""#, "columns": { "value": "v", "sensor_id": "select" }, "create": "never" });
    let mut sink = sink(&database, options, schema());
    assert!(sink.check().await.is_empty());
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    commit(sink.as_mut(), 1, vec![readings(&["a"])]).await;
    let found = database.query(r#"SELECT id, "select", v, site FROM plant."Odd ""name""" "#).await;
    assert_eq!(found, [["1", "a", "0.5", "x"].map(|text| Some(text.to_owned()))]);
}

#[tokio::test]
async fn says_all_that_is_wrong_with_a_table_at_once() {
    let database = database().await;
    database
        .execute("CREATE TABLE t (sensor_id int, metric_type text, site text NOT NULL, timestamp text, doubled int GENERATED ALWAYS AS (sensor_id * 2) STORED)")
        .await;
    let mut sink = sink(&database, json!({ "table": "t" }), schema());
    let problems = [
        r#"column `sensor_id` is integer, expected text; ALTER TABLE "public"."t" ALTER COLUMN "sensor_id" TYPE text USING "sensor_id"::text"#,
        r#"there is no column `value`; ALTER TABLE "public"."t" ADD COLUMN "value" double precision"#,
        r#"column `timestamp` is text, expected timestamptz; ALTER TABLE "public"."t" ALTER COLUMN "timestamp" TYPE timestamptz USING "timestamp"::timestamptz"#,
        r#"column `site` must have a value and nothing is written into it; write it, or ALTER TABLE "public"."t" ALTER COLUMN "site" DROP NOT NULL"#,
    ];
    let found = sink.check().await;
    assert_eq!(
        found.iter().map(|error| error.to_string()).collect::<Vec<_>>(),
        problems.map(|problem| format!("table `t`: {problem}"))
    );
    assert!(found.iter().all(|error| error.kind() == ErrorKind::Config && error.option() == Some("table")));
    let error = failed(sink.claim(&owner("0", "life-1", 1)).await);
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Fatal, format!("table `t` does not fit: {}", problems.join("; ")))
    );
    // The statements it names do help.
    database
        .execute("DROP TABLE t; CREATE TABLE t (sensor_id int, metric_type text, site text NOT NULL, timestamp text)")
        .await;
    for problem in problems {
        database.execute(&problem[problem.find("ALTER").unwrap()..]).await;
    }
    sink.claim(&owner("0", "life-1", 1)).await.unwrap();
    commit(sink.as_mut(), 1, vec![readings(&["a"])]).await;
}

#[tokio::test]
async fn other_problems_of_a_database_are_told_in_words() {
    let database = database().await;
    database
        .execute(
            "CREATE VIEW a_view AS SELECT 1 AS n; CREATE TABLE computed (m int, n int GENERATED ALWAYS AS (m) STORED);
             CREATE TABLE other (n bigint)",
        )
        .await;
    for (table, create, message) in [
        ("missing", "never", "table `missing` does not exist; make it, or leave `create` at `if_missing`"),
        ("plant.t", "if_missing", "schema `plant` does not exist; CREATE SCHEMA makes it"),
        (
            "a_view",
            "if_missing",
            "`a_view` is not a table (it is of PostgreSQL's relkind `v`); rows go into tables only",
        ),
        (
            "computed",
            "never",
            "table `computed`: column `n` is computed by PostgreSQL and cannot be written; leave it out of `columns`",
        ),
    ] {
        let mut sink = sink(&database, json!({ "table": table, "create": create }), numbers(&[]).schema());
        let found: Vec<String> = sink.check().await.iter().map(|error| error.to_string()).collect();
        assert_eq!(found, [message]);
        assert_eq!(failed(sink.claim(&owner("0", "life-1", 1)).await).kind(), ErrorKind::Fatal, "{table}");
    }
    database.execute("DROP TABLE IF EXISTS pipeline_marks; CREATE TABLE pipeline_marks (pipeline text)").await;
    let mut sink = sink(&database, json!({ "table": "other" }), numbers(&[]).schema());
    let error = failed(sink.claim(&owner("0", "life-1", 1)).await);
    assert_eq!(
        error.to_string(),
        "table `pipeline_marks` has no column `sink`: it is not the pipeline's own; rename it"
    );
}

#[tokio::test]
async fn a_user_who_may_not_is_told_before_the_start() {
    let database = database().await;
    let user = pipeline_services::unique_name("reader");
    database
        .execute(&format!(
            "CREATE TABLE t (n bigint); CREATE ROLE {user} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        ))
        .await;
    let url = database.url().replacen("postgres@", &format!("{user}@"), 1);
    assert_ne!(url, database.url());
    let mut sink = try_sink(&url, json!({ "table": "t" }), numbers(&[]).schema()).unwrap();
    let found: Vec<String> = sink.check().await.iter().map(|error| error.to_string()).collect();
    assert_eq!(
        found,
        [
            r#"table `t`: column `n` may not be written by this user; GRANT INSERT ON "public"."t" TO the user"#,
            "table `pipeline_marks` does not exist, and this user may not make it; GRANT CREATE ON its schema",
        ]
    );
    let error = failed(sink.claim(&owner("0", "life-1", 1)).await);
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().starts_with("the user of `url` may not do this at "), "{error}");
    database.execute(&format!("DROP ROLE {user}")).await;
}

#[tokio::test]
async fn a_table_that_is_altered_is_looked_at_again() {
    let database = database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    commit(sink.as_mut(), 1, vec![numbers(&[1])]).await;
    database.execute("ALTER TABLE t ALTER COLUMN n TYPE smallint").await;
    let me = owner("0", "life-1", 1);
    let too_large = [crate::fixture::epoch(&me, 2, vec![numbers(&[2, 40_000])])];
    let error = failed(sink.commit(&too_large).await);
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Transient, "table `t` was altered meanwhile; it is looked at again")
    );
    sink.claim(&me).await.unwrap();
    let refused = crate::fixture::refused(sink.commit(&too_large).await);
    assert_eq!(refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [1]);
    // By COPY, a wrong width is an error about the form, not about rows.
    commit(sink.as_mut(), 2, vec![numbers(&[3])]).await;
    database.execute("ALTER TABLE t ALTER COLUMN n TYPE bigint").await;
    let many = vec![7; 11_000];
    let rows = [crate::fixture::epoch(&me, 3, vec![numbers(&many)])];
    assert_eq!(failed(sink.commit(&rows).await).kind(), ErrorKind::Transient);
    sink.claim(&me).await.unwrap();
    crate::fixture::assert_done(sink.commit(&rows).await, 1);
    database.execute("ALTER TABLE t RENAME COLUMN n TO m").await;
    assert_eq!(
        failed(sink.commit(&[crate::fixture::epoch(&me, 4, vec![numbers(&[1])])]).await).kind(),
        ErrorKind::Transient
    );
    let error = failed(sink.claim(&me).await);
    assert_eq!((error.kind(), error.option()), (ErrorKind::Fatal, Some("table")));
}

#[test]
fn refuses_bad_options() {
    for (options, option, message) in [
        (json!({ "table": "" }), "table", "`` is no name of a table: it is empty"),
        (json!({ "table": "t", "columns": ["valeu"] }), "columns.0", "there is no column `valeu`"),
        (json!({ "table": "t", "columns": { "value": "" } }), "columns", "`` is no name of a column: it is empty"),
        (json!({ "table": "t", "columns": 7 }), "columns", "expected a list of columns, or a map"),
        (json!({ "table": "t", "indexes": ["id"] }), "indexes.0", "column `id` is not written into the table"),
        (json!({ "table": "t", "indexes": [["value", "id"]] }), "indexes.0.1", "column `id` is not written"),
        (json!({ "table": "t", "indexes": [7] }), "indexes[0]", "expected a column, or a list of columns"),
        (
            json!({ "table": "t", "create": "always" }),
            "create",
            "unknown variant `always`, expected `if_missing` or `never`",
        ),
        (json!({ "table": "t", "url": "hush" }), "url", "`url` is not that of a PostgreSQL database"),
    ] {
        let error = failed(try_sink("postgres://iot:hush@localhost/iot", options, schema()));
        assert_eq!((error.kind(), error.option()), (ErrorKind::Config, Some(option)), "{error}");
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(!error.chain().contains("hush"), "{error}");
    }
}
