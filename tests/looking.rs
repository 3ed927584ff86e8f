//! `pipeline top` and `pipeline tap` beside a pipeline that runs.

use std::path::Path;
use std::time::Duration;

use pipeline_services::{Finished, PipelineRun};
use serde_json::Value;

use crate::production::{pipeline, repository};
use crate::scraped::Dashboard;

const LONG: Duration = Duration::from_secs(60);

/// A command on `iot.yaml` in a world of the test's own.
fn command(folder: &Path, command: &str, args: &[&str]) -> PipelineRun {
    let file = repository().join("pipelines/iot.yaml");
    let command = pipeline().args([command]).args([file]).args(args.iter().copied());
    command.env("STATE", folder.join("state")).env("DATABASE", folder.join("iot.db"))
}

fn run(folder: &Path) -> PipelineRun {
    command(folder, "run", &["--dashboard", "127.0.0.1:0"])
}

async fn finished(command: PipelineRun) -> Finished {
    command.start().wait_with_timeout(LONG).await
}

#[tokio::test]
async fn top_finds_the_run_and_says_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(folder.path()).start();
    // Windows are full before anything is unusual.
    run.wait_for_line("ANOMALY", LONG).await;
    let report = finished(command(folder.path(), "top", &["--format", "json"])).await;
    report.assert_code(0);
    let report: Value = serde_json::from_str(&report.stdout).expect("one JSON object");
    let pulse = &report["pulse"];
    assert_eq!((&report["pipeline"], &pulse["is_balanced"]), (&"iot".into(), &true.into()));
    assert!(0.0 < pulse["rate"].as_f64().unwrap() && 0 < pulse["rows"].as_u64().unwrap(), "{pulse}");
    assert_eq!(pulse["stages"].as_array().map(Vec::len), Some(5));
    let worst = report["worst"].as_array().expect("a list");
    let scores: Vec<f64> = worst.iter().map(|series| series["score"].as_f64().expect("a score")).collect();
    assert!(2 <= scores.len() && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(worst[0]["key"][0], worst[0]["row"]["sensor_id"]);

    let report = finished(command(folder.path(), "top", &[])).await;
    report.assert_code(0);
    for words in ["All is well", "books balance", "spikes", "history", "in/s", "most unusual in the last minute"] {
        assert!(report.stdout.contains(words), "{words} in {}", report.stdout);
    }
    run.interrupt();
    run.wait_with_timeout(LONG).await.assert_code(0);
}

#[tokio::test]
async fn tap_shows_what_is_wanted_and_says_what_it_does_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(folder.path()).start();
    Dashboard::of(&mut run).await;
    let series = ["spikes", "--series", "sensor_id=sensor-01,metric_type=humidity"];
    let mut tap = command(folder.path(), "tap", &series).start();
    tap.wait_for_line("expected", LONG).await;
    tap.interrupt();
    let tap = tap.wait_with_timeout(LONG).await;
    tap.assert_code(0);
    for line in tap.stdout.lines() {
        assert!(line.contains("  sensor-01  humidity  "), "{line}");
    }

    let args = ["spikes", "--when", "is_anomaly", "--format", "json"];
    let mut tap = command(folder.path(), "tap", &args).start();
    tap.wait_for_line("\"z_score\"", LONG).await;
    tap.terminate();
    let tap = tap.wait_with_timeout(LONG).await;
    for line in tap.stdout.lines() {
        let row: Value = serde_json::from_str(line).expect("one JSON object a line");
        assert_eq!(row["is_anomaly"], true, "{line}");
    }

    let mut tap = command(folder.path(), "tap", &["readings", "--rate", "2"]).start();
    tap.wait_for_line("more rows are not shown", LONG).await;
    drop(tap);
    for (args, words) in [
        (vec!["nope"], "no stage is called `nope`; there is readings, spikes"),
        (vec!["spikes", "--when", "x >"], "`when`: "),
        (vec!["spikes", "--when", "y > 1"], "`y`"),
        (vec!["spikes", "--series", "x=1"], "there is no column `x`"),
        (vec!["spikes", "--series", "x"], "`--series`: `x` would be like `sensor_id=a`"),
        (vec!["spikes", "--connect", "there"], "`there` is no URL of a dashboard"),
    ] {
        let refused = finished(command(folder.path(), "tap", &args)).await;
        refused.assert_code(2);
        assert!(refused.stderr.contains(words), "{words} in {}", refused.stderr);
    }
    run.kill().await;
}

#[tokio::test]
async fn tap_goes_on_when_the_pipeline_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = run(folder.path()).start();
    Dashboard::of(&mut first).await;
    let mut tap = command(folder.path(), "tap", &["readings", "--rate", "5"]).start();
    tap.wait_for_line("sensor-", LONG).await;
    first.kill().await;
    tap.wait_for_line("waiting for its next run", LONG).await;
    let before = tap.stdout().lines().count();

    let mut second = run(folder.path()).start();
    let again = Dashboard::of(&mut second).await;
    let line = tap.wait_for_line("the pipeline runs again", LONG).await;
    assert!(line.contains(&again.url), "{line}");
    pipeline_services::eventually(LONG, "further rows", async || before < tap.stdout().lines().count()).await;
    tap.interrupt();
    tap.wait_with_timeout(LONG).await.assert_code(0);
    second.kill().await;
}

#[tokio::test]
async fn says_why_there_is_nothing_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let none = finished(command(folder.path(), "top", &[])).await;
    none.assert_code(1);
    assert!(none.stderr.contains("the pipeline has not run yet"), "{}", none.stderr);

    let mut without = command(folder.path(), "run", &["--dashboard", "off"]).start();
    without.wait_for_line("state  ", LONG).await;
    let refused = finished(command(folder.path(), "top", &[])).await;
    refused.assert_code(2);
    assert!(refused.stderr.contains("the last run has no dashboard"), "{}", refused.stderr);
    without.kill().await;

    let mut run = run(folder.path()).env("PIPELINE_DASHBOARD_TOKEN", "secret-2236").start();
    let dashboard = Dashboard::of(&mut run).await;
    let refused = finished(command(folder.path(), "top", &[])).await;
    refused.assert_code(2);
    assert!(refused.stderr.contains("set PIPELINE_DASHBOARD_TOKEN"), "{}", refused.stderr);
    let with_token = command(folder.path(), "top", &[]).env("PIPELINE_DASHBOARD_TOKEN", "secret-2236");
    finished(with_token.clone()).await.assert_code(0);
    let other = finished(with_token.args(["--set", "name=other", "--connect", &dashboard.url])).await;
    other.assert_code(2);
    assert!(other.stderr.contains("`iot` runs on http://127.0.0.1:"), "{}", other.stderr);
    run.kill().await;
    let gone = finished(command(folder.path(), "top", &[])).await;
    gone.assert_code(1);
    assert!(gone.stderr.contains("nothing answers on http://127.0.0.1:"), "{}", gone.stderr);
}
