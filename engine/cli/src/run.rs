//! `pipeline run`: runs a pipeline until its sources are over or somebody says stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use pipeline_dashboard::{Server, Watched};
use pipeline_runtime::plan::{Plan, Promise, RunSettings, load};
use pipeline_runtime::run::{Partitions, Progress, Run, RunEnd, Snapshot, Summary};
use pipeline_stage::{Delivery, ErrorKind, Kind, Registry, StageError};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

use crate::args::PipelineArgs;
use crate::books::{clock, grouped, span, table};
use crate::dashboard::{self, DashboardArg};
use crate::screen::{LogFormat, Screen};
use crate::traces::Traces;
use crate::{FAILED, GlobalArgs, WRONG, complain};

/// Run a pipeline
///
/// Reads from the sources, and writes to the sinks until the sources are over or you press Ctrl-C. A stop commits what
/// was read and saves the state, so that the next run goes on where this one ended; a second Ctrl-C stops at once, and
/// the next run makes up for it. Nothing is lost or repeated either way.
///
/// Data goes to standard output, everything else to standard error.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// End when everything that is there now is read, and the outboxes are empty
    #[arg(long)]
    once: bool,
    /// Begin anew where the state of this pipeline is missing or does not fit its output
    #[arg(long)]
    cold_start: bool,
    /// Compute the state of a stage again from the oldest rows there are, because the file has changed so that it cannot
    /// be taken up; may be given several times
    #[arg(long, value_name = "STAGE")]
    rebuild: Vec<String>,
    /// Where the dashboard, `/metrics` and `/health` are: an address like 127.0.0.1:8080, or `off`. Without it, port 8080
    /// of this machine alone, or the next one that is free. On an address that others can reach a token is needed:
    /// PIPELINE_DASHBOARD_TOKEN, and PIPELINE_ADMIN_TOKEN for what changes something
    #[arg(long, value_name = "ADDR|off")]
    dashboard: Option<DashboardArg>,
    /// Send traces of epochs, stage calls and commits to an OpenTelemetry collector, by OTLP over HTTP:
    /// http://localhost:4318. Without it, to OTEL_EXPORTER_OTLP_ENDPOINT if that is set
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

/// How often the progress line changes.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How often progress is logged when nobody looks at a terminal.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn run(args: &RunArgs, global: &GlobalArgs, registry: Arc<Registry>) -> ExitCode {
    let screen = Screen::new(global.log);
    let collector = args.otlp.clone().or_else(|| std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok());
    let traces = match collector.map(|collector| Traces::to(&collector)).transpose() {
        Ok(traces) => traces,
        Err(error) => {
            complain(&format!("error: {}", error.chain()));
            return ExitCode::from(WRONG);
        }
    };
    screen.start_logs(global.level(), traces.as_ref().map(Traces::tracer));
    let (plan, report) = match load(&args.pipeline.file, &args.pipeline.overlay.load_options(), &registry) {
        Ok(loaded) => loaded,
        Err(report) => {
            screen.report(&report);
            return ExitCode::from(WRONG);
        }
    };
    if !report.is_empty() {
        screen.report(&report);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&StageError::fatal("the async runtime cannot be started").because(error)),
    };
    let settings = RunSettings {
        once: args.once,
        cold_start: args.cold_start,
        rebuild: args.rebuild.clone(),
        catches_up: false,
        console: screen.console(),
    };
    let code = match runtime.block_on(supervise(Arc::new(plan), settings, args.dashboard, &screen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.clear();
            failed(&error)
        }
    };
    // A thread that hangs in a foreign library must not hold up the end: everything is committed.
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(traces);
    code
}

fn failed(error: &StageError) -> ExitCode {
    error!("{}", error.chain());
    ExitCode::from(if error.kind() == ErrorKind::Config { WRONG } else { FAILED })
}

async fn supervise(
    plan: Arc<Plan>,
    settings: RunSettings,
    dashboard: Option<DashboardArg>,
    screen: &Screen,
) -> Result<(), StageError> {
    let mut stop = listen_for_stop(screen.clone())?;
    let server = dashboard::bind(dashboard)?;
    let run = tokio::select! {
        biased;
        run = Run::prepare(plan.clone(), settings) => run?,
        // The state may be out of reach: nothing is read yet, so there is nothing to end in good order.
        _ = stop.wait_for(|stop| *stop) => {
            screen.say("stopped before anything was read");
            return Ok(());
        }
    };
    let url = server.as_ref().map(Server::url);
    opening(&plan, &run, url.as_deref()).iter().for_each(|line| screen.say(line));
    dashboard::note(run.store().as_ref(), url.as_deref()).await;
    let _serving = server.map(|server| server.serve(Watched::new(plan.clone(), &run))).transpose()?;
    let progress = run.progress();
    let show = tokio::spawn(show_progress(plan.clone(), progress, screen.clone()));
    let ended = run.run(stop).await;
    show.abort();
    screen.clear();
    let summary = ended?;
    match screen.log() {
        LogFormat::Text => closing(&plan, &summary).iter().for_each(|line| screen.say(line)),
        LogFormat::Json => log_books(&plan, &summary),
    }
    match summary.end {
        RunEnd::Uncommitted => Err(StageError::fatal("a sink did not answer before the end")),
        RunEnd::Complete | RunEnd::Told => Ok(()),
    }
}

/// How long an orderly stop may take: what the engine allows itself, and some.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// The first signal asks for an orderly stop, the second ends the process. Both are listened for from here on, by a
/// thread of its own: a plugin whose calls do not come back may hold all threads of the engine.
fn listen_for_stop(screen: Screen) -> Result<watch::Receiver<bool>, StageError> {
    let (stop, stopped) = watch::channel(false);
    let (told, answer) = std::sync::mpsc::channel();
    let cannot = |error| StageError::fatal("signals cannot be listened for").because(error);
    let listen = move || match Signals::listen() {
        Ok((runtime, signals)) => {
            let _ = told.send(Ok(()));
            runtime.block_on(obey(signals, &screen, &stop));
        }
        Err(error) => drop(told.send(Err(error))),
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(cannot)?;
    answer.recv().unwrap_or_else(|_| Err(std::io::Error::other("their thread has ended"))).map_err(cannot)?;
    Ok(stopped)
}

struct Signals {
    interrupts: Signal,
    terminations: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<(Runtime, Self)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listening = runtime.enter();
        let signals =
            Signals { interrupts: signal(SignalKind::interrupt())?, terminations: signal(SignalKind::terminate())? };
        drop(listening);
        Ok((runtime, signals))
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.interrupts.recv() => {} _ = self.terminations.recv() => {} }
    }
}

async fn obey(mut signals: Signals, screen: &Screen, stop: &watch::Sender<bool>) {
    signals.next().await;
    screen.say("stopping: the epoch is ended and committed (30 s at most); once more stops at once");
    stop.send_replace(true);
    let is_told_again = tokio::time::timeout(STOP_WITHIN, signals.next()).await.is_ok();
    screen.clear();
    for stage in pipeline_blocking::stuck() {
        screen.say(&format!("{stage}: a call into its plugin has not come back"));
    }
    screen.say(match is_told_again {
        true => "stopped at once; the next run makes up for what was not committed",
        false => "stopped though not all is committed; the next run makes up for it",
    });
    std::process::exit(i32::from(FAILED));
}

/// What is said before the first row.
fn opening(plan: &Plan, run: &Run, dashboard: Option<&str>) -> Vec<String> {
    let count = |kind: Kind| plan.stages.iter().filter(|stage| stage.kind == kind).count();
    let kinds = Kind::ALL.into_iter().filter(|kind| 0 < count(*kind));
    let parts: Vec<String> = kinds.map(|kind| counted(count(kind) as u64, kind.name())).collect();
    let with = |wanted: &dyn Fn(Promise) -> bool| -> Vec<&str> {
        let sinks = plan.stages.iter().filter(|stage| stage.promise.is_some_and(wanted));
        sinks.map(|stage| stage.id.as_str()).collect()
    };
    let exact = with(&|promise| !matches!(promise, Promise::Outbox | Promise::Epochs(Delivery::AtLeastOnce)));
    let screen = with(&|promise| promise == Promise::Epochs(Delivery::AtLeastOnce));
    let outbox = with(&|promise| promise == Promise::Outbox);
    let mut line = format!("{} · {}", plan.settings.name, parts.join(" → "));
    for (words, sinks) in [("exactly once into", exact), ("at least once to", screen), ("by outbox to", outbox)] {
        if !sinks.is_empty() {
            line.push_str(&format!(" · {words} {}", sinks.join(", ")));
        }
    }
    let new = if run.is_new() { " (new)" } else { "" };
    let dashboard = dashboard.map(|url| format!("dashboard  {url}"));
    [line].into_iter().chain(dashboard).chain([format!("state      {}{new}", run.place())]).collect()
}

/// `1 alert`, `4,120 alerts`.
fn counted(count: u64, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{} {name}s", grouped(count)) }
}

async fn show_progress(plan: Arc<Plan>, progress: Arc<Progress>, screen: Screen) {
    let began = Instant::now();
    let every = if screen.is_live() { SHOW_EVERY } else { LOG_EVERY };
    let (mut rate, mut before) = (0.0, (began, 0));
    loop {
        tokio::time::sleep(every).await;
        let now = progress.snapshot();
        let elapsed = before.0.elapsed().as_secs_f64();
        if 1.0 <= elapsed {
            rate = (now.read - before.1) as f64 / elapsed;
            before = (Instant::now(), now.read);
        }
        let line = progress_line(&plan, &now, rate);
        if screen.is_live() {
            screen.show(format!("{line}        ↑ {}   (Ctrl-C stops)", clock(began.elapsed())));
        } else {
            info!("{line}");
        }
    }
}

/// `readings 4,120 · 200/s · anomalies 187 · lag 0 · dead letters 0`, with a bar when the end is known.
fn progress_line(plan: &Plan, now: &Snapshot, rate: f64) -> String {
    let dead: u64 = now.stages.iter().map(|stage| stage.dead).sum();
    let source = plan.leader().map_or("rows", |(source, _)| &plan.stages[source].id);
    let mut line = format!("{source} {} · {}/s", grouped(now.read), grouped(rate as u64));
    if let Some(partitions) = now.partitions {
        line.push_str(&format!(" · {}", counted(partitions.owned as u64, "partition")));
    }
    line.push_str(&format!(" · anomalies {}", grouped(now.anomalies)));
    if let Some(lag) = now.lag {
        line.push_str(&format!(" · lag {}", grouped(lag.left)));
        if 0 < lag.at_start && lag.left <= lag.at_start {
            let done = 1.0 - lag.left as f64 / lag.at_start as f64;
            let full = (done * 20.0) as usize;
            line.push_str(&format!(" {}{} {:.0} %", "█".repeat(full), "░".repeat(20 - full), done * 100.0));
        }
    }
    line.push_str(&format!(" · dead letters {}", grouped(dead)));
    line
}

/// What is said when it has ended.
fn closing(plan: &Plan, summary: &Summary) -> Vec<String> {
    let took = span(summary.took);
    let first = match summary.end {
        RunEnd::Complete => format!("done after {took}; everything there was is read and committed"),
        RunEnd::Told => format!("stopped after {took} at your request; everything read is committed"),
        RunEnd::Uncommitted => format!("stopped after {took}, but not all is committed: the next run makes up for it"),
    };
    let mut lines = vec![first, String::new(), table(plan, &summary.progress.stages)];
    if let Some(Partitions { owned, gained, given_up }) = summary.progress.partitions {
        let owned = counted(owned as u64, "partition");
        lines.push(format!("  {owned} at the end; {gained} gained and {given_up} given up while it ran"));
    }
    for (sink, waiting) in &summary.waiting {
        lines.push(format!(
            "  {} in the outbox of {sink}; the next run delivers what waits",
            counted(*waiting, "alert")
        ));
    }
    let dead: u64 = summary.progress.stages.iter().map(|stage| stage.dead).sum();
    if 0 < dead {
        lines.push(format!("  {}; see `pipeline dead-letters FILE list`", counted(dead, "dead letter")));
    }
    lines
}

fn log_books(plan: &Plan, summary: &Summary) {
    for (stage, counts) in plan.stages.iter().zip(&summary.progress.stages) {
        info!(
            stage = stage.id,
            rows_in = counts.rows_in,
            created = counts.created,
            out = counts.out,
            held = counts.held,
            filtered = counts.filtered,
            dead = counts.dead,
            late = counts.late,
            is_balanced = counts.is_balanced(),
            "books"
        );
    }
    if let Some(Partitions { owned, gained, given_up }) = summary.progress.partitions {
        info!(owned, gained, given_up, "partitions");
    }
    for (sink, waiting) in &summary.waiting {
        info!(sink, waiting, "outbox");
    }
    info!(end = ?summary.end, seconds = summary.took.as_secs_f64(), "ended");
}
