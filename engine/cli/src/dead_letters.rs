//! `pipeline dead-letters`: rows that could not be processed, and another try for them.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::{Beside, DeadLetter, StateStore, open_beside};
use pipeline_stage::{Registry, Result, StageError, Timestamp, printable};
use serde_json::{Value, json};

use crate::args::PipelineArgs;
use crate::books::grouped;
use crate::{complain, print};

/// Show rows that could not be processed, or process them again
///
/// A row that cannot be decoded, processed or written becomes a dead letter: with its bytes, where it was read, the
/// stage that failed and the reason. After a fix they can be put through again; the ids of the rows stay the same.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
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
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
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
    ///
    /// One that does not fit the pipeline any more stays a dead letter, and its reason says why.
    Replay {
        /// Their numbers in the list; all, when none is given
        numbers: Vec<i64>,
    },
}

/// Runs the command.
pub fn run(args: &DeadLettersArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        act(plan, &args.action).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn act(plan: &Plan, action: &Action) -> Result<()> {
    let store = open_beside(&plan.state_location(), &plan.settings.name).await?;
    match action {
        Action::List { after, limit, json } => list(store.as_ref(), *after, *limit, *json).await,
        Action::Show { number } => show(store.as_ref(), *number).await,
        Action::Replay { numbers } => replay(store.as_ref(), numbers).await,
    }
}

async fn replay(store: &dyn StateStore, numbers: &[i64]) -> Result<()> {
    print(&match store.request_replay(numbers).await? {
        0 => "there are no dead letters".into(),
        1 => "1 dead letter is processed again: within seconds by a run under way, else by the next one".into(),
        requested => format!(
            "{} dead letters are processed again: within seconds by a run under way, else by the next one",
            grouped(requested)
        ),
    });
    Ok(())
}

/// Of a reason and of the bytes a line shows so many characters: enough to tell what it is.
const SHOWN_REASON: usize = 200;
const SHOWN_BYTES: usize = 60;

async fn list(store: &dyn StateStore, after: i64, limit: u32, as_json: bool) -> Result<()> {
    let mut letters = store.dead_letters(after, limit.saturating_add(1)).await?;
    let has_more = letters.len() > limit as usize;
    letters.truncate(limit as usize);
    if letters.is_empty() && !as_json {
        print(if after == 0 { "there are no dead letters" } else { "there are no further dead letters" });
    }
    for (number, letter) in &letters {
        match as_json {
            true => print(&as_object(*number, letter).to_string()),
            false => print(&as_line(*number, letter)),
        }
    }
    if has_more {
        let last = letters.last().map_or(after, |(number, _)| *number);
        complain(&format!("there are more: `--after {last}` goes on"));
    }
    Ok(())
}

/// `12  2025-07-20T08:19:16Z  readings  readings/0 offset 104233  no JSON: expected value · hello`.
fn as_line(number: i64, letter: &DeadLetter) -> String {
    let DeadLetter { row, reason, at, .. } = letter;
    let reason = printable(reason, SHOWN_REASON);
    let bytes = row.bytes.as_ref().map_or("a tombstone".into(), |bytes| {
        let begin = &bytes[..bytes.len().min(SHOWN_BYTES * MAX_CHARACTER_BYTES)];
        printable(&String::from_utf8_lossy(begin), SHOWN_BYTES)
    });
    format!("{number:>6}  {at}  {}  {} offset {}  {reason} · {bytes}", row.stage, row.place, row.offset)
}

/// Of UTF-8.
const MAX_CHARACTER_BYTES: usize = 4;

async fn show(store: &dyn StateStore, number: i64) -> Result<()> {
    let found = store.dead_letters(number.saturating_sub(1), 1).await?;
    let Some((_, letter)) = found.into_iter().find(|(found, _)| *found == number) else {
        return Err(StageError::config(format!("there is no dead letter {number}")));
    };
    let DeadLetter { row, task, epoch, reason, at } = &letter;
    let mut lines = vec![
        format!("stage   {}", row.stage),
        format!("reason  {}", printable(reason, usize::MAX)),
        format!("read    {}, offset {}, epoch {epoch} of task {task}", row.place, row.offset),
        format!("at      {at}"),
    ];
    lines.extend(row.beside.as_ref().map(|beside| format!("beside  {}", as_words(beside))));
    match &row.bytes {
        None => lines.push("bytes   none: a tombstone".into()),
        Some(bytes) => {
            lines.push(format!("bytes   {}", grouped(bytes.len() as u64)));
            lines.extend(String::from_utf8_lossy(bytes).split('\n').map(|line| printable(line, usize::MAX)));
        }
    }
    print(&lines.join("\n"));
    Ok(())
}

/// `topic iot-data-stream, partition 3, key sensor-04, written 2025-07-20T08:19:16Z`.
fn as_words(beside: &Beside) -> String {
    let text = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes), SHOWN_REASON);
    let mut words = format!("topic {}, partition {}", printable(&beside.topic, SHOWN_REASON), beside.partition);
    if let Some(key) = &beside.key {
        words.push_str(&format!(", key {}", text(key)));
    }
    if let Some(time) = beside.time {
        words.push_str(&format!(", written {time}"));
    }
    if let Some(header) = &beside.header {
        words.push_str(&format!(", header {}", text(header)));
    }
    words
}

/// `text` holds the bytes if they are UTF-8, `bytes` each of them otherwise; the same for the key.
fn as_object(number: i64, letter: &DeadLetter) -> Value {
    let DeadLetter { row, task, epoch, reason, at } = letter;
    let (text, bytes) = text_or_bytes(row.bytes.as_deref());
    let mut object = json!({
        "number": number, "stage": row.stage, "task": task, "place": row.place, "offset": row.offset,
        "epoch": epoch, "reason": reason, "at": at.to_rfc3339(), "text": text, "bytes": bytes,
    });
    if let Some(beside) = &row.beside {
        let (key, key_bytes) = text_or_bytes(beside.key.as_deref());
        let (header, header_bytes) = text_or_bytes(beside.header.as_deref());
        object["beside"] = json!({
            "topic": beside.topic, "partition": beside.partition, "key": key, "key_bytes": key_bytes,
            "time": beside.time.map(Timestamp::to_rfc3339), "header": header, "header_bytes": header_bytes,
        });
    }
    object
}

fn text_or_bytes(bytes: Option<&[u8]>) -> (Option<&str>, Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text), None),
        Some((bytes, Err(_))) => (None, Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use pipeline_runtime::store::StoredRow;

    use super::*;

    fn letter(bytes: Option<&[u8]>) -> DeadLetter {
        let row = StoredRow {
            stage: "readings".into(),
            place: "readings/0".into(),
            offset: 104_233,
            bytes: bytes.map(<[u8]>::to_vec),
            ..StoredRow::default()
        };
        DeadLetter { row, task: "0".into(), epoch: 3, reason: "no JSON".into(), at: Timestamp(1_752_999_556_000_000) }
    }

    #[test]
    fn a_line_shows_the_beginning_of_the_bytes() {
        let long = "é\n".repeat(100);
        for (bytes, end) in [
            (Some("hello\n\u{1b}[2J".as_bytes()), "hello\\n\\u{1b}[2J".to_string()),
            (Some(long.as_bytes()), format!("{}…", "é\\n".repeat(30))),
            (Some(&[0xff, b'x'][..]), "\u{fffd}x".into()),
            (None, "a tombstone".into()),
        ] {
            let line = as_line(12, &letter(bytes));
            let begin = "    12  2025-07-20T08:19:16Z  readings  readings/0 offset 104233  no JSON · ";
            assert_eq!(line, format!("{begin}{end}"));
        }
    }

    #[test]
    fn json_holds_text_or_each_byte() {
        let object = as_object(12, &letter(Some(b"hello")));
        assert_eq!((&object["text"], &object["bytes"], &object["number"]), (&json!("hello"), &Value::Null, &json!(12)));
        let object = as_object(12, &letter(Some(&[0xff])));
        assert_eq!((&object["text"], &object["bytes"]), (&Value::Null, &json!([255])));
    }
}
