//! What a Python process writes to standard error: log lines of the engine, and its last words.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::ChildStderr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pipeline_stage::printable;

/// A traceback of Python with its heading; longer last words would hide what has happened.
const LAST_LINES: usize = 12;
/// More on one line is no text.
const MAX_LINE: usize = 4_096;
/// Begins a line of Python's `logging`: then come a letter for the level, and the text in JSON.
const MARK: char = '\u{1e}';
/// How long is waited for the last words of a process that has ended.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The lines of one process.
pub struct Stderr {
    last: Arc<Mutex<VecDeque<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Stderr {
    /// Reads in a thread of its own, so that the process never waits; `stage` stands before each line.
    pub fn read(stderr: ChildStderr, stage: &str) -> Self {
        let last: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let (lines, stage) = (last.clone(), stage.to_owned());
        let reading = thread::Builder::new().name("python stderr".into()).spawn(move || {
            each_line(BufReader::new(stderr), |line| {
                let line = tell(&stage, line);
                let mut last = lines.lock().unwrap_or_else(PoisonError::into_inner);
                last.push_back(line);
                if LAST_LINES < last.len() {
                    last.pop_front();
                }
            });
        });
        Stderr { last, reading: reading.ok() }
    }

    /// The last lines of a process that has ended, each on a line of its own; empty when it said nothing.
    pub fn last_words(&self) -> String {
        let mut waited = Duration::ZERO;
        // A process that it has started may hold the pipe open for ever.
        while self.reading.as_ref().is_some_and(|reading| !reading.is_finished()) && waited < LAST_WORDS_WITHIN {
            thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(|line| format!("\n  {line}")).collect()
    }
}

fn each_line(mut from: impl BufRead, mut take: impl FnMut(&str)) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(MAX_LINE as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}

/// Logs a line, and gives it without its mark.
fn tell(stage: &str, line: &str) -> String {
    let (level, text) = match marked(line) {
        Some(marked) => marked,
        None => ('I', line.to_owned()),
    };
    // Lines of one record stay together, and none can move a cursor.
    let text = text.lines().map(|line| printable(line, MAX_LINE)).collect::<Vec<_>>().join("\n");
    match level {
        'E' => tracing::error!("{stage}: {text}"),
        'W' => tracing::warn!("{stage}: {text}"),
        'D' => tracing::debug!("{stage}: {text}"),
        'T' => tracing::trace!("{stage}: {text}"),
        _ => tracing::info!("{stage}: {text}"),
    }
    text
}

fn marked(line: &str) -> Option<(char, String)> {
    let rest = line.strip_prefix(MARK)?;
    let level = rest.chars().next()?;
    let text = serde_json::from_str(rest.get(level.len_utf8()..)?).ok()?;
    Some((level, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_logging_carries_its_level() {
        assert_eq!(marked("\u{1e}W\"a\\nb\""), Some(('W', "a\nb".into())));
        for line in ["plain", "\u{1e}", "\u{1e}W", "\u{1e}Wplain", "\u{1e}é\""] {
            assert_eq!(marked(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let text = "x".repeat(3 * MAX_LINE) + "\nend";
        let mut lines = Vec::new();
        each_line(text.as_bytes(), |line| lines.push(line.len()));
        assert_eq!(lines, [MAX_LINE, MAX_LINE, MAX_LINE, 0, 3]);
    }
}
