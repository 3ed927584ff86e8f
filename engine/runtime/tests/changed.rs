//! Pipelines that change, and state that is lost: begun anew only where somebody has said so, and then without gaps.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{rows, run_all};
use pipeline_runtime::changes::{Verdict, compare, former_plan};
use pipeline_runtime::plan::{Plan, RunSettings};
use pipeline_runtime::store::tools::StateTools;
use pipeline_services::unique_name;
use pipeline_stage::Kind;
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
        let tasks = tools.tasks().await.unwrap();
        let states = tools.states(&tasks).await.unwrap();
        let former = former_plan(tasks[0].definition.as_ref().unwrap(), now).unwrap();
        compare(&former, now, states, &RunSettings::default())
    });
    let verdicts = changes.into_iter().filter(|change| change.kind == Kind::Detector);
    let verdicts = verdicts.map(|change| (change.stage, change.verdict)).collect();
    (verdicts, run_all(now, false).err().map(|error| error.chain()))
}

#[test]
fn state_that_a_changed_file_would_lose_is_told_and_refused() {
    let first = ("spikes", "window: 12");
    let only = |id: &str, verdict| vec![(id.to_owned(), verdict)];
    let cases: [((&str, &str), Verdicts, Option<&str>); 5] = [
        (first, vec![("spikes".into(), Verdict::Keep)], None),
        (("spikes", "window: 5"), vec![("spikes".into(), Verdict::Migrate)], None),
        (
            ("spikes", "window: 12, key: []"),
            only("spikes", Verdict::Rebuild),
            Some("makes its series of [] now, they were made of [series]"),
        ),
        (
            ("peaks", "window: 12"),
            vec![("peaks".into(), Verdict::New), ("spikes".into(), Verdict::Drop)],
            Some("`spikes` is not in the file any more, but has state; `pipeline state FILE rename spikes NEW`"),
        ),
        (("", ""), only("spikes", Verdict::Drop), Some("`spikes` is not in the file any more")),
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

/// The first `n_rows` readings of each partition, with a detector whose options are given, into a table of its own.
fn scored(folder: &Path, n_rows: u64, options: &str, name: &str) -> Arc<Plan> {
    let text = format!(
        "
name: test
key: [series]
state: {}
commit_every: 4ms
checkpoint_every: 25ms
sources:
  readings: {{ type: numbers, partitions: 2, rows: {n_rows} }}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, {options} }}
sinks:
  scores: {{ type: memory, inputs: spikes, table: {name} }}
",
        folder.join("state").display()
    );
    engine::plan(&text, folder)
}

#[test]
fn state_that_is_rebuilt_is_as_if_the_file_had_always_been_so() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (before, after, fresh) = (unique_name("before"), unique_name("after"), unique_name("fresh"));
    run_all(&scored(folder.path(), 300, "window: 12", &before), false).unwrap();

    let changed = "window: 12, key: []";
    // The sink of the file as it was: its mark must be there.
    let plan = scored(folder.path(), 600, changed, &before);
    let words = run_all(&plan, false).unwrap_err().chain();
    assert!(words.contains("`pipeline run FILE --rebuild spikes` computes it again"), "{words}");
    let had = rows(&table(&before));
    engine::run(&plan, RunSettings { rebuild: vec!["spikes".into()], ..engine::once() }).unwrap();
    let gained: Vec<String> = rows(&table(&before)).into_iter().filter(|row| !had.contains(row)).collect();

    run_all(&scored(other.path(), 300, changed, &after), false).unwrap();
    let first = rows(&table(&after));
    run_all(&scored(other.path(), 600, changed, &after), false).unwrap();
    let expected: Vec<String> = rows(&table(&after)).into_iter().filter(|row| !first.contains(row)).collect();
    assert_eq!((gained.len(), &gained), (600, &expected));

    // Without a word about it: the state is found again.
    run_all(&plan, false).unwrap();
    let cold = tempfile::tempdir().unwrap();
    run_all(&scored(cold.path(), 600, changed, &fresh), false).unwrap();
    assert!(expected.iter().all(|row| rows(&table(&fresh)).contains(row)));
}

#[test]
fn a_rebuild_that_crashes_is_done_or_not_done() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (name, expected) = (unique_name("rebuilt"), unique_name("always"));
    let changed = "window: 12, key: []";
    run_all(&scored(folder.path(), 300, "window: 12", &name), false).unwrap();
    run_all(&scored(other.path(), 300, changed, &expected), false).unwrap();
    let (had, others) = (rows(&table(&name)), rows(&table(&expected)));

    // The same order at every start, also when one partition is rebuilt and has read on, and the other one is not.
    let plan = scored(folder.path(), 2_000, changed, &name);
    let rebuilding = || RunSettings { rebuild: vec!["spikes".into()], ..engine::once() };
    let mut crashes = 0;
    let mut patience = Duration::from_millis(15);
    while engine::run_for(&plan, rebuilding(), patience).map(Result::unwrap).is_none() {
        (crashes, patience) = (crashes + 1, patience + Duration::from_millis(5));
        assert!(crashes < 1_000, "no run gets to its end");
    }
    assert!(4 < crashes, "{crashes} crashes");
    run_all(&scored(other.path(), 2_000, changed, &expected), false).unwrap();
    let gained =
        |now: Vec<String>, had: &[String]| now.into_iter().filter(|row| !had.contains(row)).collect::<Vec<_>>();
    let gained = (gained(rows(&table(&name)), &had), gained(rows(&table(&expected)), &others));
    assert_eq!(gained.0.len(), 3_400);
    assert!(gained.0 == gained.1, "what follows a rebuild differs");
}

#[test]
fn only_stages_of_the_file_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let plan = scored(folder.path(), 10, "window: 12", &unique_name("unknown"));
    let error = engine::run(&plan, RunSettings { rebuild: vec!["spike".into()], ..engine::once() }).unwrap_err();
    assert_eq!(error.chain(), "`--rebuild spike` names no transform or detector of this pipeline, it has `spikes`");
}
