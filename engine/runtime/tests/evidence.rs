//! What anomalies were judged by is stored with their epochs, once whatever happens, and gives the same scores again.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{once, rows, run_for};
use pipeline_runtime::explain::judge_again;
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::tools::StateTools;
use pipeline_runtime::store::{
    Append, Checkpoint, EVIDENCE_AGE_MICROS, EpochEntry, Evidence, Judge, Judged, JudgedColumn, MAX_EVIDENCE,
    NewEvidence, StateStore, evidence_rows, open,
};
use pipeline_services::{Postgres, unique_name};
use pipeline_stage::{ColumnType, Timestamp, encode};
use pipeline_testkit::faulty::table;
use serde_json::json;
use sqlx::Connection;

/// More than go into one row of the table.
const MANY: u64 = 300;

fn judge() -> Judge {
    Judge {
        of: "detector.zscore".into(),
        version: "0.0.1".into(),
        options: json!({"window": 30, "threshold": 3.5, "value": "value"}).as_object().unwrap().clone(),
        secrets: vec!["token".into()],
        key: vec!["series".into()],
        columns: vec![JudgedColumn { name: "value".into(), column_type: ColumnType::Float, nullable: true }],
    }
}

fn judged(offset: u64) -> Judged {
    Judged {
        place: "readings/0".into(),
        offset,
        branch: u64::MAX - offset,
        row: b"{\"value\":0.30000000000000004}".to_vec().into(),
        key: vec![0, 255].into(),
        before: offset.is_multiple_of(2).then(|| vec![7; 3].into()),
        why_not: (!offset.is_multiple_of(2)).then(|| "why".into()),
    }
}

fn append(generation: u64, epoch: u64, ended_at: i64, offsets: std::ops::Range<u64>) -> Append {
    let mut bytes = Vec::new();
    encode(&judge(), &mut bytes).unwrap();
    let judge: Arc<[u8]> = bytes.into();
    let evidence = offsets.map(|offset| NewEvidence {
        stage: "spikes".into(),
        ids: vec![format!("id-{offset}"), "other".into()],
        series: json!({"series": "a\0b", "n": 7}).to_string(),
        row_at: offset.is_multiple_of(2).then_some(Timestamp(offset as i64)),
        judge: judge.clone(),
        judged: judged(offset),
    });
    let ended_at = Timestamp(ended_at);
    Append {
        task: "0".into(),
        generation,
        entry: EpochEntry { epoch, ended_at, segments: Vec::new(), rows: 0, hash: 0, stored: Vec::new() },
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        alerts: Vec::new(),
        evidence: evidence.collect(),
        marks: Vec::new(),
    }
}

/// The offsets of all evidence, by its ids.
async fn ids(store: &dyn StateStore) -> Vec<String> {
    store.evidence_lines().await.unwrap().iter().map(|line| line.ids[0].clone()).collect()
}

async fn keeps_evidence(store: &dyn StateStore) {
    let former = store.claim("0").await.unwrap().generation;
    let generation = store.claim("0").await.unwrap().generation;
    let first = append(generation, 1, 1_000, 0..MANY);
    assert_eq!(store.append(&[append(former, 1, 1_000, 100..101), first.clone()]).await.unwrap(), [false, true]);
    assert_eq!(store.append(&[first]).await.unwrap(), [true], "the answer was lost");
    let newest_first: Vec<String> = (0..MANY).rev().map(|offset| format!("id-{offset}")).collect();
    assert_eq!(ids(store).await, newest_first, "once, and of the owner only");

    let lines = store.evidence_lines().await.unwrap();
    let second = &lines[MANY as usize - 2];
    assert_eq!(
        (second.stage.as_str(), second.task.as_str(), second.epoch, second.at),
        ("spikes", "0", 1, Timestamp(1_000))
    );
    assert_eq!(second.series, [("series".into(), "a\0b".into()), ("n".into(), "7".into())]);
    assert_eq!((second.row_at, lines[MANY as usize - 1].row_at), (None, Some(Timestamp(0))));
    let evidence = store.evidence(second.number).await.unwrap();
    assert_eq!(evidence, Some(Evidence { judge: judge(), judged: judged(1) }));
    assert_eq!(store.evidence(second.number + 1_000_000).await.unwrap(), None);

    prunes(store, generation).await;
}

/// A month after the first epoch its evidence goes; of too much the oldest goes.
async fn prunes(store: &dyn StateStore, generation: u64) {
    let checkpoint = |epoch, at| Checkpoint { epoch, ended_at: Some(Timestamp(at)), ..Checkpoint::default() };
    store.append(&[append(generation, 2, 1_001, 200..201)]).await.unwrap();
    store.drop_log("0", generation, &checkpoint(1, EVIDENCE_AGE_MICROS + 1_000), &[]).await.unwrap();
    assert_eq!(ids(store).await.len() as u64, MANY + 1, "not older than a month");
    store.drop_log("0", generation, &checkpoint(2, EVIDENCE_AGE_MICROS + 1_001), &[]).await.unwrap();
    assert_eq!(ids(store).await, ["id-200"]);
    store.append(&[append(generation, 3, 2_000, 300..300 + MAX_EVIDENCE)]).await.unwrap();
    store.drop_log("0", generation, &checkpoint(3, 2_000), &[]).await.unwrap();
    let left = ids(store).await;
    assert_eq!((left.len() as u64, left.last().unwrap().as_str()), (MAX_EVIDENCE, "id-300"), "the newest");
    // Less than a row of the table too much: it is kept as a whole, but not shown.
    store.append(&[append(generation, 4, 2_001, 200_000..200_100)]).await.unwrap();
    store.append(&[append(generation, 5, 2_001, 200_100..200_500)]).await.unwrap();
    store.drop_log("0", generation, &checkpoint(5, 2_001), &[]).await.unwrap();
    let left = ids(store).await;
    assert_eq!((left.len() as u64, left.last().unwrap().as_str()), (MAX_EVIDENCE, "id-800"), "the newest");
}

/// What a program wrote for which each anomaly was a row of the table.
#[tokio::test]
async fn evidence_of_an_earlier_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path().to_str().unwrap(), "test").await.unwrap();
    let (mut judge_bytes, mut judged_bytes) = (Vec::new(), Vec::new());
    encode(&judge(), &mut judge_bytes).unwrap();
    encode(&judged(4), &mut judged_bytes).unwrap();
    let file = format!("sqlite://{}", folder.path().join("log.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query(
        "INSERT INTO pipeline_state_evidence (pipeline, task, epoch, at, stage, ids, series, row_at, judge, judged)
         VALUES ('test', '0', 7, 1000, 'spikes', 'id-4 other', '{\"series\":\"a\"}', 4, $1, $2)",
    )
    .bind(judge_bytes)
    .bind(judged_bytes)
    .execute(&mut connection)
    .await
    .unwrap();
    let generation = store.claim("0").await.unwrap().generation;
    store.append(&[append(generation, 8, 1_001, 5..7)]).await.unwrap();

    let lines = store.evidence_lines().await.unwrap();
    assert_eq!(ids(store.as_ref()).await, ["id-6", "id-5", "id-4"]);
    let [.., old] = lines.as_slice() else { panic!("no line") };
    assert_eq!((&old.ids[..], old.row_at), (&["id-4".to_owned(), "other".to_owned()][..], Some(Timestamp(4))));
    assert_eq!(old.series, [("series".into(), "a".into())]);
    let evidence = store.evidence(old.number).await.unwrap();
    assert_eq!(evidence, Some(Evidence { judge: judge(), judged: judged(4) }));
}

/// Large ones are not put together in a row that would have to be read for each of them.
#[tokio::test]
async fn evidence_of_any_size_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path().to_str().unwrap(), "test").await.unwrap();
    let generation = store.claim("0").await.unwrap().generation;
    let mut append = append(generation, 1, 1_000, 0..6);
    let sizes = [400 << 10, 400 << 10, 400 << 10, 3 << 20, 1, 1];
    for (new, size) in append.evidence.iter_mut().zip(sizes) {
        new.judged.before = Some(vec![7; size].into());
    }
    assert_eq!(evidence_rows(&append.evidence).iter().map(|row| row.len()).collect::<Vec<_>>(), [2, 1, 1, 2]);
    append.evidence[5].stage = "calm".into();
    assert_eq!(evidence_rows(&append.evidence).len(), 5, "another detector");
    store.append(&[append.clone()]).await.unwrap();
    let lines = store.evidence_lines().await.unwrap();
    for (line, new) in lines.iter().rev().zip(&append.evidence) {
        assert_eq!((&line.ids, line.stage.as_str()), (&new.ids, &*new.stage));
        assert_eq!(store.evidence(line.number).await.unwrap().unwrap().judged, new.judged);
    }
    assert_eq!(lines.len(), 6);
}

/// What a disk has spoilt is told, not passed over.
#[tokio::test]
async fn a_damaged_row_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let store = open(&state, "test").await.unwrap();
    let generation = store.claim("0").await.unwrap().generation;
    store.append(&[append(generation, 1, 1_000, 0..3)]).await.unwrap();
    let numbers: Vec<i64> = store.evidence_lines().await.unwrap().iter().map(|line| line.number).collect();
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{state}/log.db")).await.unwrap();
    let mut two = Vec::new();
    encode(&[judged(0), judged(1)], &mut two).unwrap();

    let query = sqlx::query("UPDATE pipeline_state_evidence SET judged = $1").bind(two);
    query.execute(&mut connection).await.unwrap();
    let error = store.evidence(numbers[0]).await.unwrap_err().to_string();
    assert!(error.ends_with("is damaged: it has the ids of 3 anomalies, and 2 are judged"), "{error}");
    let query = sqlx::query("UPDATE pipeline_state_evidence SET judged = $1").bind(b"\x93\xc1".to_vec());
    query.execute(&mut connection).await.unwrap();
    let error = store.evidence(numbers[0]).await.unwrap_err().to_string();
    assert!(error.contains("is damaged: `judged`: "), "{error}");
    store.append(&[append(generation, 2, 1_000, 7..8)]).await.unwrap();
    for (change, words) in [
        ("series = '{}'", "it has the ids of 3 anomalies and the series of 1"),
        ("series = '{}' || char(10) || 'oh' || char(10) || '{}'", "`oh` is no series"),
        ("ids = 'a\tnever' || char(10) || 'b' || char(10) || 'c'", "`never` is no event time"),
        ("number = 36028797018963968", "its number is too large"),
    ] {
        let query =
            sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE pipeline_state_evidence SET {change} WHERE epoch = 1")));
        query.execute(&mut connection).await.unwrap();
        let error = store.evidence_lines().await.unwrap_err().to_string();
        assert!(error.contains("of `pipeline_state_evidence` is damaged") && error.contains(words), "{error}");
        let (lines, damaged) = StateTools::beside(&state, "test").await.unwrap().evidence_lines().await.unwrap();
        assert_eq!((lines.len(), &*lines[0].ids[0], damaged.len()), (1, "id-7", 1), "the others are there");
    }
}

/// As a state that is moved.
#[tokio::test]
async fn exported_evidence_is_the_same_where_it_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let store = open(&place("from"), "test").await.unwrap();
    let generation = store.claim("0").await.unwrap().generation;
    store.append(&[append(generation, 1, 1_000, 0..MANY)]).await.unwrap();
    let lines = store.evidence_lines().await.unwrap();
    drop(store);

    let mut exported = Vec::new();
    StateTools::alone(&place("from"), "test").await.unwrap().export(&mut exported).await.unwrap();
    let moved = StateTools::alone(&place("to"), "test").await.unwrap();
    moved.import(&mut exported.as_slice()).await.unwrap();
    assert_eq!(moved.evidence_lines().await.unwrap().0, lines);
    let last = moved.evidence(lines[0].number).await.unwrap().unwrap();
    assert_eq!(last.judged, judged(MANY - 1));
}

#[tokio::test]
async fn a_folder_keeps_evidence() {
    let folder = tempfile::tempdir().unwrap();
    keeps_evidence(open(folder.path().to_str().unwrap(), "test").await.unwrap().as_ref()).await;
}

#[tokio::test]
async fn postgresql_keeps_evidence() {
    let database = Postgres::shared().await.create_database().await;
    let other = open(database.url(), "other").await.unwrap();
    let generation = other.claim("0").await.unwrap().generation;
    other.append(&[append(generation, 1, 0, 7..8)]).await.unwrap();
    keeps_evidence(open(database.url(), "test").await.unwrap().as_ref()).await;
    assert_eq!(ids(other.as_ref()).await, ["id-7"], "each pipeline has its own");
}

fn plan(name: &str, state: &str, window: u32) -> Arc<Plan> {
    let text = format!(
        "
name: test
key: [series]
state: {state}
commit_every: 4ms
checkpoint_every: 25ms
sources:
  readings: {{ type: numbers, partitions: 3, rows: 2000 }}
detectors:
  spikes:
    type: zscore
    inputs: readings
    value: value
    time: time
    window: {window}
    threshold: 2.5
    expire_after: 5m
  calm: {{ type: zscore, inputs: spikes, when: not is_anomaly, value: value, prefix: calm_, threshold: 2 }}
sinks:
  anomalies: {{ type: memory, inputs: spikes, when: is_anomaly, table: {name} }}
  calmed: {{ type: memory, inputs: calm, when: calm_is_anomaly, table: {name}-calm }}
"
    );
    engine::plan(&text, Path::new("/"))
}

/// Stops runs in the middle until one has come to its end; says how many were stopped.
fn run_with_crashes(plan: &Arc<Plan>) -> u32 {
    for attempt in 0..60 {
        if let Some(ended) = run_for(plan, once(), Duration::from_millis(60 + 15 * u64::from(attempt))) {
            ended.unwrap();
            return attempt;
        }
    }
    panic!("it comes to no end");
}

#[test]
fn each_anomaly_has_its_evidence_once_and_is_judged_the_same_again_whatever_crashed() {
    let folder = tempfile::tempdir().unwrap();
    let (state, name) = (folder.path().join("state").display().to_string(), unique_name("judged"));
    let crashes = run_with_crashes(&plan(&name, &state, 12));
    assert!(2 < crashes, "{crashes} runs were stopped");
    let mut expected = [rows(&table(&name)), rows(&table(&format!("{name}-calm")))].concat();
    assert!(100 < expected.len(), "{} anomalies", expected.len());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (lines, all) = runtime.block_on(async {
        let tools = StateTools::beside(&state, "test").await.unwrap();
        let lines = tools.evidence_lines().await.unwrap().0;
        let mut all = Vec::new();
        for line in &lines {
            all.push(tools.evidence(line.number).await.unwrap().unwrap());
        }
        (lines, all)
    });
    // A row of the table is its id and itself.
    let row = |evidence: &Evidence| String::from_utf8(evidence.judged.row.to_vec()).unwrap();
    let mut found: Vec<String> = lines.iter().zip(&all).map(|(line, one)| line.ids[0].clone() + &row(one)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "each anomaly once, with the id and the numbers that the sink has");
    let n_ids = |stage| lines.iter().find(|line| line.stage == stage).unwrap().ids.len();
    assert_eq!((n_ids("spikes"), n_ids("calm")), (2, 1), "one for each stage by which a row has come");

    // Under another window by now: what counts is the stored one.
    let changed = plan(&name, &state, 40);
    for (line, evidence) in lines.iter().zip(&all) {
        let again = judge_again(&changed, &line.stage, evidence).unwrap();
        assert!(again.is_same, "{evidence:?}");
        assert!(again.window.unwrap().len() <= 30);
        let changed = [("window".to_owned(), Some(json!(12)), Some(json!(40)))];
        assert_eq!(again.changed, if line.stage == "spikes" { &changed[..] } else { &[] });
    }
}

#[test]
fn what_cannot_be_judged_again_is_told_from_what_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let (state, name) = (folder.path().join("state").display().to_string(), unique_name("another"));
    let plan = plan(&name, &state, 12);
    run_for(&plan, once(), Duration::from_secs(60)).unwrap().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let evidence = runtime.block_on(async {
        let tools = StateTools::beside(&state, "test").await.unwrap();
        let newest = tools.evidence_lines().await.unwrap().0[0].number;
        tools.evidence(newest).await.unwrap().unwrap()
    });
    let judged_as = |change: &dyn Fn(&mut Evidence)| {
        let mut changed = evidence.clone();
        change(&mut changed);
        judge_again(&plan, "spikes", &changed).map(|again| again.is_same).map_err(|error| error.chain())
    };
    assert_eq!(judged_as(&|_| ()), Ok(true));
    let other_rule = |evidence: &mut Evidence| drop(evidence.judge.options.insert("threshold".into(), json!(2.25)));
    assert_eq!(judged_as(&other_rule), Ok(false));
    type Change = fn(&mut Evidence);
    let impossible: [(Change, &str); 4] = [
        (|one| one.judged.before = None, "the series before it was not kept"),
        (|one| one.judge.of = "detector.gone".into(), "no detector is called `gone` here"),
        (|one| drop(one.judge.options.insert("window".into(), json!(1))), "`window` is 1, it must be at least 2"),
        (|one| one.judge.secrets.push("token".into()), "option `token` is a secret, which is not stored"),
    ];
    for (change, words) in impossible {
        let error = judged_as(&change).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
