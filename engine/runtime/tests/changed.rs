//! Pipelines that change, and state that is lost: begun anew only where somebody has said so, and then without gaps.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::path::Path;
use std::sync::Arc;

use engine::{rows, run_all};
use pipeline_runtime::changes::{States, Verdict, compare, former_plan};
use pipeline_runtime::plan::{Plan, RunSettings};
use pipeline_runtime::store::tools::StateTools;
use pipeline_services::unique_name;
use pipeline_stage::{Kind, SavedState};
use pipeline_testkit::faulty::table;

/// Readings into one table; `rest` holds whatever else is in the file.
fn plan(name: &str, folder: &Path, rest: &str) -> Arc<Plan> {
    let text = format!(
        "
name: test
key: [series]
state: {}
commit_every: 4ms
checkpoint_every: 25ms
sources:
  readings: {{ type: numbers, partitions: 2, rows: 300 }}
sinks:
  history: {{ type: memory, inputs: readings, table: {name} }}
{rest}",
        folder.join("state").display()
    );
    engine::plan(&text, folder)
}

#[test]
fn state_that_is_lost_is_begun_anew_only_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("lost");
    let plan = plan(&name, folder.path(), "");
    run_all(&plan, false).unwrap();
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    let words = run_all(&plan, false).unwrap_err().chain();
    assert!(words.contains("was made with other state") && words.contains("--cold-start"), "{words}");
    assert_eq!(rows(&table(&name)).len(), 600);
    run_all(&plan, true).unwrap();
    assert_eq!(rows(&table(&name)).len(), 1_200, "a numbers source begins at its beginning");
    run_all(&plan, true).unwrap();
    run_all(&plan, false).unwrap();
    assert_eq!(rows(&table(&name)).len(), 1_200, "state that fits is never given up");
}

#[test]
fn a_lost_checkpoint_is_not_taken_for_a_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("checkpoint");
    let plan = plan(&name, folder.path(), "");
    run_all(&plan, false).unwrap();
    for file in ["checkpoints.db", "checkpoints.db-wal", "checkpoints.db-shm"] {
        // The other two are there only while the file is open.
        let _ = std::fs::remove_file(folder.path().join("state").join(file));
    }
    let words = run_all(&plan, false).unwrap_err().chain();
    assert!(words.contains("neither the epoch log nor a checkpoint"), "{words}");
}

#[test]
fn a_sink_that_comes_later_begins_where_the_state_is() {
    let folder = tempfile::tempdir().unwrap();
    let (name, late) = (unique_name("first"), unique_name("late"));
    run_all(&plan(&name, folder.path(), ""), false).unwrap();
    let with_second =
        plan(&name, folder.path(), &format!("  second: {{ type: memory, inputs: readings, table: {late} }}\n"));
    run_all(&with_second, false).unwrap();
    run_all(&with_second, false).unwrap();
    assert_eq!((rows(&table(&name)).len(), rows(&table(&late)).len()), (600, 0));
}

#[test]
fn a_sink_of_another_type_is_another_sink() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("type");
    run_all(&plan(&name, folder.path(), "  second: { type: discard, inputs: readings }\n"), false).unwrap();
    let changed = plan(&name, folder.path(), "  second: { type: file, inputs: readings, path: '{task}.jsonl' }\n");
    run_all(&changed, false).unwrap();
    assert_eq!(rows(&table(&name)).len(), 600);
}

#[test]
fn a_sink_that_was_added_before_the_first_row_gets_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (name, other) = (unique_name("empty"), unique_name("other"));
    let text = |rows: u64, sinks: &str| {
        format!(
            "
name: test
state: {}
sources:
  readings: {{ type: numbers, partitions: 1, rows: {rows} }}
sinks:
  history: {{ type: memory, inputs: readings, table: {name} }}
{sinks}",
            folder.path().join("state").display()
        )
    };
    run_all(&engine::plan(&text(0, ""), folder.path()), false).unwrap();
    let second = format!("  second: {{ type: memory, inputs: readings, table: {other} }}\n");
    run_all(&engine::plan(&text(50, &second), folder.path()), false).unwrap();
    assert_eq!((rows(&table(&name)).len(), rows(&table(&other)).len()), (50, 50));
}

#[test]
fn another_number_of_tasks_begins_everything_anew_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let name = unique_name("tasks");
    let plan = |tasks: u32| {
        let text = format!(
            "
name: test
key: [sensor_id, metric_type]
state: {}
sources:
  readings: {{ type: simulator, rate: unlimited, count: 500, tasks: {tasks} }}
sinks:
  history: {{ type: memory, inputs: readings, table: {name} }}
",
            folder.path().join("state").display()
        );
        engine::plan(&text, folder.path())
    };
    run_all(&plan(1), false).unwrap();
    let words = run_all(&plan(4), false).unwrap_err().chain();
    assert!(words.contains("`tasks` is 4") && words.contains("was made with 1"), "{words}");
    run_all(&plan(4), true).unwrap();
    assert_eq!(rows(&table(&name)).len(), 1_000, "each row once by one task, and once by one of four");
    run_all(&plan(4), false).unwrap();
    assert_eq!(rows(&table(&name)).len(), 1_000);
}

/// Readings and a detector of this id with these options; none without an id.
fn detecting(name: &str, folder: &Path, (id, options): (&str, &str)) -> Arc<Plan> {
    let rest = format!(
        "  scores: {{ type: discard, inputs: {id} }}
detectors:
  {id}: {{ type: zscore, inputs: readings, value: value, {options} }}
"
    );
    plan(name, folder, if id.is_empty() { "" } else { &rest })
}

/// Detectors by their ids.
type Verdicts = Vec<(String, Verdict)>;

/// What has become of each stage, and what `run` says of the change.
fn changed(folder: &Path, now: &Arc<Plan>) -> (Verdicts, Option<String>) {
    let state = folder.join("state").display().to_string();
    let changes = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let tools = StateTools::alone(&state, "test").await.unwrap();
        let (mut states, tasks) = (States::new(), tools.tasks().await.unwrap());
        for task in &tasks {
            for (stage, _) in &task.checkpoint.as_ref().unwrap().stages {
                let entries: Vec<_> = tools.stage(task, stage).await.unwrap().into_iter().collect();
                if !entries.is_empty() {
                    states.entry(stage.clone()).or_default().push(SavedState { entries });
                }
            }
        }
        let former = former_plan(tasks[0].definition.as_ref().unwrap(), now).unwrap();
        let run = RunSettings {
            once: true,
            cold_start: false,
            catches_up: false,
            console: Arc::new(pipeline_stage::NoConsole),
        };
        compare(&former, now, states, &run)
    });
    let verdicts = changes.into_iter().filter(|change| change.kind == Kind::Detector);
    let verdicts = verdicts.map(|change| (change.stage, change.verdict)).collect();
    (verdicts, run_all(now, false).err().map(|error| error.chain()))
}

#[test]
fn state_that_a_changed_file_would_lose_is_told_and_refused() {
    let first = ("spikes", "window: 12");
    let lost = |id: &str| vec![(id.to_owned(), Verdict::Lost)];
    let cases: [((&str, &str), Verdicts, Option<&str>); 5] = [
        (first, vec![("spikes".into(), Verdict::Keep)], None),
        (("spikes", "window: 5"), vec![("spikes".into(), Verdict::Migrate)], None),
        (
            ("spikes", "window: 12, key: []"),
            lost("spikes"),
            Some("makes its series of [] now, they were made of [series]"),
        ),
        (
            ("peaks", "window: 12"),
            vec![("peaks".into(), Verdict::New), ("spikes".into(), Verdict::Lost)],
            Some("`spikes` is not in the file any more, but has state; `pipeline state FILE reset --stage spikes`"),
        ),
        (("", ""), lost("spikes"), Some("`spikes` is not in the file any more")),
    ];
    for (now, verdicts, refused) in cases {
        let folder = tempfile::tempdir().unwrap();
        let name = unique_name("changes");
        run_all(&detecting(&name, folder.path(), first), false).unwrap();
        let (found, words) = changed(folder.path(), &detecting(&name, folder.path(), now));
        assert_eq!(found, verdicts, "{now:?}");
        match refused {
            None => assert_eq!(words, None, "{now:?}"),
            Some(refused) => assert!(words.as_ref().is_some_and(|words| words.contains(refused)), "{now:?}: {words:?}"),
        }
    }
}
