//! `pipeline bench`: what a row costs, without the services that the file names.

use std::path::Path;

use pipeline_services::Finished;
use serde_json::Value;

use crate::production::{pipeline, repository};

async fn bench(file: &Path, args: &[&str]) -> Finished {
    let run = pipeline().args(["bench"]).args([file]).args(args).args(["--rounds", "2"]);
    // Nobody listens there.
    let run = run.env("DATABASE_URL", "postgres://127.0.0.1:1/none").env("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/");
    run.start().wait().await
}

fn json(finished: &Finished) -> Value {
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

#[tokio::test]
async fn each_stage_has_its_cost_though_no_service_is_there() {
    let file = repository().join("pipelines/iot.yaml");
    let args = ["--profile", "production", "--rows", "20000", "--series", "50", "--format", "json"];
    let cost = json(&bench(&file, &args).await);
    // A batch has 8,192 rows.
    assert_eq!((&cost["rows"], &cost["dead"], &cost["series"]), (&24_576.into(), &0.into(), &50.into()), "{cost}");
    let (source, detector) = (&cost["sources"][0], &cost["stages"][0]);
    assert_eq!((&source["id"], &detector["id"]), (&"readings".into(), &"spikes".into()));
    assert_eq!((&detector["rows"], &detector["series"]), (&24_576.into(), &50.into()), "{cost}");
    assert!(detector["state_bytes_per_series"].as_u64().is_some_and(|bytes| 300 < bytes), "{cost}");
    let number = |value: &Value| value.as_f64().unwrap();
    let parts = number(&source["ns_per_row"]) + number(&detector["ns_per_row"]);
    let all = parts + number(&cost["everything_else_ns_per_row"]);
    let together = number(&cost["ns_per_row"]);
    assert!(0.0 < parts && (all - together).abs() < 1.0, "{cost}");
    let spread = number(&cost["ns_per_row_fastest"])..=number(&cost["ns_per_row_slowest"]);
    assert!(spread.contains(&together), "{cost}");
}

#[tokio::test]
async fn columns_that_are_parts_of_a_topic_have_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    let text = "
name: plant
key: [hall, sensor]
sources:
  readings:
    type: mqtt
    url: mqtt://127.0.0.1:1
    topics: plant/+/+
    format: json
    schema: { hall: { meta: key, part: 2 }, sensor: { meta: key, part: 3, type: integer }, value: float }
detectors:
  spikes: { type: zscore, inputs: readings, value: value }
sinks:
  nowhere: { type: discard, inputs: spikes }
";
    std::fs::write(&file, text).unwrap();
    let cost = json(&bench(&file, &["--rows", "8192", "--series", "50", "--format", "json"]).await);
    assert_eq!((&cost["rows"], &cost["dead"], &cost["series"]), (&8_192.into(), &0.into(), &50.into()), "{cost}");
}

#[tokio::test]
async fn payloads_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = folder.path().join("payloads.jsonl");
    let good = r#"{"sensor_id": "a", "metric_type": "t", "value": 1.5, "timestamp": "2025-07-20T08:19:16Z"}"#;
    std::fs::write(&payloads, format!("{good}\n\n{good}\nbroken\n{good}\n")).unwrap();
    let file = repository().join("pipelines/iot.yaml");
    let from = ["--profile", "production", "--rows", "400", "--from", payloads.to_str().unwrap()];
    let cost = json(&bench(&file, &[&from[..], &["--format", "json"]].concat()).await);
    assert_eq!((&cost["rows"], &cost["dead"]), (&400.into(), &100.into()), "{cost}");

    let shown = bench(&file, &from).await;
    shown.assert_code(0);
    for words in ["400 rows", "readings", "decoding", "spikes", "1 series", "together", "100 rows became dead letters"]
    {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    std::fs::write(&payloads, "\n").unwrap();
    let empty = bench(&file, &from).await;
    empty.assert_code(2);
    assert!(empty.stderr.contains("has no payload, it must have one on each line"), "{}", empty.stderr);
}

#[tokio::test]
async fn a_key_of_one_column_has_as_many_series() {
    let file = repository().join("pipelines/iot.yaml");
    let args = ["--profile", "production", "--set", "key=[sensor_id]", "--rows", "20000", "--series", "70"];
    let cost = json(&bench(&file, &[&args[..], &["--format", "json"]].concat()).await);
    assert_eq!(cost["stages"][0]["series"], 70, "{cost}");
}
