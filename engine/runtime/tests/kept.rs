//! Rows that cannot be read again: whenever the engine is dropped, what was answered is in the output, once.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{once, run_all, run_for, run_until};
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::Segment;
use pipeline_stage::{Registry, StageType};
use pipeline_testkit::Random;
use pipeline_testkit::faulty::table;
use pipeline_testkit::posted::{PostedOptions, desk};
use tokio::runtime::Builder;

const ROWS: u64 = 500;

fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    let own = [
        StageType::source::<pipeline_testkit::faulty::NumbersOptions>(),
        StageType::source::<PostedOptions>(),
        StageType::sink::<pipeline_testkit::faulty::MemoryOptions>(),
    ];
    for stage in own.into_iter().chain(pipeline_builtin::stages()) {
        registry.add(stage).unwrap();
    }
    Arc::new(registry)
}

const AS_JSON: &str = "format: json, schema: { series: string, value: float, time: timestamp }";

/// Two partitions of rows that are posted, as JSON or as columns; `numbers` are read beside them.
fn text(name: &str, form: &str, numbers: bool, window: u32) -> String {
    let (numbers, inputs) = match numbers {
        true => ("numbers: { type: numbers, partitions: 2, rows: 400 }", "[posted, numbers]"),
        false => ("", "[posted]"),
    };
    format!(
        "
name: test
key: [series]
state: state
commit_every: 4ms
checkpoint_every: 40ms
sources:
  posted: {{ type: posted, desk: {name}, partitions: 2, rows: {ROWS}, {form} }}
  {numbers}
detectors:
  spikes: {{ type: zscore, inputs: {inputs}, value: value, time: time, window: {window} }}
sinks:
  history: {{ type: memory, inputs: {inputs}, table: {name}-history, fail_one_in: 9 }}
  scores: {{ type: memory, inputs: spikes, table: {name}-scores }}
"
    )
}

fn plan(text: &str, folder: &Path) -> Arc<Plan> {
    engine::plan_with(text, folder, &registry())
}

/// The posted rows of a table by partition and number, sorted; each must be what was posted.
fn posted_rows(name: &str) -> Vec<(u32, u64)> {
    let table = table(name);
    let rows = &table.lock().unwrap().rows;
    let posted = rows.iter().filter_map(|row| {
        let json: serde_json::Value = serde_json::from_str(&row[row.find('{')?..]).ok()?;
        let partition = json["series"].as_str()?.strip_prefix("posted")?.split('-').next()?.parse().ok()?;
        let time = chrono::DateTime::parse_from_rfc3339(json["time"].as_str()?).ok()?;
        Some((partition, time.timestamp() as u64))
    });
    let mut posted: Vec<(u32, u64)> = posted.collect();
    posted.sort_unstable();
    posted
}

/// Drops the engine again and again until it gets to its end; says how often, and how many rows it replayed at last.
fn crash_until_it_ends(plan: &Arc<Plan>, seed: u64) -> (u32, u64) {
    let (mut random, mut crashed, mut patience) = (Random::new(seed), 0, Duration::from_millis(15));
    loop {
        match run_for(plan, once(), patience + Duration::from_micros(random.below(40_000) as u64)) {
            Some(ended) => return (crashed, ended.unwrap().progress.replayed_rows),
            None => crashed += 1,
        }
        assert!(patience < Duration::from_secs(2), "seed {seed}: no run gets to its end");
        patience += Duration::from_millis(1);
    }
}

#[test]
fn what_was_answered_is_there_once_and_nothing_else_is() {
    let (mut crashed, mut replayed, mut given_up, mut unanswered) = (0, 0, 0, 0);
    for (seed, (form, numbers)) in
        [(AS_JSON, false), ("columns: true", false), (AS_JSON, true), ("columns: true", true)].into_iter().enumerate()
    {
        let folder = tempfile::tempdir().unwrap();
        let name = pipeline_services::unique_name("posted");
        let (crashes, rows) = crash_until_it_ends(&plan(&text(&name, form, numbers, 12), folder.path()), seed as u64);
        let desk = desk(&name);
        let desk = desk.lock().unwrap();
        let answered: Vec<(u32, u64)> = desk.answered.iter().copied().collect();
        for sink in ["history", "scores"] {
            let found = posted_rows(&format!("{name}-{sink}"));
            let (n_rows, n_answered) = (found.len(), answered.len());
            assert!(found == answered, "seed {seed}: {n_answered} rows were answered, {n_rows} are in `{sink}`");
        }
        assert_eq!(answered.len() as u64 + desk.given_up, 2 * ROWS, "seed {seed}: the books do not balance");
        let all = table(&format!("{name}-history")).lock().unwrap().rows.len() - answered.len();
        assert_eq!(all, if numbers { 800 } else { 0 }, "seed {seed}: rows of `numbers`");
        crashed += crashes;
        replayed += rows;
        given_up += desk.given_up;
        unanswered += desk.unanswered;
    }
    assert!(12 < crashed && 0 < replayed && 0 < given_up, "{crashed} {replayed} {given_up} {unanswered}");
}

/// The segments of posted rows that wait in the log.
fn logged(plan: &Plan, tasks: &[&str]) -> Vec<Segment> {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = pipeline_runtime::store::open(&plan.state_location(), "test").await.unwrap();
        let mut segments = Vec::new();
        for task in tasks {
            let log = store.claim(task).await.unwrap().log;
            segments.extend(log.into_iter().flat_map(|entry| entry.segments).filter(|segment| 0 < segment.rows));
        }
        segments
    })
}

#[test]
fn the_log_holds_the_rows_until_a_checkpoint_and_a_changed_file_begins_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let name = pipeline_services::unique_name("posted");
    let former = plan(&text(&name, AS_JSON, true, 12).replace("40ms", "1h"), folder.path());
    let mut in_log = Vec::new();
    for _ in 0..50 {
        assert!(run_for(&former, once(), Duration::from_millis(80)).is_none(), "it must be dropped in the middle");
        in_log = logged(&former, &["0", "1"]);
        if in_log.iter().any(|segment| segment.source == "posted") {
            break;
        }
    }
    let kept = |segment: &Segment| segment.kept.iter().map(|kept| kept.batch().unwrap().len() as u64).sum::<u64>();
    assert!(in_log.iter().any(|segment| segment.source == "posted"), "nothing was logged");
    for segment in &in_log {
        assert_eq!(kept(segment), if segment.source == "posted" { segment.rows } else { 0 });
    }
    // The rows are computed by the former file, whose window is another; the new one begins behind them.
    let changed = plan(&text(&name, AS_JSON, true, 5), folder.path());
    run_all(&changed, false).unwrap();
    assert_eq!(logged(&changed, &["0", "1"]), [], "a run that has ended leaves nothing in the log");
    let desk = desk(&name);
    let desk = desk.lock().unwrap();
    assert_eq!(posted_rows(&format!("{name}-history")), desk.answered.iter().copied().collect::<Vec<_>>());
    assert_eq!(desk.answered.len() as u64 + desk.given_up, 2 * ROWS);
}

/// In bytes: more than this of rows makes a checkpoint due, wherever they came from.
const DUE_AT: usize = 64 << 20;

#[test]
fn lives_that_are_too_short_for_a_checkpoint_do_not_make_the_log_grow_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let name = pipeline_services::unique_name("posted");
    let text = text(&name, AS_JSON, false, 12).replace("checkpoint_every: 40ms", "checkpoint_every: 1h");
    let text = text.replace("partitions: 2, rows: 500", "partitions: 1, rows: 5000, ballast: 100000");
    let plan = plan(&text, folder.path());
    let desk = desk(&name);
    let answered = || desk.lock().unwrap().answered.len();
    let (mut in_log, mut most) = (0, 0);
    for life in 1.. {
        // 16 MB of them.
        let enough = answered() + 160;
        let happens = async || {
            while answered() < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(run_until(&plan, once(), happens).is_none(), "it must be dropped in the middle");
        let before = std::mem::replace(&mut in_log, logged(&plan, &["0"]).iter().map(kept_bytes).sum());
        most = most.max(in_log);
        assert!(most < 2 * DUE_AT, "after {life} lives the log holds {in_log} bytes");
        if in_log < before {
            break;
        }
    }
    // A life adds some 16 MB: only all of them together could make a checkpoint due.
    assert!(DUE_AT / 2 < most, "{most}");
}

fn kept_bytes(segment: &Segment) -> usize {
    segment.kept.iter().map(|kept| kept.bytes()).sum()
}

#[test]
fn state_cannot_be_rebuilt_from_rows_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let name = pipeline_services::unique_name("posted");
    let text = text(&name, AS_JSON, false, 12);
    run_all(&plan(&text, folder.path()), false).unwrap();
    let changed = plan(&text.replace("key: [series]", "key: [time]"), folder.path());
    let words = run_all(&changed, false).unwrap_err().chain();
    assert!(words.contains("reset --stage spikes") && !words.contains("--rebuild"), "{words}");
}

#[test]
fn several_tasks_cannot_share_what_is_given_once() {
    let text = text("several", AS_JSON, false, 12).replace("partitions: 2", "partitions: 0, tasks: 3");
    let folder = tempfile::tempdir().unwrap();
    let loaded = pipeline_runtime::plan::load_text("t.yaml", &text, folder.path(), &Default::default(), &registry());
    let report = loaded.map(drop).unwrap_err().render(false);
    assert!(report.contains("`tasks` is 3, but what `posted` gives cannot be read by several"), "{report}");
}
