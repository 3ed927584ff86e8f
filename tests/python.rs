//! Stages in Python, run by the binary: exact though processes are killed, and heard of when they hang.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::exact::anomalies_in;
use crate::plugins::{file_with, rows_in};
use crate::production::{Motes, pipeline, repository};
use pipeline_services::{HttpReceiver, PipelineRun, eventually};
use pipeline_testkit::python;

/// The z-score of the example under another name, which notes its processes in a file and does more before each reading.
fn write_plugin(folder: &Path, before_each_reading: &str) {
    let text = format!(
        "import os, signal, sys, time
sys.path.insert(0, {example:?})
from zscore import ZscorePy

class Spikes(ZscorePy):
    '''Z-score that notes its processes.'''
    def setup(self):
        self.readings = 0
        self.pids = os.path.join(self.context.directory, 'pids')
        with open(self.pids, 'a') as pids:
            pids.write(f'{{os.getpid()}}\\n')
    def observe(self, series, reading):
        self.readings += 1
        {before_each_reading}
        return super().observe(series, reading)
",
        example = repository().join("plugins/example-python"),
    );
    std::fs::write(folder.join("spikes.py"), text).unwrap();
}

fn in_python() -> PipelineRun {
    pipeline().env("PIPELINE_PYTHON", python())
}

fn pids(folder: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(folder.join("pids")).unwrap_or_default();
    text.lines().map(|pid| Path::new("/proc").join(pid)).collect()
}

async fn all_have_ended(folder: &Path) {
    let pids = pids(folder);
    assert!(!pids.is_empty());
    eventually(Duration::from_secs(20), "the Python processes to end", async || {
        // A process that has ended stays as a zombie until its parent has looked.
        let ends = |pid: &PathBuf| {
            let status = std::fs::read_to_string(pid.join("status")).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        };
        pids.iter().all(ends)
    })
    .await;
}

/// Reads everything there is and compares it with an undisturbed run.
async fn assert_exact(motes: &Motes, folder: &Path) {
    let database = folder.join("iot.db");
    assert_eq!(rows_in(&database).await as usize, motes.rows);
    motes.assert_same(&anomalies_in(&database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_goes_on_from_its_checkpoint() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    // Killed like by hand, four times, each time after it has scored so many readings.
    let kill =
        "if self.readings == 6_000 and len(open(self.pids).readlines()) <= 5: os.kill(os.getpid(), signal.SIGKILL)";
    write_plugin(folder.path(), kill);
    let path = file_with(&motes, folder.path(), "./spikes.py", "spikes");
    let finished = in_python().args(["run", &path, "--once"]).start().wait().await;
    finished.assert_code(0);
    let restarts = finished.stderr.matches("it starts again from its checkpoint").count();
    assert!(3 <= restarts, "{restarts} restarts: {}", finished.stderr);
    assert!(finished.stderr.contains("spikes: the Python process has ended: it was ended by signal 9 (SIGKILL"));
    finished.assert_books_balance();
    assert_exact(&motes, folder.path()).await;
    all_have_ended(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_takes_its_processes_along() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    write_plugin(folder.path(), "time.sleep(2e-5)");
    let path = file_with(&motes, folder.path(), "./spikes.py", "spikes");
    let database = folder.path().join("iot.db");
    let mut kills = 0;
    for part in 1..=2 {
        let target = (motes.rows * part / 4) as i64;
        let mut running = in_python().args(["run", &path, "--once"]).start();
        eventually(Duration::from_secs(60), "rows before the kill", async || {
            !running.is_running() || (database.exists() && target <= rows_in(&database).await)
        })
        .await;
        if running.is_running() {
            running.kill().await;
            kills += 1;
            all_have_ended(folder.path()).await;
        }
    }
    assert!(0 < kills, "it was never killed");
    in_python().args(["run", &path, "--once"]).start().wait().await.assert_code(0);
    assert_exact(&motes, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_told_and_ends_with_the_engine() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    write_plugin(folder.path(), "while self.readings > 1_000: pass");
    let path = file_with(&motes, folder.path(), "./spikes.py", "spikes");
    let mut running = in_python().args(["run", &path, "--once"]).start();
    running.wait_for_line("spikes: a call into its plugin has not come back for 5 s", Duration::from_secs(60)).await;
    running.interrupt();
    running.wait_for_line("stopping:", Duration::from_secs(60)).await;
    running.interrupt();
    let finished = running.wait().await;
    finished.assert_code(1);
    assert!(finished.stderr.contains("stopped at once"), "{}", finished.stderr);
    all_have_ended(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_in_python_is_listed_checked_and_found_by_name() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let example = repository().join("plugins/example-python");
    let plugin = example.join("zscore.py").display().to_string();
    let explained = in_python().args(["stages", "--plugins", &plugin, "detector.zscore_np"]).start().wait().await;
    explained.assert_code(0);
    assert!(explained.stdout.contains("How many standard deviations make an anomaly."), "{}", explained.stdout);
    let listed = in_python().args(["stages", "--plugins", &plugin]).start().wait().await;
    assert!(listed.stdout.contains("(zscore.py)"), "{}", listed.stdout);
    let schema = in_python().args(["schema", "--plugins", &plugin]).start().wait().await;
    schema.assert_code(0);
    assert!(schema.stdout.contains("zscore_py"), "{}", schema.stdout);

    let path = file_with(&motes, folder.path(), "zscore", "zscore_py");
    let search = example.display().to_string();
    in_python().args(["validate", &path, "--plugin-path", &search]).start().wait().await.assert_code(0);
    in_python().args(["validate", &path]).env("PIPELINE_PLUGIN_PATH", &search).start().wait().await.assert_code(0);
    let wrong = ["validate", &path, "--plugin-path", &search, "--set", "detectors.spikes.windw=7"];
    let wrong = in_python().args(wrong).start().wait().await;
    wrong.assert_code(2);
    assert!(wrong.stderr.contains("unknown option `windw`"), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("did you mean `window`?"), "{}", wrong.stderr);
    let wrong = ["validate", &path, "--plugin-path", &search, "--set", "detectors.spikes.min_samples=31"];
    let wrong = in_python().args(wrong).start().wait().await;
    wrong.assert_code(2);
    assert!(wrong.stderr.contains("`min_samples` is 31, it must be at most `window`, 30"), "{}", wrong.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_an_environment_of_its_own() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(python().ancestors().nth(2).unwrap(), folder.path().join(".venv")).unwrap();
    let example = repository().join("plugins/example-python/zscore.py").display().to_string();
    let entry = |more: &str| format!("{{ path: {example}, {more} }}");
    let nothing = pipeline().env("PIPELINE_PYTHON", "/nowhere/python");
    let validate = async |entry: &str| {
        let path = file_with(&motes, folder.path(), entry, "zscore_np");
        nothing.clone().args(["validate", &path]).start().wait().await
    };
    validate(&entry("python: .venv/bin/python")).await.assert_code(0);
    let wrong = validate(&entry("replaces: false")).await;
    wrong.assert_code(2);
    assert!(wrong.stderr.contains("there is no Python `/nowhere/python`"), "{}", wrong.stderr);
    let sum = Command::new("sha256sum").arg(&example).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    validate(&entry(&format!("python: .venv/bin/python, sha256: {sum}"))).await.assert_code(0);
    let wrong = validate(&entry(&format!("python: .venv/bin/python, sha256: '{}'", "0".repeat(64)))).await;
    wrong.assert_code(2);
    assert!(wrong.stderr.contains(&format!("has the SHA-256 {sum}, not the one")), "{}", wrong.stderr);
}

/// The blocks of the documentation's section on Python, with their language.
fn documented() -> Vec<(String, String)> {
    let docs = std::fs::read_to_string(repository().join("docs/writing-a-plugin.md")).unwrap();
    let section = docs.split("\n## In Python\n").nth(1).expect("the docs have a section on Python");
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    blocks.map(|(language, text)| (language.to_owned(), text.to_owned())).collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_say_what_the_docs_say() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(python().ancestors().nth(2).unwrap(), folder.path().join(".venv")).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_pipeline")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let (mut said, mut n_checked) = (String::new(), 0);
    for (language, text) in documented() {
        match language.as_str() {
            "python" | "yaml" => {
                let name = text.lines().next().unwrap().strip_prefix("# ").expect("a file begins with its name");
                std::fs::write(folder.path().join(name), &text).unwrap();
            }
            "sh" if text.contains("pip install") => {}
            "sh" => {
                let mut shell = Command::new("sh");
                shell.args(["-ec", &text]).current_dir(folder.path()).env("PATH", &path);
                let output = shell.output().unwrap();
                said =
                    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                assert!(output.status.success(), "{text}{said}");
            }
            _ => {
                // How wide a column is depends on which rows come together.
                let said = words(&said);
                for line in text.lines() {
                    assert!(said.contains(&words(line)), "the docs show `{line}`, what is said is\n{said}");
                    n_checked += 1;
                }
            }
        }
    }
    assert!(15 < n_checked);
    // What the docs show without running it is right, too.
    let file = "name: other
plugins: [{ path: ./jumps.py, python: .venv/bin/python }, { path: ./celsius.py, python: .venv/bin/python }]
key: [sensor_id, metric_type]
sources: { readings: { type: simulator, rate: unlimited, count: 1000, start: \"2025-07-20T08:00:00Z\" } }
transforms: { colder: { type: celsius, inputs: [readings] } }
detectors:
  jumps: { type: fast_jump, inputs: [readings], value: value, limit: 35 }
  colder_jumps: { type: fast_jump, inputs: [colder], value: value, limit: 20 }
sinks: { screen: { type: console, inputs: [jumps, colder_jumps], when: is_anomaly } }
";
    std::fs::write(folder.path().join("other.yaml"), file).unwrap();
    let run = ["run", "other.yaml", "--once"];
    let finished = pipeline().args(run).current_dir(folder.path()).start().wait().await;
    finished.assert_code(0);
    let same = words(&finished.stdout).contains("31.82 distance 48.23 expected 80.05 ± 35.00 ANOMALY");
    assert!(same && finished.stderr.contains("books balance"), "{}{}", finished.stdout, finished.stderr);
    let receiver = HttpReceiver::start().await;
    let file = format!(
        "name: ringing
plugins: [{{ path: ./lines.py, python: .venv/bin/python }}, {{ path: ./bell.py, python: .venv/bin/python }}]
sources: {{ lines: {{ type: lines, path: bell.py }} }}
sinks: {{ bell: {{ type: bell, inputs: [lines], when: \"line like '%def %'\", url: '{}/{{id}}' }} }}
",
        receiver.url()
    );
    std::fs::write(folder.path().join("ringing.yaml"), file).unwrap();
    let run = ["run", "ringing.yaml", "--once"];
    let finished = pipeline().args(run).current_dir(folder.path()).start().wait().await;
    finished.assert_code(0);
    assert_eq!(receiver.requests().len(), 1, "{}", finished.stderr);
}
