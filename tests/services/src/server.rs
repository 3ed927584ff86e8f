//! A server that can be stopped and started again, as a process of this machine or in a container.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::waiting::POLL_EVERY;
use crate::watched::{Launch, Watched};

/// A server whose image Docker must fetch first needs minutes; one that cannot start ends by itself, at once.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// A stop with a full page cache on a busy disk takes seconds, never this long.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Lines of a server's log that are shown when it does not start.
const LOG_LINES_SHOWN: usize = 30;

/// Where a server runs.
pub(crate) enum Place {
    /// Here: the program and its arguments.
    Process(Vec<OsString>),
    /// In a container: its unique name, then what follows `docker run --name NAME`. The container keeps the data.
    Container { name: String, run: Vec<String> },
}

/// A server, running or stopped; dropping it kills it and removes its data.
pub(crate) struct Server {
    place: Place,
    process: Option<Watched>,
    was_started: bool,
    log: PathBuf,
    // Last, so that the process is gone before its folder is removed.
    folder: TempDir,
}

impl Server {
    /// A server that is not started yet. `folder` is its working directory and holds its log.
    pub fn new(place: Place, folder: TempDir) -> Self {
        let log = folder.path().join("log");
        Server { place, process: None, was_started: false, log, folder }
    }

    /// Starts it and waits until it `serves`; `Err` holds the end of its log if it ends instead.
    ///
    /// Panics if it does neither for minutes.
    pub fn start(&mut self, mut serves: impl FnMut() -> bool) -> Result<(), String> {
        self.launch();
        let start = Instant::now();
        while !serves() {
            let process = self.process.as_mut().expect("just launched");
            if process.exit_status().is_some() {
                self.process = None;
                return Err(self.end_of_log());
            }
            if READY_WITHIN < start.elapsed() {
                panic!("the server does not answer after {READY_WITHIN:?}; its log ends with\n{}", self.end_of_log());
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// Sends the signal that asks for an end (a name without `SIG`) and waits for it.
    pub fn stop(&mut self, signal: &str) {
        let mut process = self.process.take().expect("a stopped server cannot be stopped");
        match &self.place {
            Place::Process(_) => process.signal(signal),
            Place::Container { name, .. } => docker(&["kill", "--signal", signal, name]),
        }
        if process.wait(STOPPED_WITHIN).is_none() {
            panic!(
                "SIG{signal} did not stop the server in {STOPPED_WITHIN:?}; its log ends with\n{}",
                self.end_of_log()
            );
        }
    }

    /// Sends a signal (a name without `SIG`) that it goes on after.
    pub fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("a stopped server takes no signal");
        match &self.place {
            Place::Process(_) => process.signal(signal),
            Place::Container { name, .. } => docker(&["kill", "--signal", signal, name]),
        }
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        let process = self.process.as_ref().expect("a stopped server cannot be paused");
        match &self.place {
            Place::Process(_) => process.signal("STOP"),
            Place::Container { name, .. } => docker(&["pause", name]),
        }
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        let process = self.process.as_ref().expect("a stopped server cannot be resumed");
        match &self.place {
            Place::Process(_) => process.signal("CONT"),
            Place::Container { name, .. } => docker(&["unpause", name]),
        }
    }

    fn launch(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("the folder is there");
        let stderr = log.try_clone().expect("a file can be shared");
        let command = self.command();
        let mut words = command.iter().map(OsString::as_os_str);
        let program = words.next().expect("a command has a program");
        let launch = Launch {
            program,
            args: words.collect(),
            env: vec![],
            current_dir: Some(self.folder.path()),
            tidy_up: self.tidy_up(),
            stdout: Stdio::from(log),
            stderr: Stdio::from(stderr),
        };
        let started = Watched::start(launch);
        self.process = Some(started.unwrap_or_else(|error| panic!("cannot start {program:?}: {error}")));
        self.was_started = true;
    }

    fn command(&self) -> Vec<OsString> {
        match &self.place {
            Place::Process(command) => command.clone(),
            Place::Container { name, .. } if self.was_started => words(&["docker", "start", "--attach", name]),
            Place::Container { name, run } => {
                let mut command = words(&["docker", "run", "--name", name]);
                command.extend(run.iter().map(OsString::from));
                command
            }
        }
    }

    fn tidy_up(&self) -> String {
        let remove_folder = format!("rm -rf {}", quoted(self.folder.path()));
        match &self.place {
            Place::Process(_) => remove_folder,
            Place::Container { name, .. } => format!("docker rm --force --volumes {name}; {remove_folder}"),
        }
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Place::Container { name, .. } = &self.place
            && self.was_started
        {
            docker(&["rm", "--force", "--volumes", name]);
        }
    }
}

/// Where no system takes the ports of its own connections from.
const PORTS_OF_SERVERS: std::ops::Range<u16> = 20_000..32_000;

/// An address of this machine that nobody listens on, for a server that the test stops and starts itself.
///
/// A client that tries to connect to it meanwhile is never given the same port for its own side: it would be connected
/// to itself, for ever.
pub fn free_address() -> std::net::SocketAddr {
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1u8);
    let count = PORTS_OF_SERVERS.len() as u64;
    let ports = (0..count).map(|nth| PORTS_OF_SERVERS.start + (seed.wrapping_add(nth) % count) as u16);
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::net::SocketAddr::from(([127, 0, 0, 1], free.next().expect("the system has a free port")))
}

/// Free TCP ports of 127.0.0.1, all different; another program may take one before it is used.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All are held at the same time, so that none is given twice.
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("the system has a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

/// Starts what `make` makes, again with other ports if somebody else was faster to take one.
///
/// `what` names the server in the panic if it does not start.
pub(crate) fn start_on_free_ports<T>(what: &str, mut make: impl FnMut() -> Result<T, String>) -> T {
    // A lost race is rare; three in a row are no accident.
    let mut attempts_left = 3;
    loop {
        attempts_left -= 1;
        match make() {
            Ok(started) => return started,
            Err(log) if is_port_clash(&log) && 0 < attempts_left => {}
            Err(log) => panic!("{what} does not start; its log ends with\n{log}"),
        }
    }
}

fn is_port_clash(log: &str) -> bool {
    ["Address already in use", "port is already allocated"].iter().any(|words| log.contains(words))
}

/// A fresh folder for a server's data, in the system's folder for temporary files.
pub(crate) fn fresh_folder() -> TempDir {
    tempfile::Builder::new().prefix("pipeline-test-").tempdir().expect("the folder for temporary files is writable")
}

/// The words of a command.
pub(crate) fn words<W: AsRef<OsStr>>(words: &[W]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}

fn docker(args: &[&str]) {
    let output = Command::new("docker").args(args).output().expect("Docker has answered before");
    if !output.status.success() && !std::thread::panicking() {
        panic!("`docker {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
}

/// The path as one word of a shell command.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Server {
        Server::new(Place::Process(words(&["sh", "-c", script])), fresh_folder())
    }

    #[test]
    fn starts_again_in_the_same_folder() {
        let mut server = shell("echo started >> starts; while :; do sleep 0.05; done");
        let starts = server.folder.path().join("starts");
        for n_starts in 1..=2 {
            let has_started = || fs::read_to_string(&starts).is_ok_and(|text| text.lines().count() == n_starts);
            server.start(has_started).expect("runs");
            server.stop("TERM");
        }
    }

    #[test]
    fn a_server_that_ends_at_once_shows_its_log() {
        let mut server = shell("echo no memory; exit 3");
        assert_eq!(server.start(|| false), Err("no memory".to_owned()));
    }

    #[test]
    fn takes_other_ports_after_a_clash_but_not_for_ever() {
        let mut attempts = 0;
        let port = start_on_free_ports("a server", || {
            attempts += 1;
            if attempts < 3 { Err("Address already in use".to_owned()) } else { Ok(attempts) }
        });
        assert_eq!(port, 3);
        let hopeless = std::panic::catch_unwind(|| {
            start_on_free_ports::<()>("a server", || Err("Address already in use".to_owned()));
        });
        assert!(hopeless.is_err());
    }

    #[test]
    fn leaves_no_folder_behind() {
        let mut server = shell("while :; do sleep 0.05; done");
        server.start(|| true).expect("runs");
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(!folder.exists());
    }

    #[test]
    fn free_ports_differ() {
        let [first, second] = free_ports();
        assert_ne!(first, second);
    }

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
