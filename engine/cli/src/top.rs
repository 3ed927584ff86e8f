//! `pipeline top`: how a running pipeline is, on one screen.

mod report;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use console::Term;
use pipeline_runtime::plan::Plan;
use pipeline_stage::{ErrorKind, Registry, Result, StageError};
use serde_json::{Value, json};

use crate::args::PipelineArgs;
use crate::print;
use crate::remote::{ConnectArgs, Event, Remote};
use report::report;

/// Show how a running pipeline is: rates, lag, series, commits, and the most unusual series
///
/// On a terminal it is drawn anew each second until Ctrl-C; elsewhere it is one report.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How the report looks
    #[arg(long, value_enum, default_value = "text")]
    format: TopFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How the report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TopFormat {
    /// Tables for people.
    Text,
    /// One report, as a JSON object.
    Json,
}

/// A report that is not drawn anew looks so many seconds for unusual series.
const LOOKS: usize = 3;
/// How long to wait before an engine that has gone is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs the command.
pub fn run(args: &TopArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        let is_live = args.format == TopFormat::Text && io::stdout().is_terminal();
        if !is_live {
            return once(plan, args).await;
        }
        let screen = Screen::begin();
        let ended = tokio::select! {
            ended = live(&screen, plan, args) => ended,
            told = tokio::signal::ctrl_c() => {
                told.map_err(|error| StageError::fatal("signals cannot be listened for").because(error))
            }
        };
        drop(screen);
        ended.map(|()| ExitCode::SUCCESS)
    })
}

/// What was told last.
struct Seen {
    url: String,
    name: String,
    pulse: Value,
    worst: Value,
}

impl Seen {
    fn new(remote: &Remote, plan: &Plan) -> Self {
        let (url, name) = (remote.url().to_owned(), plan.settings.name.clone());
        Seen { url, name, pulse: Value::Null, worst: json!([]) }
    }

    /// Takes in an event; true when it is time to show it.
    fn take(&mut self, event: Event) -> bool {
        match event.name.as_str() {
            "pulse" => self.pulse = event.data,
            "worst" => self.worst = event.data,
            _ => {}
        }
        event.name == "pulse"
    }
}

async fn once(plan: &Plan, args: &TopArgs) -> Result<ExitCode> {
    let remote = Remote::find(plan, &args.connect).await?;
    let mut events = remote.events("api/live", &[]).await?;
    let (mut seen, mut looks) = (Seen::new(&remote, plan), 0);
    while looks < LOOKS {
        match events.next().await? {
            Some(event) => looks += usize::from(seen.take(event)),
            None if looks == 0 => return Err(StageError::transient("the pipeline has just ended")),
            None => break,
        }
    }
    let Seen { url, name, pulse, worst } = &seen;
    print(&match args.format {
        TopFormat::Text => report(name, url, pulse, worst).join("\n"),
        TopFormat::Json => json!({ "pipeline": name, "url": url, "pulse": pulse, "worst": worst }).to_string(),
    });
    Ok(ExitCode::SUCCESS)
}

/// Draws until the screen is gone; while the engine is away, says so below what was seen last.
async fn live(screen: &Screen, plan: &Plan, args: &TopArgs) -> Result<()> {
    let mut lines = Vec::new();
    loop {
        let error = match Remote::find(plan, &args.connect).await {
            Ok(remote) => match watch(screen, &remote, plan, &mut lines).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(error) if lines.is_empty() => return Err(error),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::Transient && lines.is_empty() {
            return Err(error);
        }
        let told = lines.iter().cloned().chain([String::new(), format!("{}; waiting", error.chain())]);
        if screen.draw(&told.collect::<Vec<_>>()).is_err() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Draws until the screen is gone.
async fn watch(screen: &Screen, remote: &Remote, plan: &Plan, lines: &mut Vec<String>) -> Result<()> {
    let mut events = remote.events("api/live", &[]).await?;
    let mut seen = Seen::new(remote, plan);
    while let Some(event) = events.next().await? {
        if seen.take(event) {
            *lines = report(&seen.name, &seen.url, &seen.pulse, &seen.worst);
            if screen.draw(lines).is_err() {
                return Ok(());
            }
        }
    }
    Err(StageError::transient("the pipeline has ended"))
}

/// The terminal's second screen, without a cursor and without wrapped lines; the first one is back when it is dropped.
struct Screen(Term);

impl Screen {
    fn begin() -> Self {
        let screen = Screen(Term::stdout());
        // The first drawing finds out whether there is anybody to see it.
        let _ = screen.write("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l");
        screen
    }

    fn draw(&self, lines: &[String]) -> io::Result<()> {
        let (height, _) = self.0.size();
        let shown = lines.iter().take(height as usize).map(|line| format!("{line}\u{1b}[K"));
        self.write(&format!("\u{1b}[H{}\u{1b}[J", shown.collect::<Vec<_>>().join("\r\n")))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.write("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
    }
}
