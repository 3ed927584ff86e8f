//! The terminal: data on standard output, everything else on standard error, and one line that shows progress.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use opentelemetry_sdk::trace::SdkTracer;
use pipeline_runtime::diagnostics::Report;
use pipeline_stage::Console;
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::print_report;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Standard output and standard error with the progress line between them.
#[derive(Clone)]
pub struct Screen {
    bar: ProgressBar,
    log: LogFormat,
}

impl Screen {
    /// With a progress line only if a person is looking and wants text.
    pub fn new(log: LogFormat) -> Self {
        let is_live = io::stderr().is_terminal() && log == LogFormat::Text;
        let target = if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("  {wide_msg}").expect("the template is right"));
        Screen { bar, log }
    }

    /// Sends log lines to standard error, and spans to a collector, if there is one.
    pub fn start_logs(&self, level: LevelFilter, tracer: Option<SdkTracer>) {
        let lines = tracing_subscriber::fmt::layer().with_writer(LogWriter(self.clone()));
        let lines = match self.log {
            LogFormat::Json => lines.json().boxed(),
            LogFormat::Text => {
                let is_colored = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                lines.with_target(false).with_ansi(is_colored).boxed()
            }
        };
        // What sqlx says of a lost connection is said in our words, too.
        let of_sqlx = if level < LevelFilter::DEBUG { LevelFilter::OFF } else { level };
        let targets = Targets::new().with_default(level).with_target("sqlx", of_sqlx);
        // Spans are for traces: a line says itself what it is about.
        let lines = lines.with_filter(targets.and(filter_fn(|metadata| metadata.is_event())));
        let traces = tracer.map(|tracer| {
            let ours = Targets::new().with_target("pipeline_runtime", LevelFilter::TRACE);
            let spans = filter_fn(|metadata| metadata.is_span());
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours.and(spans))
        });
        tracing_subscriber::registry().with(traces).with(lines).init();
    }

    /// Whether the progress line is shown.
    pub fn is_live(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Changes the progress line.
    pub fn show(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Takes the progress line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// How log lines look.
    pub fn log(&self) -> LogFormat {
        self.log
    }

    /// Writes a line for people to standard error, above the progress line; among JSON it is a log line.
    pub fn say(&self, line: &str) {
        match self.log {
            // Nobody can be told that standard error is closed.
            LogFormat::Text => drop(self.bar.suspend(|| writeln!(io::stderr(), "{line}"))),
            LogFormat::Json => info!("{line}"),
        }
    }

    /// Says what is to be said about the pipeline file.
    pub fn report(&self, report: &Report) {
        match (self.log, report.has_errors()) {
            (LogFormat::Text, _) => print_report(report),
            (LogFormat::Json, false) => warn!("{}", report.render(false).trim_end()),
            (LogFormat::Json, true) => error!("{}", report.render(false).trim_end()),
        }
    }

    /// Standard output for the stages.
    pub fn console(&self) -> Arc<dyn Console> {
        Arc::new(self.clone())
    }
}

impl Console for Screen {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(lines)?;
            out.flush()
        })
    }

    fn is_terminal(&self) -> bool {
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
    }
}

struct LogWriter(Screen);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line { screen: &self.0, bytes: Vec::new() }
    }
}

/// One log line, written whole so that it does not mix with the progress line.
struct Line<'a> {
    screen: &'a Screen,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let _ = self.screen.bar.suspend(|| io::stderr().write_all(&self.bytes));
    }
}
