//! State that is moved between databases in the middle of its work goes on there; a stage may forget or be renamed.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{once, rows, run_all, run_for};
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::tools::StateTools;
use pipeline_services::{Postgres, unique_name};
use pipeline_stage::ErrorKind;
use pipeline_testkit::faulty::table;

/// Readings, their anomalies, and a detector whose id and window a test may choose.
fn plan(name: &str, state: &str, detector: &str, n_rows: u64) -> Arc<Plan> {
    let text = format!(
        "
name: test
key: [series]
state: {state}
commit_every: 4ms
checkpoint_every: 25ms
sources:
  readings: {{ type: numbers, partitions: 3, rows: {n_rows} }}
detectors:
  {detector}: {{ type: zscore, inputs: readings, value: value, time: time, window: 12 }}
sinks:
  history: {{ type: memory, inputs: readings, table: {name}-history }}
  anomalies: {{ type: memory, inputs: {detector}, when: is_anomaly, table: {name}-anomalies }}
"
    );
    engine::plan(&text, Path::new("/"))
}

fn tables(name: &str) -> (Vec<String>, Vec<String>) {
    (rows(&table(&format!("{name}-history"))), rows(&table(&format!("{name}-anomalies"))))
}

fn undisturbed() -> (Vec<String>, Vec<String>) {
    let (folder, name) = (tempfile::tempdir().unwrap(), unique_name("undisturbed"));
    run_all(&plan(&name, &folder.path().display().to_string(), "spikes", 700), false).unwrap();
    tables(&name)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

/// Everything from one place to another.
fn move_state(from: &str, to: &str) {
    block_on(async {
        let mut exported = Vec::new();
        let out = StateTools::alone(from, "test").await.unwrap().export(&mut exported).await.unwrap();
        let tools = StateTools::alone(to, "test").await.unwrap();
        let moved = tools.import(&mut exported.as_slice()).await.unwrap();
        assert_eq!(out, moved);
        let error = tools.import(&mut exported.as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "what is there is not overwritten");
        assert!(3 <= moved.tasks && 3 < moved.rows, "{moved:?}");
    });
}

#[test]
fn state_goes_on_where_it_was_moved_to() {
    let expected = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let postgres = block_on(async { Postgres::shared().await.create_database().await });
    let name = unique_name("moved");
    let places = [place("first"), postgres.url().to_owned(), place("last")];
    let mut interrupted = 0;
    for (number, state) in places.iter().enumerate() {
        if 0 < number {
            move_state(&places[number - 1], state);
        }
        let run = plan(&name, state, "spikes", 700);
        let is_last = number + 1 == places.len();
        // A third of the rows in each place, as far as a slow machine lets it be told apart.
        let enough = expected.0.len() * (number + 1) / places.len();
        let mut patience = Duration::from_millis(40);
        while !is_last && tables(&name).0.len() < enough {
            match run_for(&run, once(), patience) {
                Some(ended) => drop(ended.unwrap()),
                None => interrupted += 1,
            }
            // The machine may be so slow that a short run gets nowhere.
            patience += Duration::from_millis(20);
        }
        if is_last {
            run_all(&run, false).unwrap();
        }
    }
    assert!(0 < interrupted, "every run came to its end");
    assert_eq!(tables(&name), expected);
}

#[test]
fn an_export_that_is_cut_off_or_of_another_pipeline_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    run_all(&plan(&unique_name("cut"), &state, "spikes", 50), false).unwrap();
    block_on(async {
        let mut exported = Vec::new();
        StateTools::alone(&state, "test").await.unwrap().export(&mut exported).await.unwrap();
        let text = String::from_utf8(exported).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let other = folder.path().join("other").display().to_string();
        let without_last = lines[..lines.len() - 1].join("\n");
        let without_row = [&lines[..2], &lines[3..]].concat().join("\n");
        let (version, other_version) = (r#""name":"version","value":""#, r#""name":"version","value":"9"#);
        assert!(text.contains(version), "the version stands in a row");
        let of_other_version = text.replace(version, other_version);
        for (pipeline, text, words) in [
            ("test", without_last.as_str(), "it is cut off: rows are missing"),
            ("test", without_row.as_str(), "it is cut off: rows are missing"),
            ("test", &text[..text.len() / 2], "the exported state cannot be read: line"),
            ("test", "", "this is no exported state"),
            ("test", &of_other_version, "its version is not the one that its first line says"),
            ("other", text.as_str(), "is of the pipeline `test`, this file is `other`"),
        ] {
            let tools = StateTools::alone(&other, pipeline).await.unwrap();
            let error = tools.import(&mut text.as_bytes()).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(tools.tasks().await.unwrap().is_empty(), "nothing is taken of it");
        }
        let tools = StateTools::alone(&other, "test").await.unwrap();
        tools.import(&mut text.as_bytes()).await.unwrap();
        assert_eq!(tools.tasks().await.unwrap().len(), 3);
    });
}

#[test]
fn a_renamed_stage_keeps_its_series_and_a_reset_one_forgets_them() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let name = unique_name("renamed");
    run_all(&plan(&name, &state, "spikes", 350), false).unwrap();
    let keys = |stage: &'static str| {
        let state = state.clone();
        block_on(async move {
            let tools = StateTools::alone(&state, "test").await.unwrap();
            let mut keys = 0;
            for task in tools.tasks().await.unwrap() {
                keys += tools.stage(&task, stage).await.unwrap().len();
            }
            keys
        })
    };
    let known = keys("spikes");
    assert!(3 < known);
    block_on(async {
        let renamed = StateTools::alone(&state, "test").await.unwrap().rename("spikes", "peaks").await;
        assert_eq!(renamed.unwrap(), known);
    });
    assert_eq!((keys("spikes"), keys("peaks")), (0, known));
    let reset = block_on(async { StateTools::alone(&state, "test").await.unwrap().reset("peaks").await.unwrap() });
    assert_eq!((reset, keys("peaks")), (known, 0));
    run_all(&plan(&name, &state, "peaks", 700), false).unwrap();
    assert_eq!(tables(&name).0.len(), 2_100, "each reading once, whatever was forgotten");
}

#[test]
fn state_is_not_changed_while_epochs_are_pending() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let run = plan(&unique_name("pending"), &state, "spikes", 5_000);
    let mut pending = 0;
    // Until a run is dropped between a commit and the next checkpoint.
    for attempt in 0..40 {
        if run_for(&run, once(), Duration::from_millis(40 + 10 * attempt)).is_some() {
            break;
        }
        pending = block_on(async {
            let tasks = StateTools::alone(&state, "test").await.unwrap().tasks().await.unwrap();
            tasks.iter().map(|task| task.pending_epochs()).sum::<usize>()
        });
        if 0 < pending {
            break;
        }
    }
    assert!(0 < pending, "no run was dropped in time");
    block_on(async {
        let tools = StateTools::alone(&state, "test").await.unwrap();
        for error in [tools.reset("spikes").await.unwrap_err(), tools.rename("spikes", "peaks").await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("logged but in no checkpoint"), "{error}");
        }
    });
}
