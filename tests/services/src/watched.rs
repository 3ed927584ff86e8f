//! A process that ends with the test, whatever ends the test.
//!
//! `Drop` is not enough: a killed test drops nothing, and nobody drops a `static`. So every process gets a
//! watchdog, a shell that reads from a pipe whose other end only this process holds. When the kernel closes that
//! end, because this process is gone, the watchdog kills and tidies up.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::waiting::POLL_EVERY;

/// Starts the watchdog, detached, then becomes the program: the program keeps this process id.
///
/// `$1` is a shell command for the watchdog to run after the kill; the program and its arguments follow.
/// The watchdog ignores the signals of a terminal and holds none of the program's pipes.
/// It waits at most 2 s for the program to be gone, so that what it tidies up is no longer written to.
const WRAPPER: &str = r#"
pid=$$ tidy_up=$1
shift
exec 3<&0 < /dev/null
(
  trap '' HUP INT TERM
  if ! read -r _ <&3; then
    kill -KILL "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.2; done
    eval "$tidy_up"
  fi
) > /dev/null 2>&1 &
exec 3<&- "$@"
"#;

/// A process with a watchdog. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Watched {
    child: Child,
    lifeline: ChildStdin,
}

/// What to run, where, and what the watchdog does afterwards.
pub(crate) struct Launch<'a> {
    pub program: &'a OsStr,
    pub args: Vec<&'a OsStr>,
    pub env: Vec<(&'a str, &'a OsStr)>,
    pub current_dir: Option<&'a Path>,
    /// A shell command for the case that this process dies before the program; empty for none.
    pub tidy_up: String,
    pub stdout: Stdio,
    pub stderr: Stdio,
}

impl Watched {
    /// Starts a process; its standard input is empty.
    pub fn start(launch: Launch<'_>) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(WRAPPER).arg("watched").arg(launch.tidy_up).arg(launch.program).args(launch.args);
        command.envs(launch.env).stdin(Stdio::piped()).stdout(launch.stdout).stderr(launch.stderr);
        if let Some(folder) = launch.current_dir {
            command.current_dir(folder);
        }
        // A group of its own: Ctrl-C in the terminal must not reach the process before the test can tidy up.
        command.process_group(0);
        let mut child = command.spawn()?;
        let lifeline = child.stdin.take().expect("stdin is piped");
        Ok(Watched { child, lifeline })
    }

    /// The process itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        // The shell's own `kill`: a program of that name is not part of a minimal Debian.
        let sent = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &pid]).status();
        let is_sent = sent.is_ok_and(|status| status.success());
        assert!(is_sent, "could not send SIG{name} to process {pid}");
    }

    /// How the process ended; `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Blocks until the process has ended; `None` if it still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while self.exit_status().is_none() && start.elapsed() < timeout {
            std::thread::sleep(POLL_EVERY);
        }
        self.exit_status()
    }

    /// SIGKILL to the process and to all that it has started, unless they have left its group.
    pub fn kill_group(&mut self) {
        let group = format!("-{}", self.child.id());
        // An error means that they are gone already.
        let _ =
            Command::new("sh").args(["-c", r#"kill -s KILL -- "$1""#, "kill", &group]).stderr(Stdio::null()).status();
        self.kill();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
        // A whole line tells the watchdog that there is nothing left to kill; it may itself be gone.
        let _ = self.lifeline.write_all(b"done\n");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn shell(script: &str, tidy_up: String) -> Watched {
        let program = OsStr::new("sh");
        let args = vec![OsStr::new("-c"), OsStr::new(script)];
        let (stdout, stderr) = (Stdio::piped(), Stdio::null());
        let launch = Launch { program, args, env: vec![], current_dir: None, tidy_up, stdout, stderr };
        Watched::start(launch).expect("sh starts")
    }

    #[test]
    fn dies_when_the_lifeline_is_cut_and_is_tidied_up_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let litter = folder.path().join("litter");
        std::fs::write(&litter, "").expect("written");
        let mut watched = shell("while :; do sleep 1; done", format!("rm '{}'", litter.display()));
        assert_eq!(watched.exit_status(), None);

        // What the kernel does when this process dies: it closes the pipe.
        let (cut, _other_end) = pipe();
        drop(std::mem::replace(&mut watched.lifeline, cut));

        assert_eq!(watched.wait(LONG).expect("killed").signal(), Some(9));
        let start = Instant::now();
        while litter.exists() {
            assert!(start.elapsed() < LONG, "nobody tidied up");
        }
    }

    #[test]
    fn nothing_is_tidied_up_after_an_orderly_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = folder.path().join("kept");
        std::fs::write(&kept, "").expect("written");
        let mut watched = shell("exit 7", format!("rm '{}'", kept.display()));
        assert_eq!(watched.wait(LONG).expect("ended").code(), Some(7));
        drop(watched);
        assert!(kept.exists());
    }

    #[test]
    fn signals_reach_the_program_itself() {
        let mut watched = shell("trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done", String::new());
        let stdout = watched.child().stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n");
        watched.signal("USR1");
        assert_eq!(watched.wait(LONG).expect("ended").code(), Some(5));
    }

    /// Some pipe to put in the place of the lifeline, with the process that holds its other end.
    fn pipe() -> (ChildStdin, Child) {
        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().expect("true starts");
        (child.stdin.take().expect("piped"), child)
    }
}
