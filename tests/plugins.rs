//! A detector in C, built and loaded by the commands of docs/writing-a-plugin.md.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::exact::{anomalies_in, query};
use crate::production::{Motes, pipeline, repository};
use pipeline_services::{PipelineRun, eventually};

/// Runs the command of the docs that makes this library, in another folder.
fn build_as_documented(folder: &Path, library: &str) {
    let docs = std::fs::read_to_string(repository().join("docs/writing-a-plugin.md")).unwrap();
    let mut commands = docs.lines().filter(|line| line.starts_with("cc ") && line.contains(library));
    let command = commands.next().expect("the docs say how it is built");
    let words = command.replace(library, &folder.join(library).display().to_string());
    let words: Vec<&str> = words.split_whitespace().collect();
    let status = Command::new(words[0]).args(&words[1..]).current_dir(repository()).status();
    assert!(status.expect("a C compiler is needed: on Debian, apt-get install gcc").success());
}

/// The recorded motes through the detector into SQLite.
fn file(motes: &Motes, folder: &Path, plugin: &str) -> String {
    file_with(motes, folder, plugin, "zscore_c")
}

/// The recorded motes through a detector of a plugin into SQLite.
pub fn file_with(motes: &Motes, folder: &Path, plugin: &str, detector: &str) -> String {
    let text = format!(
        "name: motes
key: [sensor_id, metric_type]
state: state
commit_every: 5ms
checkpoint_every: 300ms
plugins: [{plugin}]
sources:
  readings:
    type: file
    path: {}
    format: json
    schema: {{ sensor_id: string, metric_type: string, value: float, timestamp: timestamp }}
detectors:
  spikes: {{ type: {detector}, inputs: [readings], value: value, time: timestamp }}
sinks:
  history: {{ type: sqlite, inputs: [readings], path: iot.db, table: sensor_data }}
  anomalies: {{ type: sqlite, inputs: [spikes], when: is_anomaly, path: iot.db, table: anomalies }}
",
        motes.file.display()
    );
    let path = folder.join("motes.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detector_in_c_is_exact_though_it_is_killed() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    build_as_documented(folder.path(), "libzscore_c.so");
    let path = file(&motes, folder.path(), "./libzscore_c.so");
    let database = folder.path().join("iot.db");
    let rows = async || if database.exists() { rows_in(&database).await as usize } else { 0 };
    run_with_kills(&path, motes.rows, rows).await;
    assert_eq!(rows_in(&database).await as usize, motes.rows);
    motes.assert_same(&anomalies_in(&database).await);
}

/// Runs to the end, killed several times on the way: whenever another part of the rows is there.
async fn run_with_kills(file: &str, all_rows: usize, rows: impl AsyncFn() -> usize) {
    let mut kills = 0;
    for part in 1..=4 {
        let target = all_rows * part / 6;
        let mut running = pipeline().args(["run", file, "--once"]).start();
        eventually(Duration::from_secs(60), "rows before the kill", async || {
            !running.is_running() || target <= rows().await
        })
        .await;
        if running.is_running() {
            running.kill().await;
            kills += 1;
        }
    }
    assert!(1 < kills, "it was killed {kills} times");
    let finished = pipeline().args(["run", file, "--once"]).start().wait().await;
    finished.assert_code(0);
    finished.assert_books_balance();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_in_c_is_exact_though_it_is_killed() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    build_as_documented(folder.path(), "libjournal.so");
    let text = format!(
        "name: journal
key: [sensor_id, metric_type]
state: state
commit_every: 5ms
checkpoint_every: 300ms
plugins: [./libjournal.so]
sources:
  readings:
    type: file
    path: {}
    format: json
    schema: {{ sensor_id: string, metric_type: string, value: float, timestamp: timestamp }}
sinks:
  history: {{ type: journal, inputs: [readings], path: readings.csv }}
",
        motes.file.display()
    );
    let path = folder.path().join("journal.yaml");
    std::fs::write(&path, text).unwrap();
    run_with_kills(&path.display().to_string(), motes.rows, async || lines_of(folder.path()).len()).await;
    let lines = lines_of(folder.path());
    assert_eq!(lines[0], "sensor_id,metric_type,value,timestamp");
    let different: std::collections::BTreeSet<&String> = lines.iter().collect();
    assert_eq!((lines.len(), different.len()), (motes.rows + 1, motes.rows + 1), "each row once, and the header");
}

/// The lines of the one file that the journal has written; none before there is one.
fn lines_of(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let files: Vec<_> = entries.filter(|path| name(path).starts_with("readings.csv.0.")).collect();
    assert!(files.len() <= 1, "{files:?}");
    let text = files.first().map(|file| std::fs::read_to_string(file).unwrap_or_default()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn slim_says_where_a_stage_that_it_has_not_built_in_would_come_from() {
    let folder = tempfile::tempdir().unwrap();
    // Away from the libraries that lie beside it.
    let binary = folder.path().join("pipeline-slim");
    std::fs::copy(env!("CARGO_BIN_EXE_pipeline-slim"), &binary).unwrap();
    let file = repository().join("pipelines/iot.yaml").display().to_string();
    let refused = PipelineRun::new(&binary).args(["validate", &file]).start().wait().await;
    refused.assert_code(2);
    assert!(refused.stderr.contains("error: the sink `sqlite` is not built in"), "{}", refused.stderr);
    assert!(refused.stderr.contains("it is loaded from `libpipeline_sqlite_plugin.so`"), "{}", refused.stderr);
    let beside = std::env::current_exe().unwrap().parent().unwrap().display().to_string();
    let valid = PipelineRun::new(&binary).args(["validate", &file, "--plugin-path", &beside]).start().wait().await;
    valid.assert_code(0);
}

/// 0 as long as there is no table.
pub async fn rows_in(database: &Path) -> i64 {
    let tables = query(database, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'sensor_data'").await;
    if tables[0][0] == "0" {
        return 0;
    }
    query(database, "SELECT COUNT(*) FROM sensor_data").await[0][0].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_stage_is_listed_checked_and_found_by_name() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    build_as_documented(folder.path(), "libzscore_c.so");
    let library = folder.path().join("libzscore_c.so").display().to_string();

    let explained = pipeline().args(["stages", "--plugins", &library, "detector.zscore_c"]).start().wait().await;
    explained.assert_code(0);
    assert!(explained.stdout.contains("How many standard deviations make an anomaly."), "{}", explained.stdout);
    let schema = pipeline().args(["schema", "--plugins", &library]).start().wait().await;
    schema.assert_code(0);
    assert!(schema.stdout.contains("zscore_c"), "{}", schema.stdout);

    let path = file(&motes, folder.path(), "zscore_c");
    let search = folder.path().display().to_string();
    let valid = pipeline().args(["validate", &path, "--plugin-path", &search]).start().wait().await;
    valid.assert_code(0);
    let valid = pipeline().args(["validate", &path]).env("PIPELINE_PLUGIN_PATH", &search).start().wait().await;
    valid.assert_code(0);
    let wrong = ["validate", &path, "--plugin-path", &search, "--set", "detectors.spikes.windw=7"];
    let wrong = pipeline().args(wrong).start().wait().await;
    wrong.assert_code(2);
    assert!(wrong.stderr.contains("unknown option `windw`"), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("did you mean `window`?"), "{}", wrong.stderr);
}

/// Compiles C with the header of this repository.
fn build_c(source: &Path, library: &Path, more: &[&str]) {
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-shared", "-fPIC", "-I"]).arg(repository().join("engine/abi/include")).args(more);
    compile.arg(source).arg("-o").arg(library).arg("-lm");
    assert!(compile.status().expect("a C compiler is needed: on Debian, apt-get install gcc").success());
}

/// The documented detector, which does something else at the end of `observe`.
fn build_spoilt(folder: &Path, name: &str, instead: &str) {
    let source = std::fs::read_to_string(repository().join("plugins/example-c/zscore.c")).unwrap();
    let last_line = "  int32_t has_score = score_of(zscore, past, reading->value, score);\n";
    let spoilt = source.replace(last_line, &format!("{last_line}  {instead}\n"));
    assert_ne!(spoilt, source);
    std::fs::write(folder.join("spoilt.c"), spoilt).unwrap();
    build_c(&folder.join("spoilt.c"), &folder.join(name), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_comes_back_is_told_and_a_stop_still_works() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    build_spoilt(folder.path(), "libhangs.so", "for (volatile int i = 0;; i++) {}");
    let path = file(&motes, folder.path(), "./libhangs.so");
    assert_is_told_and_stops(&path, "spikes").await;
}

/// Runs a pipeline of which a stage hangs: it is named, and two interrupts end the process.
async fn assert_is_told_and_stops(file: &str, stage: &str) {
    let told = format!("{stage}: a call into its plugin has not come back");
    let mut running = pipeline().args(["run", file, "--once"]).start();
    running.wait_for_line(&format!("{told} for 5 s"), Duration::from_secs(60)).await;
    running.interrupt();
    running.wait_for_line("stopping:", Duration::from_secs(60)).await;
    running.interrupt();
    let finished = running.wait().await;
    finished.assert_code(1);
    assert!(finished.stderr.contains(&told), "{}", finished.stderr);
    assert!(finished.stderr.contains("stopped at once"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_or_a_commit_that_never_comes_back_is_told_and_a_stop_still_works() {
    let source = repository().join("engine/abi/tests/c/hostile_io.c");
    for (case, stage) in [("READ_HANGS", "counts"), ("COMMIT_HANGS", "sums")] {
        let folder = tempfile::tempdir().unwrap();
        build_c(&source, &folder.path().join("libhangs.so"), &["-std=gnu99", &format!("-DCASE_{case}")]);
        let text = "name: hanging
state: state
plugins: [./libhangs.so]
sources: { counts: { type: numbers } }
sinks: { sums: { type: total, inputs: [counts] } }
";
        let path = folder.path().join("hanging.yaml");
        std::fs::write(&path, text).unwrap();
        assert_is_told_and_stops(&path.display().to_string(), stage).await;
    }
}

/// The number of the signal that `abort` is.
const ABORTED: i32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_library_aborts_is_gone_on_with_from_its_last_commit() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let path = file(&motes, folder.path(), "./libzscore_c.so");
    let database = folder.path().join("iot.db");
    for part in 1..=2 {
        // Slow, so that something is committed before.
        let slow = "for (volatile int i = 0; i < 20000; i++) {}";
        let abort = format!("static long n; {slow} if (++n == {}) abort();", motes.rows * part / 4);
        build_spoilt(folder.path(), "libzscore_c.so", &abort);
        let aborted = pipeline().args(["run", &path, "--once"]).start().wait().await;
        assert_eq!(aborted.signal, Some(ABORTED), "{}", aborted.stderr);
    }
    let before = rows_in(&database).await as usize;
    assert!(0 < before && before < motes.rows, "{before} rows were committed before");
    build_as_documented(folder.path(), "libzscore_c.so");
    let finished = pipeline().args(["run", &path, "--once"]).start().wait().await;
    finished.assert_code(0);
    assert_eq!(rows_in(&database).await as usize, motes.rows);
    motes.assert_same(&anomalies_in(&database).await);
}
