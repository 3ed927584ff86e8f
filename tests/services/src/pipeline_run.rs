//! The program under test, started as a user starts it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::waiting::{becomes_true, blocking};
use crate::watched::{Launch, Watched};

/// For runs that end by themselves; more than any of them takes on a loaded machine.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A run that is not started yet.
///
/// ```no_run
/// # use pipeline_services::PipelineRun;
/// # async fn example(binary: &str) {
/// let run = PipelineRun::new(binary).args(["run", "pipelines/iot.yaml", "--once"]).env("STATE", "x").start();
/// let finished = run.wait().await;
/// finished.assert_code(0);
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct PipelineRun {
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    current_dir: Option<PathBuf>,
}

impl PipelineRun {
    /// Runs `binary`, in a test of the same crate `env!("CARGO_BIN_EXE_pipeline")`.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        PipelineRun { binary: binary.into(), args: vec![], env: vec![], current_dir: None }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the others are those of the test.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Lets another program start it, which becomes it: its arguments are these, the program and the program's.
    pub(crate) fn through<A: AsRef<OsStr>>(mut self, starter: &str, args: &[A]) -> Self {
        let program = std::mem::replace(&mut self.binary, starter.into()).into_os_string();
        let before = args.iter().map(|arg| arg.as_ref().to_owned()).chain([program]);
        self.args.splice(..0, before);
        self
    }

    /// Lets it have no environment variables at all.
    pub fn without_variables(self) -> Self {
        self.through("env", &["-i"])
    }

    /// Lets it have so many files open at most.
    pub fn with_files(self, files: u32) -> Self {
        self.through("sh", &["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
    }

    /// Sets the working directory; otherwise it is that of the test.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.current_dir = Some(folder.as_ref().to_owned());
        self
    }

    /// Starts the program, without a terminal and with empty input. It never outlives the test.
    pub fn start(&self) -> RunningPipeline {
        let launch = Launch {
            program: self.binary.as_os_str(),
            args: self.args.iter().map(OsString::as_os_str).collect(),
            env: self.env.iter().map(|(name, value)| (name.as_str(), value.as_os_str())).collect(),
            current_dir: self.current_dir.as_deref(),
            tidy_up: String::new(),
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        };
        let started = Watched::start(launch);
        let mut process = started.unwrap_or_else(|error| panic!("cannot start `{}`: {error}", self.binary.display()));
        let stdout = Captured::start(process.child().stdout.take().expect("piped"));
        let stderr = Captured::start(process.child().stderr.take().expect("piped"));
        RunningPipeline { process, stdout, stderr }
    }
}

/// A run that was started; dropping it kills it.
#[derive(Debug)]
pub struct RunningPipeline {
    process: Watched,
    stdout: Captured,
    stderr: Captured,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All that it wrote to standard output.
    pub stdout: String,
    /// All that it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Panics, showing the output, unless the run ended with this exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        let Finished { stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(code), "signal {:?}\n{}", self.signal, output(stdout, stderr));
    }

    /// Panics unless it said at its end that every row is accounted for.
    #[track_caller]
    pub fn assert_books_balance(&self) {
        assert!(self.stderr.contains("books balance"), "{}", self.stderr);
    }
}

impl RunningPipeline {
    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// Waits for a line with these words, on standard output or error, and gives it; it may be there already.
    ///
    /// Panics, showing the output, if the run ends without it or `timeout` passes.
    pub async fn wait_for_line(&mut self, words: &str, timeout: Duration) -> String {
        let mut found = None;
        let mut has_ended = false;
        becomes_true(timeout, || {
            // In this order: what was written before the end counts.
            has_ended = self.has_ended_and_is_read();
            found = self.stdout.line_with(words).or_else(|| self.stderr.line_with(words));
            found.is_some() || has_ended
        })
        .await;
        let reason = if has_ended { "the run ended".to_owned() } else { format!("{timeout:?} passed") };
        found.unwrap_or_else(|| panic!("{reason} without a line with `{words}`\n{}", self.output()))
    }

    /// Waits for the end of a run that ends by itself; panics, showing the output, if it takes minutes.
    pub async fn wait(self) -> Finished {
        self.wait_with_timeout(ENDS_WITHIN).await
    }

    /// Waits for the end; panics, showing the output, if it has not come after `timeout`.
    pub async fn wait_with_timeout(mut self, timeout: Duration) -> Finished {
        let has_ended = becomes_true(timeout, || self.has_ended_and_is_read()).await;
        assert!(has_ended, "the run has not ended after {timeout:?}\n{}", self.output());
        self.finished()
    }

    /// SIGKILL; returns when the process is gone.
    pub async fn kill(mut self) -> Finished {
        blocking(move || {
            self.process.kill();
            self.stdout.read_to_end();
            self.stderr.read_to_end();
            self.finished()
        })
        .await
    }

    /// The number of its process.
    pub fn id(&mut self) -> u32 {
        self.process.child().id()
    }

    /// SIGINT, what Ctrl-C sends.
    pub fn interrupt(&self) {
        self.process.signal("INT");
    }

    /// SIGKILL, also to what it has started itself.
    pub(crate) fn kill_all(&mut self) {
        self.process.kill_group();
    }

    /// SIGTERM, what systemd and Kubernetes send.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// SIGSTOP: the process hangs, with all its connections and locks.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    fn has_ended_and_is_read(&mut self) -> bool {
        self.process.exit_status().is_some() && self.stdout.is_at_end() && self.stderr.is_at_end()
    }

    fn finished(&mut self) -> Finished {
        let status: ExitStatus = self.process.exit_status().expect("it has ended");
        Finished { code: status.code(), signal: status.signal(), stdout: self.stdout(), stderr: self.stderr() }
    }

    fn output(&self) -> String {
        output(&self.stdout(), &self.stderr())
    }
}

fn output(stdout: &str, stderr: &str) -> String {
    format!("--- standard output\n{stdout}--- standard error\n{stderr}---")
}

/// What a process writes, read as it comes.
#[derive(Debug)]
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// None after `read_to_end`.
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn start(pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let written = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            // An error ends it as an end does: there is nothing more to read.
            while pipe.read_until(b'\n', &mut line).is_ok_and(|n_bytes| 0 < n_bytes) {
                written.lock().expect("nobody panics with this lock").append(&mut line);
            }
        });
        Captured { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics with this lock")).into_owned()
    }

    fn line_with(&self, words: &str) -> Option<String> {
        self.text().lines().find(|line| line.contains(words)).map(str::to_owned)
    }

    fn is_at_end(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn read_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> PipelineRun {
        PipelineRun::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn captures_both_outputs_and_the_exit_code() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = shell("echo $WHO in $(basename $(pwd)); echo oops >&2; exit 3").env("WHO", "me");
        let finished = run.current_dir(folder.path()).start().wait().await;
        let name = folder.path().file_name().expect("has a name").to_string_lossy();
        assert_eq!((finished.code, finished.signal), (Some(3), None));
        assert_eq!((finished.stdout, finished.stderr), (format!("me in {name}\n"), "oops\n".to_owned()));
    }

    #[tokio::test]
    async fn sees_lines_while_it_runs_and_ends_on_a_signal() {
        let script =
            "trap 'echo bye; exit 0' INT; trap 'exit 9' TERM; echo up and ready >&2; while :; do sleep 0.02; done";
        let mut run = shell(script).start();
        assert_eq!(run.wait_for_line("ready", SOON).await, "up and ready");
        assert!(run.is_running());
        run.interrupt();
        let finished = run.wait_with_timeout(SOON).await;
        finished.assert_code(0);
        assert_eq!(finished.stdout, "bye\n");

        let mut run = shell(script).start();
        run.wait_for_line("ready", SOON).await;
        run.terminate();
        run.wait().await.assert_code(9);
    }

    #[tokio::test]
    async fn a_killed_run_keeps_what_it_said() {
        let mut run = shell("echo begun; exec sleep 1000").start();
        run.wait_for_line("begun", SOON).await;
        let finished = run.kill().await;
        assert_eq!((finished.code, finished.signal, finished.stdout.as_str()), (None, Some(9), "begun\n"));
    }

    #[tokio::test]
    async fn failures_show_the_output() {
        let ended = tokio::spawn(async { shell("echo no luck").start().wait_for_line("luck at all", SOON).await });
        let late = tokio::spawn(async {
            let mut run = shell("echo still here; exec sleep 1000").start();
            run.wait_for_line("still", SOON).await;
            run.wait_with_timeout(Duration::ZERO).await
        });
        let ended = ended.await.expect_err("no such line").into_panic();
        let late = late.await.expect_err("it runs").into_panic();
        for (panic, words) in [
            (ended, "the run ended without a line with `luck at all`\n--- standard output\nno luck\n"),
            (late, "the run has not ended after 0ns\n--- standard output\nstill here\n"),
        ] {
            let said = panic.downcast_ref::<String>().expect("words");
            assert!(said.starts_with(words), "{said}");
        }
    }
}
