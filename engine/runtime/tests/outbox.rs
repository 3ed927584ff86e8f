//! Alerts wait in the outbox until they are delivered: in order, by one process at a time, too many as one.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::sync::Arc;
use std::time::Duration;

use pipeline_runtime::file::LoadOptions;
use pipeline_runtime::plan::{Plan, RunSettings, load_text};
use pipeline_runtime::run::{Run, RunEnd, Summary};
use pipeline_runtime::store::{Append, DeadLetter, EpochEntry, NewAlert, StateStore, StoredRow, open};
use pipeline_services::{Postgres, eventually, unique_name};
use pipeline_stage::{Alert, Registry, StageType, Timestamp};
use pipeline_testkit::faulty::NumbersOptions;
use pipeline_testkit::mailbox::{MailboxOptions, mailbox};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Longer than any of this takes, shorter than a lease.
const SOON: Duration = Duration::from_secs(20);
/// A lease that does not run out in a test.
const LONG: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// Alerts named `{name}-0`, `{name}-1` … as an epoch of some task puts them in.
async fn put(store: &dyn StateStore, name: &str, count: u64, is_excess: bool) {
    let alert = |number: u64| NewAlert {
        sink: "alerts".into(),
        alert: Alert { id: format!("{name}-{number}"), row: serde_json::Map::new(), digest_of: None },
        is_excess,
        place: format!("{name}/0"),
        offset: number,
        branch: 0,
    };
    let claimed = store.claim(name).await.unwrap();
    let append = Append {
        task: name.into(),
        generation: claimed.generation,
        entry: EpochEntry {
            epoch: 0,
            ended_at: Timestamp(0),
            segments: Vec::new(),
            rows: 0,
            hash: 0,
            stored: Vec::new(),
        },
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        alerts: (0..count).map(alert).collect(),
        evidence: Vec::new(),
        marks: Vec::new(),
    };
    assert_eq!(store.append(&[append]).await.unwrap(), [true]);
}

async fn ids(store: &dyn StateStore, limit: u32) -> Vec<String> {
    store.pending("alerts", limit).await.unwrap().into_iter().map(|pending| pending.alert.id).collect()
}

fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_micros())
}

/// What every store must do.
async fn keeps_alerts(store: &dyn StateStore) {
    put(store, "a", 3, false).await;
    assert_eq!(ids(store, 2).await, ["a-0", "a-1"]);
    let pending = store.pending("alerts", 3).await.unwrap();
    store.delivered(pending[0].number, Timestamp(9)).await.unwrap();
    let row = StoredRow { stage: "alerts".into(), place: "a/0".into(), ..StoredRow::default() };
    let letter = DeadLetter { row, task: "a".into(), epoch: 0, reason: "no".into(), at: Timestamp(9) };
    store.undeliverable(&[(pending[1].number, letter.clone())]).await.unwrap();
    assert_eq!(ids(store, 9).await, ["a-2"]);
    assert_eq!(store.dead_letters(0, 9).await.unwrap()[0].1, letter);
    store.delivered(pending[2].number, Timestamp(10)).await.unwrap();
    assert_eq!(store.count_pending("alerts").await.unwrap(), 0);

    assert_eq!(store.drop_delivered("alerts", Timestamp(10), 1).await.unwrap(), 1);
    assert_eq!(store.drop_delivered("alerts", Timestamp(10), 9).await.unwrap(), 1);
    assert_eq!(store.drop_delivered("alerts", Timestamp(10), 9).await.unwrap(), 0, "the last is not old enough");
}

async fn a_digest_stays_as_it_is(store: &dyn StateStore) {
    put(store, "b", 5, true).await;
    put(store, "c", 1, false).await;
    put(store, "d", 2, true).await;
    let first = store.pending("alerts", 1).await.unwrap().remove(0);
    assert_eq!((first.is_excess, first.digest), (true, None));
    let digest = store.digest("alerts", first.number).await.unwrap().unwrap();
    assert_eq!((digest.count, digest.last.id.as_str()), (5, "b-4"));
    let again = store.pending("alerts", 9).await.unwrap();
    assert_eq!(again[4].digest, Some(digest.number));
    assert_eq!(store.digest("alerts", again[0].number).await.unwrap(), Some(digest.clone()));

    store.digest_delivered("alerts", digest.number, Timestamp(9)).await.unwrap();
    assert_eq!(store.digest("alerts", again[0].number).await.unwrap(), None, "it was delivered");
    assert_eq!(ids(store, 9).await, ["c-0", "d-0", "d-1"]);
    store.delivered(again[5].number, Timestamp(9)).await.unwrap();
    // Further ones come after the digest was made and before it is delivered.
    let of_two = store.digest("alerts", again[6].number).await.unwrap().unwrap();
    put(store, "e", 3, true).await;
    assert_eq!(store.digest("alerts", again[6].number).await.unwrap(), Some(of_two.clone()));
    store.digest_delivered("alerts", of_two.number, Timestamp(9)).await.unwrap();
    assert_eq!(ids(store, 9).await, ["e-0", "e-1", "e-2"]);
}

async fn holds(store: &dyn StateStore, holder: &str, lasts: Duration) -> bool {
    store.lease("outbox alerts", holder, lasts).await.unwrap()
}

#[tokio::test]
async fn a_folder_keeps_alerts_and_its_only_user_takes_any_lease() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path().to_str().unwrap(), "test").await.unwrap();
    keeps_alerts(&*store).await;
    a_digest_stays_as_it_is(&*store).await;
    assert!(holds(&*store, "one", LONG).await);
    assert!(holds(&*store, "two", LONG).await, "the first is dead: the folder is locked");
}

#[tokio::test]
async fn postgresql_keeps_alerts_and_leases() {
    let database = Postgres::shared().await.create_database().await;
    let store = open(database.url(), "test").await.unwrap();
    keeps_alerts(&*store).await;
    a_digest_stays_as_it_is(&*store).await;
    assert!(holds(&*store, "one", LONG).await);
    assert!(!holds(&*store, "two", LONG).await, "the first holds it still");
    assert!(holds(&*store, "one", Duration::ZERO).await);
    assert!(holds(&*store, "two", LONG).await, "it has run out");
    store.release("outbox alerts", "one").await.unwrap();
    assert!(!holds(&*store, "one", LONG).await, "it was not the first's to give back");
    store.release("outbox alerts", "two").await.unwrap();
    assert!(holds(&*store, "one", LONG).await);
}

fn plan(state: &str, rows: u64, options: &str) -> Arc<Plan> {
    let mut registry = Registry::default();
    registry.add(StageType::source::<NumbersOptions>()).unwrap();
    registry.add(StageType::sink::<MailboxOptions>()).unwrap();
    let text = format!(
        "
name: test
key: [series]
state: {state}
sources:
  readings: {{ type: numbers, partitions: 1, rows: {rows} }}
sinks:
  alerts: {{ type: mailbox, inputs: readings, {options} }}
"
    );
    let loaded = load_text("test.yaml", &text, ".".as_ref(), &LoadOptions::default(), &Arc::new(registry));
    Arc::new(loaded.map_err(|report| report.render(false)).unwrap().0)
}

/// Runs in a runtime of its own: when it has ended, nothing of it has the state open any more.
async fn run(plan: Arc<Plan>, stop: watch::Receiver<bool>) -> Summary {
    let in_runtime = move || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let settings = RunSettings { once: true, ..RunSettings::default() };
        let run = async { Run::prepare(plan, settings).await.unwrap().run(stop).await.unwrap() };
        let summary = runtime.block_on(async { timeout(SOON, run).await.expect("it ends soon") });
        runtime.shutdown_timeout(SOON);
        summary
    };
    spawn_blocking(in_runtime).await.unwrap()
}

/// What a run of a pipeline without rows delivers of what was put in before.
async fn delivered(location: &str, answer: &str) -> (Vec<(String, Option<u64>)>, Summary) {
    let name = unique_name("mailbox");
    let (_stop, stopped) = watch::channel(false);
    let summary = run(plan(location, 0, &format!("mailbox: {name}, answer: {answer}")), stopped).await;
    let alerts = mailbox(&name).alerts.lock().unwrap().clone();
    (alerts.into_iter().map(|alert| (alert.id, alert.digest_of)).collect(), summary)
}

fn of(id: &str, digest_of: Option<u64>) -> (String, Option<u64>) {
    (id.into(), digest_of)
}

#[tokio::test]
async fn all_alerts_in_excess_are_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    let store = open(location, "test").await.unwrap();
    put(&*store, "a", 2, false).await;
    put(&*store, "b", 10_000, true).await;
    put(&*store, "c", 1, false).await;
    put(&*store, "d", 1, true).await;
    drop(store);
    let (alerts, summary) = delivered(location, "takes").await;
    assert_eq!(
        alerts,
        [of("a-0", None), of("a-1", None), of("b-0", Some(10_000)), of("c-0", None), of("d-0", Some(1))]
    );
    assert!(summary.waiting.is_empty());
    let (again, _) = delivered(location, "takes").await;
    assert!(again.is_empty(), "{again:?}");
}

#[tokio::test]
async fn each_alert_of_a_digest_that_is_refused_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    let store = open(location, "test").await.unwrap();
    put(&*store, "a", 250, true).await;
    put(&*store, "b", 1, false).await;
    drop(store);
    let (alerts, summary) = delivered(location, "refuses_digests").await;
    assert_eq!((alerts, summary.waiting), (vec![of("b-0", None)], Vec::new()));
    let letters = open(location, "test").await.unwrap().dead_letters(0, 1_000).await.unwrap();
    let offsets: Vec<u64> = letters.iter().map(|(_, letter)| letter.row.offset).collect();
    assert_eq!(offsets, (0..250).collect::<Vec<u64>>());
}

#[tokio::test]
async fn alerts_delivered_more_than_a_day_ago_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    let store = open(location, "test").await.unwrap();
    put(&*store, "a", 7, false).await;
    for (number, pending) in store.pending("alerts", 7).await.unwrap().iter().enumerate() {
        let age = if number < 4 { DAY + 1 } else { DAY - 600_000_000 };
        store.delivered(pending.number, Timestamp(now().0 - age)).await.unwrap();
    }
    put(&*store, "b", 1, false).await;
    drop(store);
    assert_eq!(delivered(location, "takes").await.0, [of("b-0", None)]);
    let store = open(location, "test").await.unwrap();
    assert_eq!(store.drop_delivered("alerts", Timestamp(i64::MAX), 100).await.unwrap(), 4, "three and the new one");
}

#[tokio::test]
async fn a_dead_process_holds_up_nobody_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    let store = open(location, "test").await.unwrap();
    put(&*store, "a", 1, false).await;
    assert!(holds(&*store, "dead", LONG).await);
    drop(store);
    assert_eq!(delivered(location, "takes").await.0, [of("a-0", None)]);
}

#[tokio::test]
async fn a_run_right_after_another_waits_for_no_lease() {
    let database = Postgres::shared().await.create_database().await;
    for name in ["a", "b"] {
        let store = open(database.url(), "test").await.unwrap();
        put(&*store, name, 1, false).await;
        drop(store);
        assert_eq!(delivered(database.url(), "takes").await.0, [of(&format!("{name}-0"), None)]);
    }
}

#[tokio::test]
async fn a_stop_waits_neither_for_room_nor_for_the_other_side() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap();
    let name = unique_name("mailbox");
    let plan = plan(location, 5_000, &format!("mailbox: {name}, answer: fails, max_pending: 1, when_full: wait"));
    let (stop, stopped) = watch::channel(false);
    let closed = mailbox(&name);
    let stopping = async {
        closed.tried.notified().await;
        stop.send_replace(true);
    };
    let (summary, ()) = tokio::join!(run(plan, stopped), stopping);
    assert_eq!(summary.end, RunEnd::Told, "everything that was read is committed");
    let left = open(location, "test").await.unwrap().count_pending("alerts").await.unwrap();
    assert!(0 < left);
    assert_eq!(summary.waiting, [("alerts".to_string(), left)]);
}

#[tokio::test]
async fn a_wait_is_seen_while_it_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("mailbox");
    let options = format!("mailbox: {name}, answer: fails, max_pending: 1, when_full: wait");
    let plan = plan(folder.path().to_str().unwrap(), 1_000_000, &options);
    let _closed = mailbox(&name);
    let run = Run::prepare(plan, RunSettings::default()).await.unwrap();
    let progress = run.progress();
    let (stop, stopped) = watch::channel(false);
    let waits = async {
        let second = Duration::from_secs(1);
        eventually(SOON, "a second of waiting", async || second < progress.view.totals().waited).await;
        let (epochs, waited) = (progress.view.totals().epochs, progress.view.totals().waited);
        eventually(SOON, "another one", async || waited + second < progress.view.totals().waited).await;
        assert_eq!(progress.view.totals().epochs, epochs, "none was committed: the wait goes on");
        stop.send_replace(true);
    };
    let (ended, ()) = tokio::join!(run.run(stopped), waits);
    assert_eq!(ended.unwrap().end, RunEnd::Told);
    let waited = progress.view.waits.sum();
    tokio::task::yield_now().await;
    assert_eq!(progress.view.waits.sum(), waited, "nobody waits any longer");
}
