//! The folder of a page, in which its commands run.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::repository;

/// What the repository has for users; the rest of it is for developers.
const FOR_USERS: [&str; 6] =
    ["pipelines", "schemas", "docker", "engine/abi/include", "plugins/example-c", "plugins/example-python"];

/// `pipeline` as the pages mean it: what would run for ever is told to stop after a while, as by Ctrl-C, and once:
/// without `--foreground` the process would get a second signal by its group, which means "at once".
const STAND_IN: &str = r#"#!/bin/sh
ends=yes
case "$1" in run | top | tap) ends=no ;; esac
for argument; do case "$argument" in --once | --help | --count | --json) ends=yes ;; esac; done
if [ $ends = yes ]; then exec timeout --foreground --signal KILL 120 BINARY "$@"; fi
exec timeout --foreground --preserve-status --signal INT --kill-after 60 SECONDS BINARY "$@"
"#;

/// `cargo run -- …` as the pages mean it: the binary is built already.
const CARGO: &str = r#"#!/bin/sh
case "$1 $2" in "run --") shift 2; exec pipeline "$@" ;; esac
echo "a page runs cargo $*, which no test does" >&2
exit 1
"#;

/// How long a pipeline runs that does not end by itself: enough for the 30 readings of a window, at its rate.
const SECONDS: &str = "10";

/// A page, while what it says is done.
pub struct Page {
    folder: TempDir,
    programs: TempDir,
}

impl Page {
    /// A folder as somebody has it who has got the repository.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for part in FOR_USERS {
            copy(&repository().join(part), &folder.path().join(part));
        }
        let programs = tempfile::tempdir().expect("a temporary folder");
        let stand_in = STAND_IN.replace("BINARY", env!("CARGO_BIN_EXE_pipeline")).replace("SECONDS", SECONDS);
        for (name, text) in [("pipeline", stand_in.as_str()), ("cargo", CARGO)] {
            let path = programs.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
        }
        Page { folder, programs }
    }

    /// Writes a file that the page shows.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("it can be written");
    }

    fn shell(&self, commands: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-ec", commands]).current_dir(self.folder.path()).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{path}", self.programs.path().display())).env("NO_COLOR", "1");
        // What the pages say that a reader has set.
        shell.env("DATABASE_URL", "postgres://me@localhost/iot").env("SLACK_WEBHOOK_URL", "https://hooks.invalid/x");
        shell.env("SLACK_URL", "https://hooks.invalid/x").env("WEBHOOK_URL", "https://hooks.invalid/x");
        shell.output().expect("there is a shell")
    }

    /// Runs commands, each of which must succeed.
    pub fn run(&self, commands: &str, place: &str) -> String {
        let output = self.shell(commands);
        let said = text(&output);
        assert!(output.status.success(), "{place}: {}\n{commands}{said}", output.status);
        said
    }

    /// Runs a command, which must print these lines in this order, and others between them only where `…` stands.
    /// Returns how many lines were compared. A command may fail, as it may for a reader.
    pub fn says(&self, command: &str, expected: &[String], place: &str) -> usize {
        let said = text(&self.shell(command));
        let mut lines = said.lines().map(words).filter(|line| !line.is_empty());
        let mut may_skip = false;
        let mut n_compared = 0;
        for expected in expected.iter().map(|line| words(line)).filter(|line| !line.is_empty()) {
            if expected == "…" {
                may_skip = true;
                continue;
            }
            let is_same = |line: &String| matches(line, &expected);
            let found = if may_skip {
                lines.any(|line| is_same(&line))
            } else {
                lines.next().is_some_and(|line| is_same(&line))
            };
            assert!(found, "{place}: `{command}` does not say `{expected}` in its place, it says\n{said}");
            may_skip = false;
            n_compared += 1;
        }
        assert!(may_skip || lines.next().is_none(), "{place}: `{command}` says more than that:\n{said}");
        n_compared
    }
}

/// What was printed, errors last.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A line without its spacing: how wide a column is may depend on what else came.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as expected, where `…` stands for anything.
fn matches(line: &str, expected: &str) -> bool {
    let Some((first, rest)) = expected.split_once('…') else { return line == expected };
    let Some(mut line) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match line.find(part) {
            Some(place) => line = &line[place + part.len()..],
            None => return false,
        }
    }
    line.ends_with(last)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("it can be read");
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        match entry.file_type().expect("it has a type").is_dir() {
            // What developers have there from runs of their own.
            true if name == ".pipeline" || name == "__pycache__" || name == ".venv" => {}
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("it can be copied")),
        }
    }
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    for (line, expected, is_same) in [
        ("a b c", "a b c", true),
        ("a b c", "a … c", true),
        ("a b c", "a …", true),
        ("a b c", "… c", true),
        ("a b c", "…b…", true),
        ("a b c", "a b", false),
        ("a b c", "b c", false),
        ("a b c", "a … d", false),
        ("a b cc", "a … c", false),
        ("a b c d", "a … c", false),
    ] {
        assert_eq!(matches(line, expected), is_same, "`{line}` as `{expected}`");
    }
}
