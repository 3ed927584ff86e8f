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

use pipeline_services::{PipelineRun, eventually};

use crate::production::repository;
use crate::scraped::{Dashboard, TEXT, sum};

/// Rows of a batch; they pass once to warm up and once to be measured.
const ROWS: u64 = 4_000;

/// valgrind is some fifty times slower, and not alone.
const LONG: Duration = Duration::from_secs(400);

/// By how much a count may differ from the written one: by chance it does by some thousandths, as hashes are seeded.
const TOLERANCE: f64 = 0.05;

/// Answers of `/metrics` that are counted, beside the few until all has come that they can say.
const ANSWERS: u64 = 100;

/// Something that is counted.
struct Counted {
    /// What it is called in the file.
    name: &'static str,
    /// Its functions, with all that they call.
    of: &'static [&'static str],
    /// What of that has a count of its own.
    without: &'static [&'static str],
}

const DECODE: &str = "<pipeline_builtin::formats::json::Json as pipeline_stage::format::Format>::decode";
const PROCESS: &str = "<pipeline_stage::keyed::Keyed<D> as pipeline_stage::transform::Transform>::process";
const WHEN: &str = "pipeline_runtime::run::compute::Compute::apply_when";
const READ: &str = "pipeline_runtime::run::compute::Compute::read";
const END_EPOCH: &str = "pipeline_runtime::run::compute::Compute::end_epoch";

/// These two are called once a second, however many rows there are.
const LOOK: &str = "pipeline_runtime::run::view::samples::Sampler::look";
const SAMPLE: &str = "pipeline_runtime::run::compute::Compute::sample";

/// What a row costs on its way.
const OF_A_ROW: [Counted; 4] = [
    Counted { name: "json_decode", of: &[DECODE], without: &[] },
    Counted { name: "zscore_process", of: &[PROCESS], without: &[] },
    // The expression, and taking out the rows for which it is not true.
    Counted { name: "when_of_a_sink", of: &[WHEN], without: &[] },
    // What is counted for the books and the metrics, the names of rows, and handing them on.
    Counted { name: "books_and_metrics", of: &[READ, END_EPOCH], without: &[PROCESS, WHEN, LOOK, SAMPLE] },
];

/// What somebody costs who looks.
const OF_AN_ANSWER: Counted =
    Counted { name: "metrics_answer", of: &["pipeline_dashboard::metrics::exposed"], without: &[] };

#[tokio::test]
async fn nothing_costs_more_instructions_than_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let mut found = of_a_row(folder.path()).await;
    found.push(of_an_answer(folder.path()).await);

    let written = repository().join("tests/instructions.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let mut lines =
            String::from("# Instructions of a row, and of one answer, in the test build; see instructions.rs.\n");
        found.iter().for_each(|(name, count)| writeln!(lines, "{name} {count}").unwrap());
        std::fs::write(&written, lines).unwrap();
    }
    let written = std::fs::read_to_string(written).unwrap();
    let mut wrong = String::new();
    for (name, count) in found {
        let line = written.lines().find_map(|line| line.strip_prefix(name)).expect("a count for each");
        let right: f64 = line.trim().parse().unwrap();
        let ratio = count as f64 / right;
        if TOLERANCE <= (ratio - 1.0).abs() {
            writeln!(wrong, "{name}: {count} instructions, {right} are written: {ratio:.3} of it").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A run under callgrind, which writes its counts to the file.
fn counting(counts: &Path) -> PipelineRun {
    PipelineRun::new("valgrind")
        .args(["--tool=callgrind".into(), format!("--callgrind-out-file={}", counts.display())])
        .args([env!("CARGO_BIN_EXE_pipeline")])
}

async fn of_a_row(folder: &Path) -> Vec<(&'static str, u64)> {
    let (counts, payloads) = (folder.join("row.out"), folder.join("payloads.jsonl"));
    std::fs::write(&payloads, readings()).unwrap();
    let run = counting(&counts)
        .args([Path::new("bench"), &repository().join("tests/bench/peers/pipeline/pipeline.yaml")])
        .args(["--rounds", "1", "--rows", &ROWS.to_string()])
        // Without anomalies: what they cost depends on the time that has passed. Every third row passes `when:`.
        .args(["--set", "detectors.spikes.threshold=1000", "--set", "sinks.found.when=22.7 < value"])
        .args([Path::new("--from"), &payloads]);
    run.start().wait_with_timeout(LONG).await.assert_code(0);
    let annotated = annotated(&counts);
    OF_A_ROW.iter().map(|counted| (counted.name, counted.found(&annotated) / (2 * ROWS))).collect()
}

async fn of_an_answer(folder: &Path) -> (&'static str, u64) {
    let counts = folder.join("answer.out");
    let mut run = counting(&counts)
        .args([Path::new("run"), &repository().join("pipelines/iot.yaml")])
        .args(["--dashboard", "127.0.0.1:0", "--set", "checkpoint_every=1s"])
        // Few series and no anomalies, so that the answer soon has as many lines as it will ever have.
        .args(["--set", "sources.readings.sensors=2", "--set", "detectors.spikes.threshold=1000"])
        .env("STATE", folder.join("state"))
        .env("DATABASE", folder.join("iot.db"))
        .start();
    let dashboard = Dashboard::of(&mut run).await;
    let mut n_answers = 0;
    eventually(LONG, "a checkpoint", async || {
        n_answers += 1;
        1.0 <= sum(&dashboard.scrape(TEXT).await, "pipeline_checkpoints_total")
    })
    .await;
    for _ in 0..ANSWERS {
        dashboard.scrape(TEXT).await;
    }
    n_answers += ANSWERS;
    run.interrupt();
    run.wait_with_timeout(LONG).await.assert_code(0);
    (OF_AN_ANSWER.name, OF_AN_ANSWER.found(&annotated(&counts)) / n_answers)
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

impl Counted {
    fn found(&self, annotated: &str) -> u64 {
        let sum = |functions: &[&str]| functions.iter().map(|function| instructions(annotated, function)).sum::<u64>();
        sum(self.of) - sum(self.without)
    }
}

/// From a line like `  1,234,567 (12.3%)  file:function [binary]`.
fn instructions(annotated: &str, function: &str) -> u64 {
    let line = annotated.lines().find(|line| line.contains(&format!(":{function} ")));
    let line = line.unwrap_or_else(|| panic!("`{function}` was not called, or is called otherwise now"));
    let count: String = line.split_whitespace().next().unwrap().chars().filter(char::is_ascii_digit).collect();
    count.parse().unwrap()
}
