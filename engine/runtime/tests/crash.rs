//! A crash does not matter: whenever the engine is dropped, the output is that of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::sync::Arc;
use std::time::Duration;

use engine::{once, rows, run_all, run_for};
use pipeline_runtime::plan::Plan;
use pipeline_testkit::Random;
use pipeline_testkit::faulty::table;
use tokio::runtime::Builder;

/// Three partitions of made-up readings; history and anomalies go to two tables of the same name, alerts to a
/// mailbox.
fn plan(name: &str, state: &std::path::Path, fail_one_in: u64, extra: &str) -> Arc<Plan> {
    plan_with_window(name, state, fail_one_in, extra, 12)
}

fn plan_with_window(name: &str, state: &std::path::Path, fail_one_in: u64, extra: &str, window: u32) -> Arc<Plan> {
    let text = format!(
        "
name: test
key: [series]
state: {}
commit_every: 4ms
checkpoint_every: 25ms
sources:
  readings: {{ type: numbers, partitions: 3, rows: 700 }}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, time: time, window: {window} }}
sinks:
  history: {{ type: memory, inputs: readings, table: {name}-history, fail_one_in: {fail_one_in}{extra} }}
  anomalies: {{ type: memory, inputs: spikes, when: is_anomaly, table: {name}-anomalies, fail_one_in: {fail_one_in} }}
  alerts: {{ type: mailbox, inputs: spikes, when: is_anomaly, mailbox: {name} }}
",
        state.display()
    );
    engine::plan(&text, state)
}

fn undisturbed() -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let name = pipeline_services::unique_name("undisturbed");
    let summary = run_all(&plan(&name, folder.path(), 0, ""), false).unwrap();
    assert_eq!(summary.progress.stages[0].out, 2_100);
    (rows(&table(&format!("{name}-history"))), rows(&table(&format!("{name}-anomalies"))))
}

#[test]
fn a_crash_does_not_matter() {
    let (history, anomalies) = undisturbed();
    assert_eq!(history.len(), 2_100);
    assert!(20 < anomalies.len(), "{}", anomalies.len());
    let (mut crashed, mut replayed, mut lost_answers) = (0, 0, 0);
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let name = pipeline_services::unique_name("crash");
        let plan = plan(&name, folder.path(), if seed % 2 == 0 { 9 } else { 0 }, "");
        let mut patience = Duration::from_millis(10);
        let summary = loop {
            match run_for(&plan, once(), patience + Duration::from_micros(random.below(60_000) as u64)) {
                Some(ended) => break ended.unwrap(),
                None => crashed += 1,
            }
            assert!(patience < Duration::from_secs(1), "seed {seed}: no run gets to its end");
            // The machine may be so slow that no run gets anywhere.
            patience += Duration::from_millis(1);
        };
        replayed += summary.progress.replayed_rows;
        let tables = [table(&format!("{name}-history")), table(&format!("{name}-anomalies"))];
        lost_answers += tables[0].lock().unwrap().failures.1;
        assert_eq!(rows(&tables[0]), history, "seed {seed}");
        assert_eq!(rows(&tables[1]), anomalies, "seed {seed}");
    }
    assert!(30 < crashed && 0 < replayed && 3 < lost_answers, "{crashed} {replayed} {lost_answers}");
}

#[test]
fn refused_rows_become_dead_letters_once() {
    let folder = tempfile::tempdir().unwrap();
    let name = pipeline_services::unique_name("refused");
    let plan = plan(&name, folder.path(), 5, ", refuse: p1-3");
    let summary = run_all(&plan, false).unwrap();
    let (written, history) = (rows(&table(&format!("{name}-history"))), &summary.progress.stages[2]);
    assert!(0 < history.dead, "none was refused");
    assert_eq!(written.len() as u64 + history.dead, 2_100);
    assert!(history.is_balanced());
    let letters = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = pipeline_runtime::store::open(&plan.state_location(), "test").await.unwrap();
        store.dead_letters(0, 10_000).await.unwrap()
    });
    assert_eq!(letters.len() as u64, history.dead);
    assert!(letters.iter().all(|(_, letter)| letter.reason == "`p1-3` is not wanted" && letter.row.stage == "history"));
}

#[test]
fn output_of_other_state_is_refused_in_words() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let name = pipeline_services::unique_name("foreign");
    run_all(&plan(&name, folders[0].path(), 0, ""), false).unwrap();
    let error = run_all(&plan(&name, folders[1].path(), 0, ""), false).unwrap_err();
    let words = error.chain();
    assert!(words.contains("was made with other state") && words.contains("--cold-start"), "{words}");
    assert_eq!(rows(&table(&format!("{name}-history"))).len(), 2_100, "nothing was written");
}

/// For each partition, the row at which the log of a crashed run ends, if epochs of some task wait to be replayed.
fn logged_until(plan: &Plan) -> Option<Vec<i64>> {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = pipeline_runtime::store::open(&plan.state_location(), "test").await.unwrap();
        let (mut until, mut has_pending) = (Vec::new(), false);
        for task in ["0", "1", "2"] {
            let claimed = store.claim(task).await.unwrap();
            let logged = claimed.log.last().and_then(|entry| entry.segments.last()).map(|segment| segment.until.offset);
            let checkpointed = claimed.checkpoint.and_then(|checkpoint| checkpoint.positions.first().cloned());
            has_pending |= claimed.log.iter().any(|entry| 0 < entry.rows);
            until.push(logged.or(checkpointed.map(|(_, position)| position.offset)).unwrap_or(0) as i64 / 3);
        }
        has_pending.then_some(until)
    })
}

/// The rows of a table that were read before those positions.
fn before(rows: Vec<String>, until: &[i64]) -> Vec<String> {
    let is_before = |row: &String| {
        let json: serde_json::Value = serde_json::from_str(&row[row.find('{').unwrap()..]).unwrap();
        let partition: usize = json["series"].as_str().unwrap()[1..2].parse().unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(json["time"].as_str().unwrap()).unwrap();
        time.timestamp() < until[partition]
    };
    rows.into_iter().filter(is_before).collect()
}

#[test]
fn logged_epochs_are_computed_by_the_file_they_were_logged_under() {
    let (history, anomalies) = undisturbed();
    let mut compared = 0;
    for seed in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let name = pipeline_services::unique_name("changed");
        let former = plan(&name, folder.path(), 0, "");
        let mut random = Random::new(seed);
        let until = loop {
            let ended = run_for(&former, once(), Duration::from_micros(60_000 + random.below(90_000) as u64));
            assert!(ended.is_none(), "the run has ended before it could be dropped with epochs to replay");
            if let Some(until) = logged_until(&former) {
                break until;
            }
        };
        let changed = plan_with_window(&name, folder.path(), 0, "", 5);
        run_all(&changed, false).unwrap();
        assert_eq!(rows(&table(&format!("{name}-history"))), history, "seed {seed}");
        let found = before(rows(&table(&format!("{name}-anomalies"))), &until);
        assert_eq!(found, before(anomalies.clone(), &until), "seed {seed}");
        compared += found.len();
    }
    assert!(0 < compared, "no anomaly was logged under the former file");
}
