//! `pipeline explain`: an alert's numbers computed again, whatever has become of the run and of the file since.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::exact::{from_file, id_in, query};
use crate::plugins::file_with;
use crate::production::{Motes, Production, number, pipeline};
use pipeline_services::{Finished, PipelineRun, Postgres, eventually};
use pipeline_testkit::python;

const LONG: Duration = Duration::from_secs(240);

/// Of the anomalies this many are explained, spread over all: each is a process of its own.
const EXPLAINED: usize = 30;

/// Small epochs and many checkpoints, so that a kill finds much done and much to do.
const SMALL_EPOCHS: [&str; 4] = ["--set", "commit_every=5ms", "--set", "checkpoint_every=100ms"];

/// What the console prints as JSON of an anomaly.
const AS_JSON: [&str; 2] = ["--set", "sinks.alerts.format=json"];

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Anomalies by id: what was killed may be shown twice.
fn anomalies(outputs: &[String]) -> BTreeMap<String, Value> {
    let all = outputs.iter().flat_map(|output| lines(output));
    all.map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect()
}

/// The z of the reference for an anomaly; several rows may look alike.
fn references(motes: &Motes, row: &Value) -> Vec<f64> {
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let time = text("timestamp").replace('Z', "+00:00");
    let key = (text("sensor_id"), text("metric_type"), number(&row["value"].to_string()), time);
    motes.anomalies.iter().filter(|anomaly| anomaly.row == key).map(|anomaly| anomaly.z).collect()
}

async fn explain(file: &Path, state: &str, args: &[&str]) -> Finished {
    let run = pipeline().args(["explain"]).args([file]).args(["--profile", "recorded"]).args(args);
    run.env("STATE", state).start().wait().await
}

/// Each of some anomalies gives the numbers of its alert, which are those of the reference.
async fn assert_explained(motes: &Motes, file: &Path, state: &str, found: &BTreeMap<String, Value>, args: &[&str]) {
    for (id, row) in found.iter().step_by(found.len().div_ceil(EXPLAINED)) {
        let finished = explain(file, state, &[&[id.as_str(), "--format", "json"], args].concat()).await;
        finished.assert_code(0);
        let explained: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(explained["again"]["is_same"], true, "{explained}");
        for column in ["value", "z_score", "score", "expected", "lower", "upper"] {
            assert_eq!(explained["again"]["row"][column], row[column], "{column} of {explained}");
        }
        let z = explained["again"]["row"]["z_score"].as_f64().unwrap();
        let is_reference = |reference: f64| (z - reference).abs() / reference < 1e-9;
        assert!(references(motes, row).into_iter().any(is_reference), "{row}");
        let window = &explained["window"];
        let (mean, deviation) = (window["mean"].as_f64().unwrap(), window["deviation"].as_f64().unwrap());
        let again = (row["value"].as_f64().unwrap() - mean).abs() / deviation;
        assert!((again - z).abs() / z < 1e-6, "{again} by the figures of the window, {z} by the detector");
        assert_eq!(explained["id"], Value::from(id.as_str()));
    }
}

/// Kills runs until one comes to its end; gives what they have printed, and how many were killed.
async fn run_with_kills(run: &PipelineRun) -> (Vec<String>, usize) {
    let (mut outputs, mut kills) = (Vec::new(), 0);
    loop {
        let mut running = run.start();
        let enough = 100 * (kills + 1);
        eventually(LONG, "anomalies before the kill, or the end", async || {
            !running.is_running() || (kills < 3 && enough <= running.stdout().lines().count())
        })
        .await;
        match running.is_running() {
            true => {
                let killed = running.kill().await;
                // The last line may be cut.
                let whole = killed.stdout.rfind('\n').map_or("", |end| &killed.stdout[..end]);
                outputs.push(whole.to_owned());
                kills += 1;
            }
            false => {
                let finished = running.wait().await;
                finished.assert_code(0);
                outputs.push(finished.stdout);
                return (outputs, kills);
            }
        }
    }
}

async fn explained_after_kills(state: &str, folder: &Path) {
    let motes = Motes::load();
    let run = from_file(&motes, folder).args(SMALL_EPOCHS).args(AS_JSON).env("DATABASE", folder.join("iot.db"));
    let (outputs, kills) = run_with_kills(&run.env("STATE", state)).await;
    assert!(0 < kills, "it was never killed");
    let found = anomalies(&outputs);
    assert_eq!(found.len(), motes.anomalies.len());
    let file = folder.join("iot.yaml");
    assert_explained(&motes, &file, state, &found, &[]).await;

    let listed =
        explain(&file, state, &["--series", "metric_type=humidity", "--format", "json", "--limit", "9999"]).await;
    let mut listed: Vec<String> =
        lines(&listed.stdout).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    listed.sort();
    let humid: Vec<String> =
        found.iter().filter(|(_, row)| row["metric_type"] == "humidity").map(|(id, _)| id.clone()).collect();
    assert_eq!(listed, humid, "each once, whatever was computed again");

    // Another rule by now, under which many were no anomalies.
    let other = ["--set", "detectors.spikes.window=90", "--set", "detectors.spikes.threshold=9"];
    assert_explained(&motes, &file, state, &found, &other).await;
    let (id, row) = found.first_key_value().unwrap();
    let said = explain(&file, state, &[&[&id[..9]], &other[..]].concat()).await;
    said.assert_code(0);
    for words in [
        row["sensor_id"].as_str().unwrap(),
        "readings before it: mean ",
        "is usual",
        "window 30, threshold 3.0",
        "in the file now `window` is 90, `threshold` is 9; the stored options count, they made the alert",
        "from      readings: partition 0, offset ",
        "delivered anomalies: committed with epoch ",
        &format!("computed again from the stored window: z_score {}, the same", row["z_score"]),
    ] {
        assert!(said.stdout.contains(words), "`{words}` is not in\n{}", said.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_explained_after_kills_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    explained_after_kills(folder.path().join("state").to_str().unwrap(), folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_explained_after_kills_from_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let database = Postgres::shared().await.create_database().await;
    explained_after_kills(database.url(), folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_in_slack_is_explained_while_the_pipeline_runs() {
    let motes = Motes::load();
    let production = Production::start(2).await;
    production.replay(&motes.file).await.assert_code(0);
    let running = production.run(&[]).start();
    eventually(LONG, "alerts", async || production.slack.requests().len() == motes.anomalies.len()).await;
    let message = production.slack.requests().last().unwrap().json().to_string();
    let id = id_in(&message);
    // That an alert was delivered is noted after the answer.
    let mut said = String::new();
    eventually(LONG, "the note that it was delivered", async || {
        let finished = production.command("explain", &[&id]).start().wait().await;
        finished.assert_code(0);
        said = finished.stdout;
        said.contains("alerts: delivered 20")
    })
    .await;
    let topic = format!("from      readings: {}, partition ", production.topic);
    for words in [&topic, "anomalies: ", "standard deviations", "the same"] {
        assert!(said.contains(words), "`{words}` is not in\n{said}");
    }
    assert!(!said.contains("history: "), "it reads from elsewhere\n{said}");
    running.interrupt();
    running.wait().await.assert_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_whose_evidence_is_damaged_or_missing_goes_on() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let run = from_file(&motes, folder.path()).args(AS_JSON).env("DATABASE", folder.path().join("iot.db"));
    let first = run.start().wait().await;
    first.assert_code(0);
    let id = lines(&first.stdout)[0]["id"].as_str().unwrap().to_owned();
    let last = lines(&first.stdout).pop().unwrap()["id"].as_str().unwrap().to_owned();
    let (file, place) = (folder.path().join("iot.yaml"), state.to_str().unwrap());

    let damage = "UPDATE pipeline_state_evidence SET series = 'oh'
                  WHERE number = (SELECT MIN(number) FROM pipeline_state_evidence)";
    query(&state.join("log.db"), damage).await;
    let said = explain(&file, place, &[&last]).await;
    said.assert_code(0);
    let words = "warning: row 1 of `pipeline_state_evidence` is damaged: ";
    assert!(said.stderr.starts_with(words), "{}", said.stderr);
    assert!(said.stdout.contains("the same"), "what is whole is explained\n{}", said.stdout);

    query(&state.join("log.db"), "DROP TABLE pipeline_state_evidence").await;
    let said = explain(&file, place, &[&id]).await;
    said.assert_code(2);
    let words = format!("error: no alert `{id}` is known in the state of `iot`\n  = there is no evidence yet");
    assert!(said.stderr.starts_with(&words), "{}", said.stderr);
    run.start().wait().await.assert_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detector_that_keeps_its_series_to_itself_is_said_to() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let example = crate::production::repository().join("plugins/example-python/zscore.py");
    std::fs::copy(example, folder.path().join("zscore.py")).unwrap();
    let path = file_with(&motes, folder.path(), "./zscore.py", "zscore_py");
    let run = pipeline().env("PIPELINE_PYTHON", python());
    let screen = "sinks.anomalies={ type: console, inputs: [spikes], when: is_anomaly, format: json }";
    let finished = run.args(["run", &path, "--once", "--set", screen]).start().wait_with_timeout(LONG).await;
    finished.assert_code(0);
    let row = lines(&finished.stdout).pop().unwrap();
    let id = row["id"].as_str().unwrap();
    let said = pipeline().env("PIPELINE_PYTHON", python()).args(["explain", &path, id]).start().wait().await;
    said.assert_code(1);
    for words in
        ["not computed again: its series are kept by a plugin, not by the engine", "standard deviations", "offset "]
    {
        assert!(said.stdout.contains(words), "`{words}` is not in\n{}", said.stdout);
    }
}
