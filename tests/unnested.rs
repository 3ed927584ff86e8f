//! Documents become rows, each once over kills; those that do not fit are dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::production::pipeline;
use pipeline_services::{PipelineRun, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(120);
const DOCUMENTS: usize = 60_000;
const KILLS: usize = 3;

const PIPELINE: &str = "
name: weather
key: [sensor_id]
commit_every: 5ms
checkpoint_every: 100ms
sources:
  documents: { type: file, path: documents.jsonl, format: text, schema: { document: string } }
transforms:
  readings:
    type: unnest
    inputs: documents
    column: document
    columns:
      sensor_id: string
      metric_type: string
      value: float
      timestamp: { type: timestamp, from: dt }
    rows:
      - { sensor_id: '{name}-temp', metric_type: temperature, value: '{main.temp}' }
      - { sensor_id: '{name}-humidity', metric_type: humidity, value: '{main.humidity}' }
detectors:
  spikes: { type: zscore, inputs: readings, value: value, time: timestamp }
sinks:
  rows: { type: file, inputs: spikes, path: rows.jsonl }
";

/// One in a hundred has no humidity.
fn document(number: usize) -> String {
    let mut main = json!({ "temp": number as f64, "humidity": 60 });
    if number.is_multiple_of(100) {
        main.as_object_mut().expect("an object").shift_remove("humidity");
    }
    json!({ "name": format!("city-{}", number % 7), "main": main, "dt": 1_752_999_556 + number }).to_string()
}

fn run(folder: &TempDir, command: &str) -> PipelineRun {
    pipeline().args([command]).args([folder.path().join("weather.yaml")])
}

/// The rows that have come out, each with how often. A kill may leave a part of a line, which the next run cuts off.
fn rows(folder: &TempDir) -> BTreeMap<(String, String), usize> {
    let text = std::fs::read_to_string(folder.path().join("rows.jsonl")).unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let row: Value = serde_json::from_str(line).expect("a row");
        let of = |name: &str| row[name].as_str().expect("text").to_owned();
        *rows.entry((of("sensor_id"), of("timestamp"))).or_default() += 1;
    }
    rows
}

#[tokio::test]
async fn each_row_of_a_document_comes_once_over_kills_and_the_books_balance() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weather.yaml"), PIPELINE).unwrap();
    let documents: String = (0..DOCUMENTS).map(|number| document(number) + "\n").collect();
    std::fs::write(folder.path().join("documents.jsonl"), documents).unwrap();

    let size = || std::fs::metadata(folder.path().join("rows.jsonl")).map_or(0, |file| file.len());
    let mut killed_on_the_way = 0;
    for _ in 0..KILLS {
        let before = size();
        let running = run(&folder, "run").args(["--once"]).start();
        eventually(LONG, "rows that come out", async || before < size()).await;
        running.kill().await;
        killed_on_the_way += usize::from(rows(&folder).len() < 2 * DOCUMENTS * 99 / 100);
    }
    assert!(0 < killed_on_the_way, "it was through before the first kill");
    let finished = run(&folder, "run").args(["--once"]).start().wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();

    let all = rows(&folder);
    assert_eq!(all.len(), 2 * (DOCUMENTS - DOCUMENTS / 100));
    assert!(all.values().all(|count| *count == 1));
    let letters = run(&folder, "dead-letters").args(["list", "--limit", "1000"]).start().wait_with_timeout(LONG).await;
    let why = "column `value` (from `main.humidity`) is missing, it must be a number (or `nullable: true`)";
    assert_eq!(letters.stdout.matches(why).count(), DOCUMENTS / 100, "{}", letters.stdout);
}
