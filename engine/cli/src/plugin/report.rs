//! What is tried, line by line. It runs in a process of its own: a library may end it, or never come back.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::books::grouped;
use crate::{FAILED, complain, print};

/// Trials take seconds; one that takes minutes hangs.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(120);
/// Lines that wait to be printed.
const LINES: usize = 64;
/// What says to the process that it is the one which runs the library.
const CHILD: &str = "PIPELINE_PLUGIN_TRIALS";

/// A line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// What the lines below are about.
    Head(String),
    /// Something is tried now.
    Begin(String),
    /// It went well; the second text says what was found.
    Good(String, String),
    /// Not wrong, but worth knowing.
    Note(String, String),
    /// It did not; the second text says why.
    Bad(String, String),
}

/// Runs trials in a process of their own, and prints what they say. `trials` is what that process does, `noun` what
/// it does many of.
pub fn run(noun: &str, trials: impl FnOnce()) -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        trials();
        return ExitCode::SUCCESS;
    }
    match watch(noun) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: the process for the library cannot be started: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Says a line; called by the trials.
pub fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    // Whoever started the trials has gone: nobody wants to know.
    let _ = writeln!(out, "{}", line.encode()).and_then(|()| out.flush());
}

impl Line {
    fn encode(&self) -> String {
        let parts: [&str; 3] = match self {
            Line::Head(what) => ["head", what, ""],
            Line::Begin(what) => ["begin", what, ""],
            Line::Good(what, found) => ["good", what, found],
            Line::Note(what, why) => ["note", what, why],
            Line::Bad(what, why) => ["bad", what, why],
        };
        serde_json::json!(parts).to_string()
    }

    /// None for what the library itself has written.
    fn decode(text: &str) -> Option<Line> {
        let parts: Value = serde_json::from_str(text).ok()?;
        let part = |number: usize| parts.get(number).and_then(Value::as_str).map(str::to_owned);
        let (what, words) = (part(1)?, part(2)?);
        match part(0)?.as_str() {
            "head" => Some(Line::Head(what)),
            "begin" => Some(Line::Begin(what)),
            "good" => Some(Line::Good(what, words)),
            "note" => Some(Line::Note(what, words)),
            "bad" => Some(Line::Bad(what, words)),
            _ => None,
        }
    }

    fn text(&self) -> Option<String> {
        let line = |sign: char, what: &str, words: &str| {
            // What is wrong may be several lines.
            let words = words.trim_end().replace('\n', "\n      ");
            format!("  {sign} {what:<34} {words}").trim_end().to_owned()
        };
        match self {
            Line::Head(what) => Some(what.clone()),
            Line::Begin(_) => None,
            Line::Good(what, found) => Some(line('✓', what, found)),
            Line::Note(what, why) => Some(line('!', what, why)),
            Line::Bad(what, why) => Some(line('✗', what, why)),
        }
    }
}

/// What was counted.
#[derive(Default)]
struct Sums {
    good: u64,
    bad: u64,
    /// What is tried now.
    now: Option<String>,
}

impl Sums {
    fn take(&mut self, line: Line) {
        if let Some(text) = line.text() {
            print(&text);
        }
        match line {
            Line::Begin(what) => self.now = Some(what),
            Line::Good(..) => (self.good, self.now) = (self.good + 1, None),
            Line::Bad(..) => (self.bad, self.now) = (self.bad + 1, None),
            Line::Head(_) | Line::Note(..) => {}
        }
    }
}

fn watch(noun: &str) -> std::io::Result<ExitCode> {
    let started = Instant::now();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(CHILD, "1").stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let lines = lines_of(&mut child);
    let (mut sums, mut hangs) = (Sums::default(), false);
    loop {
        match lines.recv_timeout(COMES_BACK_WITHIN) {
            Ok(text) => match Line::decode(&text) {
                Some(line) => sums.take(line),
                None => complain(&text),
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hangs = true;
                child.kill()?;
                break;
            }
        }
    }
    let status = child.wait()?;
    if let Some(why) = how_it_ended(status, hangs) {
        let what = sums.now.take().unwrap_or_else(|| "loading it".into());
        sums.take(Line::Bad(what, why));
    }
    Ok(conclusion(&sums, noun, started.elapsed()))
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (send, lines) = sync_channel(LINES);
    let out = child.stdout.take().expect("it is piped");
    thread::spawn(move || {
        let all = BufReader::new(out).lines();
        // What is no text ends the report, and so does a reader that has gone.
        let _ = all.map_while(Result::ok).try_for_each(|line| send.send(line));
    });
    lines
}

/// Why there are no more lines; none when all was tried.
fn how_it_ended(status: ExitStatus, hangs: bool) -> Option<String> {
    if hangs {
        return Some(format!(
            "a call has not come back for {} s; what comes after it was not tried",
            COMES_BACK_WITHIN.as_secs()
        ));
    }
    if status.success() {
        return None;
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Some(format!(
            "it ended the process by signal {signal}{}; what comes after it was not tried",
            name_of(signal)
        ));
    }
    Some(format!("it ended the process ({status}); what comes after it was not tried"))
}

/// The signals that mistakes end in.
fn name_of(signal: i32) -> &'static str {
    match signal {
        4 => " (illegal instruction)",
        6 => " (abort)",
        8 => " (division by zero)",
        9 => " (killed)",
        11 => " (memory that is not there)",
        _ => "",
    }
}

fn conclusion(sums: &Sums, noun: &str, took: Duration) -> ExitCode {
    let Sums { good, bad, .. } = *sums;
    if bad == 0 {
        print(&format!("\nall is well: {} {noun} in {:.1} s", grouped(good), took.as_secs_f64()));
        return ExitCode::SUCCESS;
    }
    let is = if bad == 1 { "is" } else { "are" };
    print(&format!("\n{} of {} {noun} {is} wrong", grouped(bad), grouped(good + bad)));
    ExitCode::from(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_out_as_it_went_in() {
        for line in [
            Line::Head("detector.zscore".into()),
            Line::Begin("all null".into()),
            Line::Good("all null".into(), "5 rows".into()),
            Line::Note("exports".into(), "two\nlines \"quoted\"".into()),
            Line::Bad("all null".into(), String::new()),
        ] {
            assert_eq!(Line::decode(&line.encode()), Some(line));
        }
        assert_eq!(Line::decode("hello from the library"), None);
        assert_eq!(Line::decode("[1,2,3]"), None);
    }
}
