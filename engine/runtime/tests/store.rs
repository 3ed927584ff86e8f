//! The state store keeps what it was given, on SQLite and on PostgreSQL, and refuses former owners.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::sync::Arc;
use std::time::Duration;

use pipeline_runtime::store::tools::StateTools;
use pipeline_runtime::store::{
    Append, Beside, Checkpoint, DeadLetter, EpochEntry, KeptBatch, Segment, StageChanges, StageOf, StateStore,
    StoredRow, open,
};
use pipeline_services::{Postgres, eventually};
use pipeline_stage::{ErrorKind, Mark, Position, RawRows, Result, SourceBatch, SourceRows, Timestamp};

fn entry(epoch: u64) -> EpochEntry {
    let rows = SourceRows::Raw(RawRows::of_payloads(vec![b"\xff\x00 bytes".as_slice(), b"of any kind"]));
    let kept = KeptBatch::new(&SourceBatch { rows, offsets: vec![epoch * 10 + 2, epoch * 10 + 5] }).unwrap();
    EpochEntry {
        epoch,
        ended_at: Timestamp(epoch as i64),
        segments: vec![Segment {
            source: "readings".into(),
            until: Position::at(epoch * 10),
            rows: 10,
            kept: vec![kept],
        }],
        rows: 10,
        hash: epoch ^ u64::MAX,
        stored: Vec::new(),
    }
}

fn append(generation: u64, epoch: u64) -> Append {
    Append {
        task: "0".into(),
        generation,
        entry: entry(epoch),
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        alerts: Vec::new(),
        evidence: Vec::new(),
        marks: Vec::new(),
    }
}

fn letter(offset: u64) -> DeadLetter {
    let row = StoredRow {
        stage: "readings".into(),
        edge: 1,
        place: "readings/0".into(),
        offset,
        branch: u64::MAX,
        bytes: Some(vec![0, 255, 10]),
        beside: Some(Beside {
            topic: "readings.csv".into(),
            partition: 3,
            key: Some(vec![0, 255]),
            time: Some(Timestamp(5)),
            header: None,
        }),
    };
    DeadLetter { row, task: "0".into(), epoch: 1, reason: "it has a \0 in it".into(), at: Timestamp(7) }
}

fn changes(stage: &str, changes: &[(&str, Option<&str>)]) -> StageChanges {
    let changes = changes.iter().copied().collect();
    StageChanges { stage: stage.into(), changes, ..StageChanges::default() }
}

/// What every store must do.
async fn keeps_what_it_was_given(store: Arc<dyn StateStore>) {
    logs_epochs_and_refuses_former_owners(&store).await;
    publishes_checkpoints(&store).await;
    keeps_dead_letters_until_they_are_replayed(&store).await;
    begins_anew(&store).await;
}

async fn logs_epochs_and_refuses_former_owners(store: &Arc<dyn StateStore>) {
    let first = store.claim("0").await.unwrap();
    assert_eq!((first.generation, first.log.len()), (1, 0));
    assert_eq!(store.append(&[append(1, 0), append(1, 1)]).await.unwrap(), [true, true]);
    let second = store.claim("0").await.unwrap();
    assert_eq!((second.generation, second.state_id == first.state_id), (2, true));
    assert_eq!(second.log, [entry(0), entry(1)]);
    assert_eq!(store.append(&[append(1, 2)]).await.unwrap(), [false], "the first owner has lost the task");
    assert_eq!(store.append(&[append(2, 2)]).await.unwrap(), [true]);
    assert_eq!(store.append(&[append(2, 2)]).await.unwrap(), [true], "the answer to the first was lost");
    let refused = store.set_sinks("0", 1, &[], "{}").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TakenOver);
    store.set_sinks("0", 2, &["history".into()], "{}").await.unwrap();
    assert_eq!((store.is_owner("0", 1).await.unwrap(), store.is_owner("0", 2).await.unwrap()), (false, true));
}

fn checkpoint(epoch: u64) -> Checkpoint {
    Checkpoint {
        epoch,
        positions: vec![("readings".into(), Position::at(epoch * 10))],
        stages: vec![StageOf { id: "spikes".into(), of: "detector.zscore".into(), ..StageOf::default() }],
        ..Checkpoint::default()
    }
}

/// Somebody who looks beside a run has read which checkpoint there is, and then comes another that drops its changes.
async fn shows_readers_what_took_the_place_of_another(location: &str) {
    let store = open(location, "test").await.unwrap();
    let generation = store.claim("0").await.unwrap().generation;
    let mut looked = None;
    for (epoch, value) in [(1, "one"), (2, "two")] {
        store.write_changes("0", generation, epoch, 0, &changes("spikes", &[("a", Some(value))])).await.unwrap();
        store.publish("0", generation, &checkpoint(epoch)).await.unwrap();
        store.drop_log("0", generation, &checkpoint(epoch), &["spikes".into()]).await.unwrap();
        if looked.is_none() {
            let tools = StateTools::beside(location, "test").await.unwrap();
            let tasks = tools.tasks().await.unwrap();
            looked = Some((tools, tasks));
        }
    }
    let (tools, tasks) = looked.unwrap();
    assert_eq!(tasks[0].checkpoint.as_ref().unwrap().epoch, 1);
    assert_eq!(tools.stage(&tasks[0], "spikes").await.unwrap(), [(b"a".to_vec(), b"two".to_vec())]);
}

async fn publishes_checkpoints(store: &Arc<dyn StateStore>) {
    let first = changes("spikes", &[("a", Some("1")), ("b", Some("2"))]);
    store.write_changes("0", 2, 1, 0, &first).await.unwrap();
    assert_eq!(store.publish("0", 1, &checkpoint(1)).await.unwrap_err().kind(), ErrorKind::TakenOver);
    store.publish("0", 2, &checkpoint(1)).await.unwrap();
    store.drop_log("0", 2, &checkpoint(1), &[]).await.unwrap();
    store.write_changes("0", 2, 2, 0, &changes("spikes", &[("a", None), ("c", Some("3"))])).await.unwrap();

    let claimed = store.claim("0").await.unwrap();
    assert_eq!(claimed.checkpoint, Some(checkpoint(1)));
    assert_eq!(claimed.log, [entry(2)], "the log up to the checkpoint is dropped");
    assert_eq!((claimed.sinks.as_slice(), claimed.definition.as_deref()), (&["history".to_string()][..], Some("{}")));
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let state = store.load("0", "spikes").await.unwrap();
    assert_eq!(state, [pair("a", "1"), pair("b", "2")], "what was not published does not count");

    store.write_changes("0", 3, 2, 0, &changes("spikes", &[("a", None), ("c", Some("3"))])).await.unwrap();
    store.publish("0", 3, &checkpoint(2)).await.unwrap();
    store.drop_log("0", 3, &checkpoint(2), &[]).await.unwrap();
    assert_eq!(store.load("0", "spikes").await.unwrap(), [pair("b", "2"), pair("c", "3")]);

    // Once with little that is older, once with much, which is dropped in parts.
    let whole = ["spikes".to_string()];
    let much = "x".repeat(600_000);
    for (epoch, more) in [(3, &[][..]), (5, &[("d", Some(&*much)), ("e", Some(&*much))][..])] {
        store.write_changes("0", 3, epoch, 0, &changes("spikes", more)).await.unwrap();
        store.publish("0", 3, &checkpoint(epoch)).await.unwrap();
        store.write_changes("0", 3, epoch + 1, 0, &changes("spikes", &[("c", Some("4"))])).await.unwrap();
        let before = store.load("0", "spikes").await.unwrap();
        assert_eq!(before.len(), if epoch == 3 { 2 } else { 3 }, "what was not published does not count");
        store.publish("0", 3, &checkpoint(epoch + 1)).await.unwrap();
        let dropped = store.drop_log("0", 2, &checkpoint(epoch + 1), &whole).await;
        assert_eq!(dropped.unwrap_err().kind(), ErrorKind::TakenOver);
        assert_eq!(store.load("0", "spikes").await.unwrap().len(), before.len(), "a former owner drops nothing");
        store.drop_log("0", 3, &checkpoint(epoch + 1), &whole).await.unwrap();
        assert_eq!(store.load("0", "spikes").await.unwrap(), [pair("c", "4")], "all of it was in the checkpoint");
    }
}

async fn keeps_dead_letters_until_they_are_replayed(store: &Arc<dyn StateStore>) {
    let with_letters = Append { dead_letters: vec![letter(1), letter(2)], ..append(3, 3) };
    store.append(&[with_letters]).await.unwrap();
    store.add_dead_letters(&[letter(2), letter(3)]).await.unwrap();
    let all = store.dead_letters(0, 10).await.unwrap();
    let offsets: Vec<u64> = all.iter().map(|(_, letter)| letter.row.offset).collect();
    assert_eq!(offsets, [1, 2, 3], "a letter that is there stays as it is");
    assert_eq!(all[0].1, DeadLetter { reason: "it has a \u{2400} in it".into(), ..letter(1) });
    assert!(store.tasks_to_replay().await.unwrap().is_empty());
    assert_eq!(store.request_replay(&[all[1].0]).await.unwrap(), 1);
    assert_eq!(store.tasks_to_replay().await.unwrap(), ["0"]);
    let requested = store.replay_requests("0", 0, 10).await.unwrap();
    assert_eq!(requested, [all[1].clone()]);
    assert_eq!(store.replay_requests("0", all[1].0, 10).await.unwrap(), []);
    store.append(&[Append { replayed: vec![all[1].0], ..append(3, 4) }]).await.unwrap();
    assert_eq!(store.dead_letters(all[0].0, 10).await.unwrap(), [all[2].clone()]);
}

async fn begins_anew(store: &Arc<dyn StateStore>) {
    let mark = Mark {
        pipeline: "test".into(),
        sink: "screen".into(),
        task: "0".into(),
        state_id: "s".into(),
        generation: 3,
        epoch: 5,
        positions: "{}".into(),
        detail: Some("17".into()),
    };
    store.set_marks(std::slice::from_ref(&mark)).await.unwrap();
    let before = store.claim("0").await.unwrap();
    assert_eq!(before.marks, [mark]);
    let state_id = store.begin_anew("0", before.generation, Some(5)).await.unwrap();
    let after = store.claim("0").await.unwrap();
    assert_ne!(state_id, before.state_id);
    assert_eq!((after.state_id, after.generation), (state_id, before.generation + 1));
    assert!(after.checkpoint.is_none() && after.log.is_empty() && after.marks.is_empty());
    assert!(store.load("0", "spikes").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_folder_keeps_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    keeps_what_it_was_given(open(folder.path().to_str().unwrap(), "test").await.unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    shows_readers_what_took_the_place_of_another(folder.path().to_str().unwrap()).await;
}

#[tokio::test]
async fn postgresql_keeps_what_it_was_given() {
    let database = Postgres::shared().await.create_database().await;
    keeps_what_it_was_given(open(database.url(), "test").await.unwrap()).await;
    shows_readers_what_took_the_place_of_another(Postgres::shared().await.create_database().await.url()).await;
}

#[tokio::test]
async fn pipelines_in_one_database_do_not_see_each_other() {
    let database = Postgres::shared().await.create_database().await;
    let (one, two) = (open(database.url(), "one").await.unwrap(), open(database.url(), "two").await.unwrap());
    one.claim("0").await.unwrap();
    one.append(&[append(1, 0)]).await.unwrap();
    let claimed = two.claim("0").await.unwrap();
    assert_eq!((claimed.generation, claimed.log.len()), (1, 0));
}

#[tokio::test]
async fn a_folder_has_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    let store = open(location, "test").await.unwrap();
    let error = open(location, "test").await.err().unwrap();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(store);
    open_once_free(location).await.unwrap();
}

/// A program that another test is just starting holds copies of all open files for a moment, and so the lock.
async fn open_once_free(location: &str) -> Result<Arc<dyn StateStore>> {
    let mut opened = open(location, "test").await;
    eventually(Duration::from_secs(10), "the end of the lock", async || {
        if opened.as_ref().is_err_and(|error| error.to_string().contains("in use by another process")) {
            opened = open(location, "test").await;
            return false;
        }
        true
    })
    .await;
    opened
}

#[tokio::test]
async fn a_store_of_another_version_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    open(location, "test").await.unwrap().set_setting("version", "99").await.unwrap();
    let error = open_once_free(location).await.err().unwrap();
    assert!(error.to_string().contains("has version 99, this program reads version 2"), "{error}");
}
