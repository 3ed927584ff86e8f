//! Servers that go away, come back, or do not let us in.

use pipeline_services::{Postgres, StopMode};
use pipeline_stage::{Claim, ErrorKind};
use serde_json::json;

use crate::fixture::{assert_done, claimed, commit, database, epoch, failed, mark, numbers, owner, try_sink};

#[tokio::test]
async fn a_server_that_restarts_loses_nothing_and_gets_nothing_twice() {
    let mut postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    let me = owner("0", "life-1", 1);
    for (number, mode) in [(1, StopMode::Fast), (2, StopMode::Immediate)] {
        commit(sink.as_mut(), 2 * number - 1, vec![numbers(&[1])]).await;
        postgres.stop(mode).await;
        let rows = [epoch(&me, 2 * number, vec![numbers(&[2])])];
        for _ in 0..2 {
            let error = failed(sink.commit(&rows).await);
            assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        }
        let error = failed(sink.claim(&me).await);
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        let port = database.url().rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
        assert_eq!(error.to_string(), format!("PostgreSQL does not answer (connection refused, 127.0.0.1:{port})"));
        postgres.start_again().await;
        assert_eq!(sink.claim(&me).await.unwrap(), Claim::At(mark(&me, 2 * number - 1)));
        assert_done(sink.commit(&rows).await, 1);
    }
    assert_eq!(database.count("SELECT count(*) FROM t").await, 4);
}

#[tokio::test]
async fn a_connection_that_is_ended_is_made_again() {
    let database = database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    database.execute("SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pipeline_marks m ON m.owner = a.application_name").await;
    let me = owner("0", "life-1", 1);
    let rows = [epoch(&me, 1, vec![numbers(&[1])])];
    let error = failed(sink.commit(&rows).await);
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert_eq!(sink.claim(&me).await.unwrap(), Claim::New);
    assert_done(sink.commit(&rows).await, 1);
}

#[tokio::test]
async fn a_server_without_room_for_connections_is_tried_again() {
    let postgres = Postgres::start_with(&[
        ("max_connections", "5"),
        ("superuser_reserved_connections", "0"),
        ("max_wal_senders", "0"),
    ])
    .await;
    let database = postgres.create_database().await;
    let mut others = Vec::new();
    let mut sink = try_sink(database.url(), json!({ "table": "t" }), numbers(&[]).schema()).unwrap();
    while let Ok(other) = <sqlx::PgConnection as sqlx::Connection>::connect(database.url()).await {
        others.push(other);
    }
    let error = failed(sink.claim(&owner("0", "life-1", 1)).await);
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().starts_with("PostgreSQL takes no more connections (127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn wrong_doors_are_told_without_the_password() {
    let database = database().await;
    let there = database.url();
    let elsewhere = format!("{}/nowhere_at_all", there.rsplit_once('/').unwrap().0);
    let stranger = there.replacen("postgres@", "nobody_at_all:hush@", 1);
    for (url, kind, words) in [
        (elsewhere.as_str(), ErrorKind::Fatal, "database \"nowhere_at_all\" does not exist"),
        (stranger.as_str(), ErrorKind::Fatal, "role \"nobody_at_all\" does not exist"),
        (
            "postgres://iot:hush@127.0.0.1:1/iot",
            ErrorKind::Transient,
            "PostgreSQL does not answer (connection refused, 127.0.0.1:1)",
        ),
        (
            "postgres://iot:hush@no-such-host.invalid/iot",
            ErrorKind::Transient,
            "PostgreSQL does not answer (failed to lookup address information",
        ),
    ] {
        let mut sink = try_sink(url, json!({ "table": "t" }), numbers(&[]).schema()).unwrap();
        let error = failed(sink.claim(&owner("0", "life-1", 1)).await);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.chain().contains("hush"), "{}", error.chain());
        let problems = sink.check().await;
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].option(), Some("url"));
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_waited_for() {
    let database = database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    let name = database.url().rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    database.execute("SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pipeline_marks m ON m.owner = a.application_name").await;
    let rows = [epoch(&owner("0", "life-1", 1), 1, vec![numbers(&[1])])];
    failed(sink.commit(&rows).await);
    let error = failed(sink.commit(&rows).await);
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().starts_with("PostgreSQL takes no writes, it is read-only"), "{error}");
    let problems = sink.check().await;
    assert_eq!(problems[0].to_string(), "this server takes no writes, it is read-only");
}
