//! `pipeline dead-letters`: rows that could not be processed, and another try for them.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pipeline_runtime::plan::{Plan, load};
use pipeline_runtime::store::{DeadLetter, StateStore, open_beside};
use pipeline_stage::{Registry, Result, StageError};
use serde_json::json;

use crate::args::PipelineArgs;
use crate::{FAILED, WRONG, complain, print, print_report};

/// Show rows that could not be processed, or process them again
///
/// A row that cannot be decoded, processed or written becomes a dead letter: with its bytes, where it was read, the
/// stage that failed and the reason. After a fix they can be put through again; the ids of the rows stay the same.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// One line for each, the oldest first
    List {
        /// Only those after this number
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: i64,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// All there is of one, with its bytes
    Show {
        /// Its number in the list
        number: i64,
    },
    /// Process them again: by the run that is under way, or else by the next
    Replay {
        /// Their numbers; all, when none is given
        numbers: Vec<i64>,
    },
}

/// Runs the command.
pub fn run(args: &DeadLettersArgs, registry: &Arc<Registry>) -> ExitCode {
    let plan = match load(&args.pipeline.file, &args.pipeline.overlay.load_options(), registry) {
        Ok((plan, _)) => plan,
        Err(report) => {
            print_report(&report);
            return ExitCode::from(WRONG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: the async runtime cannot be started: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    match runtime.block_on(act(&plan, &args.action)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {}", error.chain()));
            ExitCode::from(FAILED)
        }
    }
}

async fn act(plan: &Plan, action: &Action) -> Result<()> {
    let store = open_beside(&plan.state_location(), &plan.settings.name).await?;
    match action {
        Action::List { after, limit, json } => list(store.as_ref(), *after, *limit, *json).await,
        Action::Show { number } => show(store.as_ref(), *number).await,
        Action::Replay { numbers } => {
            let requested = store.request_replay(numbers).await?;
            if requested < numbers.len() as u64 {
                return Err(StageError::fatal(format!(
                    "only {requested} of these {} dead letters exist",
                    numbers.len()
                )));
            }
            print(&format!(
                "{requested} dead letters are processed again: within seconds by a run under way, else by the next one"
            ));
            Ok(())
        }
    }
}

async fn list(store: &dyn StateStore, after: i64, limit: u32, as_json: bool) -> Result<()> {
    let letters = store.dead_letters(after, limit).await?;
    if letters.is_empty() && !as_json {
        print("there are no dead letters");
    }
    for (number, letter) in &letters {
        match as_json {
            true => print(&as_object(*number, letter).to_string()),
            false => print(&format!(
                "{number:>6}  {}  {}  {} offset {}  {}",
                letter.at,
                letter.stage,
                letter.place,
                letter.offset,
                printable(&letter.reason)
            )),
        }
    }
    if letters.len() == limit as usize {
        let last = letters.last().map_or(after, |(number, _)| *number);
        complain(&format!("there may be more: `--after {last}` goes on"));
    }
    Ok(())
}

async fn show(store: &dyn StateStore, number: i64) -> Result<()> {
    let found = store.dead_letters(number - 1, 1).await?;
    let Some((_, letter)) = found.into_iter().find(|(found, _)| *found == number) else {
        return Err(StageError::fatal(format!("there is no dead letter {number}")));
    };
    let bytes = match &letter.bytes {
        None => "none: a tombstone".to_string(),
        Some(bytes) => format!("{}\n{}", bytes.len(), printable(&String::from_utf8_lossy(bytes))),
    };
    print(&format!(
        "stage   {}\nreason  {}\nread    {}, offset {}, epoch {} of task {}\nat      {}\nbytes   {bytes}",
        letter.stage,
        printable(&letter.reason),
        letter.place,
        letter.offset,
        letter.epoch,
        letter.task,
        letter.at
    ));
    Ok(())
}

/// `text` holds the bytes if they are UTF-8, `bytes` each of them otherwise.
fn as_object(number: i64, letter: &DeadLetter) -> serde_json::Value {
    let text = letter.bytes.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let bytes = if text.is_some() { None } else { letter.bytes.as_ref() };
    json!({
        "number": number, "stage": letter.stage, "task": letter.task, "place": letter.place, "offset": letter.offset,
        "epoch": letter.epoch, "reason": letter.reason, "at": letter.at.to_rfc3339(), "text": text, "bytes": bytes,
    })
}

/// Text from outside must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
