//! Memory is allocated for batches, never for rows: on the way from a payload to a scored row, through two detectors and a
//! filter.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod engine;

use std::alloc::System;

use pipeline_runtime::bench::{BenchSettings, measure};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROWS: u64 = 100_000;

/// A batch has 8,192 rows, some twenty columns after two detectors, and a dozen allocations in each stage. Once a second
/// some rows are looked at for the metrics, which counts where few rows pass in a second.
const MOST_PER_ROW: f64 = 0.25;

/// Without anomalies: what each of them was judged by is kept, for a limited number a second.
const PIPELINE: &str = "
name: test
key: [sensor_id, metric_type]
sources:
  readings:
    type: file
    path: none.jsonl
    format: json
    schema: { sensor_id: string, metric_type: string, value: float, timestamp: timestamp }
detectors:
  spikes: { type: zscore, inputs: readings, value: value, time: timestamp, window: 30, threshold: 1000 }
  slow: { type: zscore, inputs: spikes, value: value, window: 100, threshold: 1000, prefix: slow_ }
sinks:
  all: { type: discard, inputs: slow }
  warm: { type: discard, inputs: slow, when: 22.5 < value }
";

/// How many allocations a row took in each round, once all series are known and their windows are full.
fn allocations_per_row(pipeline: &str) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let plan = engine::plan(pipeline, folder.path());
    let settings = BenchSettings { rows: ROWS, series: 500, payloads: None };
    let mut counts = Vec::new();
    measure(&plan, &settings, 4, |cost| {
        let stats = ALLOCATOR.stats();
        counts.push((stats.allocations + stats.reallocations, cost.rows));
    })
    .unwrap();
    counts.windows(2).map(|two| (two[1].0 - two[0].0) as f64 / two[1].1 as f64).collect()
}

#[test]
fn no_row_costs_an_allocation() {
    for per_row in allocations_per_row(PIPELINE) {
        assert!(0.0 < per_row && per_row < MOST_PER_ROW, "{per_row} allocations a row");
    }
}
