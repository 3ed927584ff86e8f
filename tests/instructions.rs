//! What a row costs in instructions, which is the same on every machine and at every load, unlike its time.
//!
//! They are counted by valgrind's callgrind in the test build: the counts are large, but they grow when the work does.
//! `tests/instructions.txt` has those of the last change that was meant to cost or save something;
//! `UPDATE_GOLDEN=1 cargo test -p pipeline-cli --test end_to_end -- instructions` writes it anew. Another compiler may
//! need other ones.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pipeline_services::PipelineRun;

use crate::production::repository;

/// Rows of a batch; they pass once to warm up and once to be measured.
const ROWS: u64 = 4_000;

/// valgrind is some fifty times slower, and not alone.
const LONG: Duration = Duration::from_secs(400);

/// By how much a count may differ from the written one: by chance it does by some thousandths, as hashes are seeded.
const TOLERANCE: f64 = 0.05;

/// What is counted: what it is called here, and its function, with all that it calls.
const COUNTED: [(&str, &str); 2] = [
    ("json_decode", "<pipeline_builtin::formats::json::Json as pipeline_stage::format::Format>::decode"),
    ("zscore_process", "<pipeline_stage::keyed::Keyed<D> as pipeline_stage::transform::Transform>::process"),
];

#[tokio::test]
async fn a_row_costs_no_more_instructions_than_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("callgrind.out");
    let payloads = folder.path().join("payloads.jsonl");
    std::fs::write(&payloads, readings()).unwrap();
    let rows = ROWS.to_string();
    let run = PipelineRun::new("valgrind")
        .args(["--tool=callgrind".into(), format!("--callgrind-out-file={}", counts.display())])
        .args([env!("CARGO_BIN_EXE_pipeline"), "bench"])
        .args([repository().join("tests/bench/peers/pipeline/pipeline.yaml")])
        // Without anomalies: what they cost depends on the time that has passed.
        .args(["--rounds", "1", "--rows", &rows, "--set", "detectors.spikes.threshold=1000", "--from"])
        .args([&payloads]);
    run.start().wait_with_timeout(LONG).await.assert_code(0);
    let found = annotated(&counts);
    let found = COUNTED.map(|(name, function)| (name, per_row(&found, function)));

    let written = repository().join("tests/instructions.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let mut lines = String::from("# Instructions a row in the test build; see instructions.rs.\n");
        found.iter().for_each(|(name, count)| writeln!(lines, "{name} {count}").unwrap());
        std::fs::write(&written, lines).unwrap();
    }
    let written = std::fs::read_to_string(written).unwrap();
    for (name, count) in found {
        let line = written.lines().find_map(|line| line.strip_prefix(name)).expect("a count for each function");
        let right: f64 = line.trim().parse().unwrap();
        let ratio = count as f64 / right;
        assert!(
            (ratio - 1.0).abs() < TOLERANCE,
            "{name}: {count} instructions a row, {right} are written: {ratio:.3} of it"
        );
    }
}

/// Readings of 200 series, the same at every run.
fn readings() -> String {
    let reading = |row: u64| {
        let series = row * 7_919 % 200;
        let metric = ["temperature", "humidity", "pressure"][(series % 3) as usize];
        let value = 2_000 + row * 104_729 % 400;
        format!(
            "{{\"sensor_id\": \"sensor_{:04}\", \"metric_type\": \"{metric}\", \"value\": {}.{:02}, \
             \"timestamp\": \"2025-06-01T12:00:{:02}+00:00\"}}\n",
            series / 3,
            value / 100,
            value % 100,
            row / 1_000
        )
    };
    (0..ROWS).map(reading).collect()
}

/// Each function with the instructions that it and all that it calls took.
fn annotated(counts: &Path) -> String {
    let mut annotate = Command::new("callgrind_annotate");
    let annotated = annotate.args(["--inclusive=yes", "--threshold=100"]).arg(counts).output();
    let annotated = annotated.expect("callgrind_annotate is there, as valgrind is");
    assert!(annotated.status.success(), "{}", String::from_utf8_lossy(&annotated.stderr));
    String::from_utf8(annotated.stdout).unwrap()
}

/// From a line like `  1,234,567 (12.3%)  file:function [binary]`.
fn per_row(annotated: &str, function: &str) -> u64 {
    let line = annotated.lines().find(|line| line.contains(&format!(":{function} ")));
    let line = line.unwrap_or_else(|| panic!("`{function}` was not called, or is called otherwise now"));
    let count: String = line.split_whitespace().next().unwrap().chars().filter(char::is_ascii_digit).collect();
    count.parse::<u64>().unwrap() / (2 * ROWS)
}
