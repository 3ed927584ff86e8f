//! Who owns a task's output, and how far it got.

use pipeline_stage::{Claim, Delivery, ErrorKind, Owner};
use serde_json::json;

use crate::fixture::{assert_done, claimed, commit, database, epoch, failed, mark, numbers, owner, sink};

#[tokio::test]
async fn rows_and_marks_of_two_tasks_are_committed_at_once() {
    let database = database().await;
    let mut sink = sink(&database, json!({ "table": "t" }), numbers(&[]).schema());
    assert_eq!(sink.delivery(), Delivery::Transactional);
    let (first, second) = (owner("0", "life-1", 1), owner("1", "life-1", 1));
    for owner in [&first, &second] {
        assert_eq!(sink.claim(owner).await.unwrap(), Claim::New);
    }
    let epochs = [
        epoch(&first, 1, vec![numbers(&[1, 2]), numbers(&[3])]),
        epoch(&second, 4, vec![numbers(&[10])]),
        epoch(&first, 2, vec![]),
        epoch(&first, 3, vec![numbers(&[4])]),
    ];
    assert_done(sink.commit(&epochs).await, 4);
    let found = database.query("SELECT string_agg(n::text, ' ' ORDER BY id) FROM t").await;
    assert_eq!(found[0][0].as_deref(), Some("1 2 3 10 4"));
    assert_eq!(sink.claim(&first).await.unwrap(), Claim::At(mark(&first, 3)));
    assert_eq!(sink.claim(&second).await.unwrap(), Claim::At(mark(&second, 4)));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_by_the_next_claim() {
    let database = database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    commit(sink.as_mut(), 7, vec![numbers(&[1])]).await;
    // The engine never saw the answer: it claims again, on a new connection, and learns that 7 is there.
    let mut sink = crate::fixture::sink(&database, json!({ "table": "t" }), numbers(&[]).schema());
    let me = owner("0", "life-1", 1);
    assert_eq!(sink.claim(&me).await.unwrap(), Claim::At(mark(&me, 7)));
    // Should it send 7 nevertheless, or 7 and 8, nothing is stored twice.
    for epochs in
        [vec![epoch(&me, 7, vec![numbers(&[1])])], vec![epoch(&me, 7, vec![numbers(&[1])]), epoch(&me, 8, vec![])]]
    {
        assert_eq!(failed(sink.commit(&epochs).await).kind(), ErrorKind::Lost);
    }
    commit(sink.as_mut(), 8, vec![numbers(&[2])]).await;
    assert_eq!(database.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn an_older_owner_is_shut_out() {
    let database = database().await;
    let mut old = claimed(&database, numbers(&[]).schema()).await;
    commit(old.as_mut(), 1, vec![numbers(&[1])]).await;
    let mut new = sink(&database, json!({ "table": "t" }), numbers(&[]).schema());
    let (first, second) = (owner("0", "life-1", 1), owner("0", "life-1", 2));
    assert_eq!(new.claim(&second).await.unwrap(), Claim::At(mark(&first, 1)));
    let error = failed(old.commit(&[epoch(&first, 2, vec![numbers(&[99])])]).await);
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(error.to_string(), "task `0` was taken over: its mark is no longer of generation 1 below epoch 2");
    assert_eq!(failed(old.claim(&first).await).kind(), ErrorKind::Lost);
    assert_done(new.commit(&[epoch(&second, 2, vec![numbers(&[2])])]).await, 1);
    assert_eq!(database.count("SELECT sum(n) FROM t").await, 3);
}

#[tokio::test]
async fn a_mark_of_another_state_is_left_alone_unless_taken_over() {
    let database = database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    commit(sink.as_mut(), 5, vec![numbers(&[1])]).await;
    let left = mark(&owner("0", "life-1", 1), 5);
    let stranger = owner("0", "life-2", 1);
    for _ in 0..2 {
        assert_eq!(sink.claim(&stranger).await.unwrap(), Claim::At(left.clone()));
    }
    assert_eq!(failed(sink.commit(&[epoch(&stranger, 6, vec![numbers(&[2])])]).await).kind(), ErrorKind::Lost);
    let taker = Owner { takes_over: true, ..stranger };
    assert_eq!(sink.claim(&taker).await.unwrap(), Claim::At(left));
    assert_eq!(failed(sink.commit(&[epoch(&taker, 5, vec![numbers(&[2])])]).await).kind(), ErrorKind::Lost);
    assert_done(sink.commit(&[epoch(&taker, 6, vec![numbers(&[2])])]).await, 1);
    assert_eq!(sink.claim(&taker).await.unwrap(), Claim::At(mark(&taker, 6)));
}

#[tokio::test]
async fn a_stopped_owner_that_holds_its_mark_is_ended() {
    let database = database().await;
    let mut old = claimed(&database, numbers(&[]).schema()).await;
    commit(old.as_mut(), 1, vec![numbers(&[1])]).await;
    // A process that was stopped after its update and before its COMMIT, seen from the server: a session of the
    // owner's name that holds the lock and says nothing.
    let name = database.query("SELECT owner FROM pipeline_marks").await[0][0].clone().unwrap();
    assert!(name.starts_with("pipeline ") && name.ends_with(" iot/history"), "{name}");
    let mut stopped = session(database.url(), &name).await;
    sqlx::raw_sql("BEGIN; UPDATE pipeline_marks SET epoch = 2").execute(&mut stopped).await.unwrap();
    let mut new = sink(&database, json!({ "table": "t" }), numbers(&[]).schema());
    let owner_2 = owner("0", "life-1", 2);
    assert_eq!(new.claim(&owner_2).await.unwrap(), Claim::At(mark(&owner("0", "life-1", 1), 1)));
    assert!(sqlx::raw_sql("COMMIT").execute(&mut stopped).await.is_err(), "the stopped session is still there");
    assert_done(new.commit(&[epoch(&owner_2, 2, vec![numbers(&[2])])]).await, 1);
}

#[tokio::test]
async fn a_lock_of_somebody_else_is_waited_for() {
    let database = database().await;
    let mut sink = claimed(&database, numbers(&[]).schema()).await;
    let mut other = session(database.url(), "psql").await;
    sqlx::raw_sql("BEGIN; UPDATE pipeline_marks SET epoch = epoch").execute(&mut other).await.unwrap();
    let error = failed(sink.claim(&owner("0", "life-1", 2)).await);
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(error.to_string(), "the mark of task `0` is locked by another connection");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(sink.claim(&owner("0", "life-1", 2)).await.unwrap(), Claim::New);
}

async fn session(url: &str, name: &str) -> sqlx::PgConnection {
    use sqlx::ConnectOptions;
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    options.application_name(name).connect().await.unwrap()
}

#[tokio::test]
async fn many_processes_may_start_at_the_same_time() {
    let database = database().await;
    let mut tasks = Vec::new();
    for i in 0..8 {
        let mut sink = sink(&database, json!({ "table": "t", "indexes": ["n"] }), numbers(&[]).schema());
        tasks.push(tokio::spawn(async move {
            let owner = owner(&i.to_string(), "life-1", 1);
            sink.claim(&owner).await?;
            sink.commit(&[epoch(&owner, 1, vec![numbers(&[i])])]).await
        }));
    }
    for task in tasks {
        assert_done(task.await.unwrap(), 1);
    }
    assert_eq!(database.count("SELECT count(*) FROM t").await, 8);
    assert_eq!(database.count("SELECT count(*) FROM pg_indexes WHERE tablename = 't'").await, 2);
}
