//! One Python process: started, asked, and ended with its last words.

use std::ffi::OsStr;
use std::io::{BufReader, BufWriter, ErrorKind};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pipeline_blocking::InFlight;
use pipeline_stage::{Result, StageError};
use serde_json::{Map, Value};

use crate::frame::{self, Frame, Wrong};
use crate::interpreter::Interpreter;
use crate::stderr::Stderr;

/// The version of the frames, which both sides must share.
const PROTOCOL: u64 = 1;
/// How long a process that has nothing to do any more may take to end: it runs what its modules want run at exit.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a process may take to end after it has closed its pipe, which only happens when it ends.
const DIE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What Linux's allocator keeps for the next batch instead of giving it back to the system with each: the arrays of a
/// batch have some megabytes, and to get their pages anew costs a quarter of a vectorised detector's time.
const KEPT_MEMORY: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "268435456")];
/// Small frames go in one piece.
const BUFFER: usize = 64 << 10;

/// A Python process that runs a plugin; it ends when this is dropped.
pub struct Process {
    /// None once it has ended or is being ended.
    child: Option<Child>,
    to: Option<BufWriter<ChildStdin>>,
    from: BufReader<ChildStdout>,
    stderr: Stderr,
    calls: Arc<InFlight>,
    interpreter: Interpreter,
    /// It has answered before: a module that is missing is the plugin's, not ours.
    has_answered: bool,
}

impl Process {
    /// Starts a plugin's process; `stage` stands before what it logs.
    ///
    /// # Errors
    /// Of kind `Config` when there is no such Python, or it lacks the package.
    pub fn start(interpreter: &Interpreter, path: &Path, sha256: Option<&str>, stage: &str) -> Result<Self> {
        let mut command = Command::new(interpreter.program());
        command.args([OsStr::new("-m"), OsStr::new("pipeline_plugin"), path.as_os_str()]).args(sha256);
        // The folder in which the engine was started is no place for modules.
        command.env("PYTHONSAFEPATH", "1");
        for (variable, bytes) in KEPT_MEMORY.into_iter().filter(|(variable, _)| std::env::var_os(variable).is_none()) {
            command.env(variable, bytes);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in a terminal goes to all processes of a group; this one is needed for the last checkpoint.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => StageError::config(interpreter.not_found()),
            _ => StageError::config(format!("`{}` cannot be started", interpreter.program().display())).because(error),
        })?;
        let (to, from, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(stderr)) = (to, from, stderr) else {
            return Err(StageError::fatal("a Python process was started without its pipes"));
        };
        let mut process = Process {
            child: Some(child),
            to: Some(BufWriter::with_capacity(BUFFER, to)),
            from: BufReader::with_capacity(BUFFER, from),
            stderr: Stderr::read(stderr, stage),
            calls: InFlight::new(stage),
            interpreter: interpreter.clone(),
            has_answered: false,
        };
        process.greet()?;
        Ok(process)
    }

    /// The package speaks first: whatever else was started is found out before anything is sent to it.
    fn greet(&mut self) -> Result<()> {
        let calls = self.calls.clone();
        let greeting = calls.watch(|| frame::read(&mut self.from));
        let greeting = greeting.map_err(|wrong| self.failed(wrong))?;
        let found = greeting.header.get("protocol").and_then(Value::as_u64);
        if found != Some(PROTOCOL) {
            let found = found.map_or("none".into(), |found| found.to_string());
            return Err(StageError::config(format!(
                "the package `pipeline_plugin` of `{}` speaks version {found} of the protocol, this engine {PROTOCOL}; \
                 install the one that belongs to this engine",
                self.interpreter.program().display()
            )));
        }
        self.has_answered = true;
        Ok(())
    }

    /// Asks, and waits for the answer. An error that the plugin tells comes back as such.
    pub fn call(&mut self, header: Map<String, Value>, bodies: &[&[u8]]) -> Result<Frame> {
        let calls = self.calls.clone();
        let answer = calls.watch(|| self.exchange(header, bodies));
        let answer = answer.map_err(|wrong| self.failed(wrong))?;
        match answer.header.get("error") {
            Some(error) => Err(told(error)),
            None => Ok(answer),
        }
    }

    /// Nothing can be asked any more.
    pub fn has_ended(&self) -> bool {
        self.child.is_none()
    }

    /// The process reads a whole question before it answers, so that neither side waits for the other to read.
    fn exchange(&mut self, header: Map<String, Value>, bodies: &[&[u8]]) -> Result<Frame, Wrong> {
        let Some(to) = &mut self.to else { return Err(Wrong::Ended) };
        frame::write(to, header, bodies)?;
        frame::read(&mut self.from)
    }

    /// Ends a process that cannot be talked to any more, and says why.
    fn failed(&mut self, wrong: Wrong) -> StageError {
        match wrong {
            Wrong::NoFrame(what) => {
                self.kill();
                let words = format!("the Python process has written {what}");
                match self.has_answered {
                    true => StageError::fatal(words),
                    false => {
                        StageError::config(format!("{words}; is `{}` a Python?", self.interpreter.program().display()))
                    }
                }
            }
            Wrong::Ended => {
                let how = self.ended();
                let last_words = self.stderr.last_words();
                if !self.has_answered && last_words.contains("No module named pipeline_plugin") {
                    return StageError::config(self.interpreter.no_package());
                }
                StageError::lost(format!("the Python process has ended: {how}{last_words}"))
            }
        }
    }

    /// How it has ended, in words.
    fn ended(&mut self) -> String {
        self.to = None;
        let Some(mut child) = self.child.take() else { return "it had ended before".into() };
        match wait(&mut child, DIE_WITHIN) {
            Some(status) => words(status),
            None => {
                end(child);
                "it has closed its pipe".into()
            }
        }
    }

    fn kill(&mut self) {
        self.to = None;
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends when its input does.
        self.to = None;
        let Some(mut child) = self.child.take() else { return };
        // Nobody needs to wait for it; without a thread it ends by itself all the same.
        let _ = thread::Builder::new().name("python end".into()).spawn(move || {
            if wait(&mut child, END_WITHIN).is_none() {
                end(child);
            }
        });
    }
}

fn end(mut child: Child) {
    // It may have ended just now, which is as well.
    let _ = child.kill();
    let _ = child.wait();
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < within => thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("it was ended by signal {signal} ({name})"),
            None => format!("it was ended by signal {signal}"),
        },
        (None, None) => "nobody knows how".into(),
    }
}

/// Those that end processes, with the numbers that all our systems share.
const SIGNALS: [(i32, &str); 9] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (8, "SIGFPE"),
    (9, "SIGKILL: by a person, or for lack of memory"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
];

/// An error that the plugin has told, with its traceback.
fn told(error: &Value) -> StageError {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut words = match text("message") {
        "" => "the plugin failed without words".to_owned(),
        message => message.to_owned(),
    };
    if !text("traceback").is_empty() {
        words = format!("{words}\n{}", text("traceback"));
    }
    let told = match text("kind") {
        "config" => StageError::config(words),
        "data" => StageError::data(words),
        "transient" => StageError::transient(words),
        "lost" => StageError::lost(words),
        _ => StageError::fatal(words),
    };
    let pause = error.get("retry_after").and_then(Value::as_f64).filter(|seconds| 0.0 < *seconds);
    let told = match pause.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(pause) => told.retry_after(pause),
        None => told,
    };
    match text("option") {
        "" => told,
        option => told.at_option(option),
    }
}
