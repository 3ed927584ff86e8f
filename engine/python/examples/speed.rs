//! How many rows a second a detector in Python takes, one process and one core, in batches of 8,192 rows:
//!
//! ```text
//! taskset -c 0 cargo run --release -p pipeline-python --example speed -- plugins/example-python/zscore.py zscore_np
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use pipeline_python::{Interpreter, Plugin};
use pipeline_stage::{Make, Output, Result, SavedState, StageError};
use pipeline_testkit::{Random, stage_context};
use serde_json::json;

const ROWS: usize = 8_192;
const N_BATCHES: usize = 120;
/// Windows fill up and memory is taken first.
const N_WARM_UP: usize = 80;

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, name] = arguments.as_slice() else {
        return Err(StageError::config("it takes the file of a plugin and the name of a detector"));
    };
    let plugin = Plugin::load(Path::new(file), Interpreter::find(None, Path::new("")), None)?;
    let stage = plugin.stages.into_iter().find(|stage| stage.name == *name);
    let stage = stage.ok_or_else(|| StageError::config(format!("there is no stage `{name}` in it")))?;
    let Make::Transform(make) = &stage.make else { return Err(StageError::config("it is no detector")) };
    for n_series in [10, 1_000, 10_000] {
        let batches = batches(n_series);
        let mut transform =
            make(json!({"value": "value"}), &stage_context(), &[batches[0].schema()], SavedState::default())?;
        let mut out = Output::default();
        let (mut start, mut used) = (Instant::now(), cpu_time());
        for (number, batch) in batches.iter().cycle().take(N_WARM_UP + N_BATCHES).enumerate() {
            if number == N_WARM_UP {
                (start, used) = (Instant::now(), cpu_time());
            }
            transform.process(0, batch, &mut out)?;
            out.take();
        }
        // On a machine that does other things, too, the time of the processors says more than that of the clock.
        let rows = N_BATCHES * ROWS;
        let nanos = [start.elapsed(), cpu_time().saturating_sub(used)].map(|time| time.as_nanos() as usize / rows);
        let [clock, cpu] =
            nanos.map(|nanos| format!("{nanos} ns for each row, {} rows/s", 1_000_000_000 / nanos.max(1)));
        println!("{name}, {n_series} series: {clock}; of processor time {cpu}");
    }
    Ok(())
}

/// What this process and those that it has started have used of the processors, in steps of 10 ms.
fn cpu_time() -> Duration {
    let mut ticks = 0;
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // The name of a program may hold spaces; it ends with the last bracket.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let number = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let me = u64::from(std::process::id());
        if number(1) == me || process.file_name().to_string_lossy() == me.to_string() {
            ticks += number(11) + number(12);
        }
    }
    Duration::from_millis(10 * ticks)
}

fn batches(n_series: usize) -> Vec<RecordBatch> {
    let mut random = Random::new(7);
    let mut batch = || {
        let series: Vec<usize> = (0..ROWS).map(|_| random.below(n_series)).collect();
        let sensors: StringArray = series.iter().map(|number| Some(format!("sensor-{number:05}"))).collect();
        let metrics: StringArray = series.iter().map(|_| Some("temperature")).collect();
        let values: Float64Array = series.iter().map(|number| Some(*number as f64 + random.fraction())).collect();
        let columns: [(&str, ArrayRef); 3] =
            [("sensor_id", Arc::new(sensors)), ("metric_type", Arc::new(metrics)), ("value", Arc::new(values))];
        RecordBatch::try_from_iter(columns).expect("three columns of one length")
    };
    (0..15).map(|_| batch()).collect()
}
