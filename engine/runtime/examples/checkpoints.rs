//! What checkpoints cost: with many series and a steady stream, how far commits are apart, how large the store gets, and
//! how long a restart after a crash takes.
//!
//!     cargo run --release -p pipeline-runtime --example checkpoints -- [SERIES] [ROWS_PER_SECOND] [SECONDS]
//!
//! Without arguments: 1,000,000 series, 100,000 rows/s, 60 s. Every series gets a full window first. Prints lines of
//! `name value unit`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who measure")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline_runtime::file::LoadOptions;
use pipeline_runtime::plan::{Plan, RunSettings, load_text};
use pipeline_runtime::run::{Progress, Run};
use pipeline_runtime::store::tools::StateTools;
use pipeline_stage::Registry;
use tokio::sync::watch;
use tokio::time::sleep;

/// Readings that each series has had before anything is measured: as many as the window holds, on average.
const READINGS_BEFORE: u64 = 30;
/// How often is looked at the run.
const LOOK_EVERY: Duration = Duration::from_millis(2);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let series = arguments.next().unwrap_or(1_000_000);
    let rate = arguments.next().unwrap_or(100_000);
    let seconds = arguments.next().unwrap_or(60);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();

    let before = series * READINGS_BEFORE;
    let began = Instant::now();
    in_runtime(run_all(&plan(folder, series, &format!("unlimited, count: {before}"))));
    say("rows before", before, "rows");
    say("time for them", began.elapsed().as_secs_f64(), "s");

    let paced = plan(folder, series, &format!("{rate} per second"));
    let gaps = in_runtime(run_and_watch(&paced, folder, Duration::from_secs(seconds)));
    gaps.say();
    // Its runtime was dropped in the middle, as a crash does it.
    in_runtime(restart(&paced));

    let live = in_runtime(live_bytes(folder));
    say("live state", live / MB, "MB");
    say("largest store", gaps.largest_store / MB, "MB");
    say("store / live state", gaps.largest_store as f64 / live as f64, "");
}

/// Everything that was begun ends with it.
fn in_runtime<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = runtime.block_on(what);
    runtime.shutdown_timeout(Duration::from_secs(10));
    result
}

async fn run_all(plan: &Arc<Plan>) {
    let (_stop, stopped) = watch::channel(false);
    run(plan, true).await.run(stopped).await.unwrap();
}

async fn run_and_watch(plan: &Arc<Plan>, folder: &Path, time: Duration) -> Gaps {
    let run = run(plan, false).await;
    let progress = run.progress();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(run.run(stopped));
    let gaps = watch_commits(&progress, folder, time).await;
    assert!(!running.is_finished(), "it runs until it is dropped");
    // Told to stop only when nobody listens any more.
    std::mem::forget(stop);
    gaps
}

async fn restart(plan: &Arc<Plan>) {
    let began = Instant::now();
    let run = run(plan, false).await;
    let progress = run.progress();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(run.run(stopped));
    until(&progress, |progress| 0 < committed(progress)).await;
    say("restart to first commit", began.elapsed().as_secs_f64(), "s");
    say("rows computed again", progress.snapshot().replayed_rows, "rows");
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

const MB: u64 = 1_000_000;

fn plan(folder: &Path, series: u64, rate: &str) -> Arc<Plan> {
    let sensors = series.div_ceil(3);
    let text = format!(
        "
name: checkpoints
key: [sensor_id, metric_type]
state: state
sources:
  readings: {{ type: simulator, sensors: {sensors}, rate: {rate} }}
detectors:
  spikes: {{ type: zscore, inputs: readings, value: value, window: 30, max_series: 10000000 }}
sinks:
  nowhere: {{ type: discard, inputs: spikes }}
"
    );
    let mut registry = Registry::default();
    pipeline_builtin::stages().into_iter().for_each(|stage| registry.add(stage).unwrap());
    let loaded = load_text("checkpoints.yaml", &text, folder, &LoadOptions::default(), &Arc::new(registry));
    Arc::new(loaded.map_err(|report| report.render(false)).unwrap().0)
}

async fn run(plan: &Arc<Plan>, once: bool) -> Run {
    let settings = RunSettings { once, ..RunSettings::default() };
    Run::prepare(plan.clone(), settings).await.unwrap()
}

/// Rows that are committed.
fn committed(progress: &Progress) -> u64 {
    progress.snapshot().stages[0].rows_in
}

async fn until(progress: &Progress, is_so: impl Fn(&Progress) -> bool) {
    while !is_so(progress) {
        sleep(LOOK_EVERY).await;
    }
}

/// What was seen of a run.
struct Gaps {
    between_commits: Vec<Duration>,
    rows: u64,
    took: Duration,
    largest_store: u64,
}

impl Gaps {
    fn say(&self) {
        let mut gaps = self.between_commits.clone();
        gaps.sort_unstable();
        let at = |part: f64| gaps[((gaps.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        say("rows/s", self.rows as f64 / self.took.as_secs_f64(), "rows/s");
        say("commits", gaps.len() as u64, "");
        for (name, part) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("longest", 1.0)] {
            say(&format!("between commits, {name}"), at(part), "ms");
        }
    }
}

async fn watch_commits(progress: &Progress, folder: &Path, time: Duration) -> Gaps {
    // What comes before the first commit is the start.
    until(progress, |progress| 0 < committed(progress)).await;
    let (began, first) = (Instant::now(), committed(progress));
    let (mut last, mut at, mut largest_store) = (first, began, 0);
    let mut between_commits = Vec::new();
    while began.elapsed() < time {
        sleep(LOOK_EVERY).await;
        let now = committed(progress);
        if now != last {
            between_commits.push(at.elapsed());
            (last, at) = (now, Instant::now());
            largest_store = largest_store.max(size_of(&folder.join("state")));
        }
    }
    Gaps { between_commits, rows: last - first, took: began.elapsed(), largest_store }
}

fn size_of(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

async fn live_bytes(folder: &Path) -> u64 {
    let tools = StateTools::beside(folder.join("state").to_str().unwrap(), "checkpoints").await.unwrap();
    let mut bytes = 0;
    for task in tools.tasks().await.unwrap() {
        let state = tools.stage(&task, "spikes").await.unwrap();
        bytes += state.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    }
    bytes as u64
}

fn say(name: &str, value: impl Into<Figure>, unit: &str) {
    let value = value.into();
    println!("{name:<28} {:>14} {unit}", value.0);
}

struct Figure(String);

impl From<u64> for Figure {
    fn from(value: u64) -> Self {
        Figure(value.to_string())
    }
}

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Figure(format!("{value:.2}"))
    }
}
