//! Who owns a task's output, and how far it got.

use pipeline_stage::{Claim, Delivery, ErrorKind, Owner};
use serde_json::json;

use crate::fixture::{Folder, assert_done, commit, epoch, failed, mark, numbers, owner};

#[tokio::test]
async fn rows_and_marks_of_two_tasks_are_committed_at_once() {
    let folder = Folder::new();
    let mut sink = folder.sink(json!({}), numbers(&[]).schema());
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
    let found = folder.query("SELECT group_concat(n, ' ') FROM (SELECT n FROM t ORDER BY id)").await;
    assert_eq!(found[0][0].as_deref(), Some("1 2 3 10 4"));
    assert_eq!(sink.claim(&first).await.unwrap(), Claim::At(mark(&first, 3)));
    assert_eq!(sink.claim(&second).await.unwrap(), Claim::At(mark(&second, 4)));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_by_the_next_claim() {
    let folder = Folder::new();
    let mut sink = folder.claimed(numbers(&[]).schema()).await;
    commit(sink.as_mut(), 7, vec![numbers(&[1])]).await;
    // The engine never saw the answer: it claims again, on a new connection, and learns that 7 is there.
    let mut sink = folder.sink(json!({}), numbers(&[]).schema());
    let me = owner("0", "life-1", 1);
    assert_eq!(sink.claim(&me).await.unwrap(), Claim::At(mark(&me, 7)));
    let sent_again = [epoch(&me, 7, vec![numbers(&[1])]), epoch(&me, 8, vec![])];
    for epochs in [&sent_again[..1], &sent_again] {
        assert_eq!(failed(sink.commit(epochs).await).kind(), ErrorKind::Lost);
    }
    commit(sink.as_mut(), 8, vec![numbers(&[2])]).await;
    assert_eq!(folder.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn an_older_owner_is_shut_out() {
    let folder = Folder::new();
    let mut old = folder.claimed(numbers(&[]).schema()).await;
    commit(old.as_mut(), 1, vec![numbers(&[1])]).await;
    let mut new = folder.sink(json!({}), numbers(&[]).schema());
    let (first, second) = (owner("0", "life-1", 1), owner("0", "life-1", 2));
    assert_eq!(new.claim(&second).await.unwrap(), Claim::At(mark(&first, 1)));
    let error = failed(old.commit(&[epoch(&first, 2, vec![numbers(&[99])])]).await);
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(failed(old.claim(&first).await).kind(), ErrorKind::Lost);
    assert_done(new.commit(&[epoch(&second, 2, vec![numbers(&[2])])]).await, 1);
    assert_eq!(folder.count("SELECT sum(n) FROM t").await, 3);
}

#[tokio::test]
async fn a_mark_of_another_state_is_left_alone_unless_taken_over() {
    let folder = Folder::new();
    let mut sink = folder.claimed(numbers(&[]).schema()).await;
    commit(sink.as_mut(), 5, vec![numbers(&[1])]).await;
    let left = mark(&owner("0", "life-1", 1), 5);
    let stranger = owner("0", "life-2", 1);
    for _ in 0..2 {
        assert_eq!(sink.claim(&stranger).await.unwrap(), Claim::At(left.clone()));
    }
    assert_eq!(failed(sink.commit(&[epoch(&stranger, 6, vec![numbers(&[2])])]).await).kind(), ErrorKind::Lost);
    let taker = Owner { takes_over: true, ..stranger };
    assert_eq!(sink.claim(&taker).await.unwrap(), Claim::At(left));
    assert_done(sink.commit(&[epoch(&taker, 6, vec![numbers(&[2])])]).await, 1);
    assert_eq!(sink.claim(&taker).await.unwrap(), Claim::At(mark(&taker, 6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sinks_write_to_one_new_file_at_the_same_time() {
    const N_SINKS: i64 = 4;
    const N_EPOCHS: u64 = 25;
    let folder = Folder::new();
    let mut tasks = Vec::new();
    for i in 0..N_SINKS {
        let mut sink = folder.sink(json!({ "table": format!("t{}", i % 2), "indexes": ["n"] }), numbers(&[]).schema());
        tasks.push(tokio::spawn(async move {
            let owner = Owner { sink: format!("sink-{i}"), ..owner("0", "life-1", 1) };
            sink.claim(&owner).await.unwrap();
            for number in 1..=N_EPOCHS {
                assert_done(sink.commit(&[epoch(&owner, number, vec![numbers(&[i; 50])])]).await, 1);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for i in 0..N_SINKS {
        let count = folder.count(&format!("SELECT count(*) FROM t{} WHERE n = {i}", i % 2)).await;
        assert_eq!(count, 50 * N_EPOCHS as i64);
    }
}
