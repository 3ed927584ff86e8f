//! What a shell and `man` are given, and the health check of images that have no `curl`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pipeline_services::{PipelineRun, eventually};

use crate::production::{pipeline, repository};
use crate::scraped::Dashboard;

/// What the binary writes to standard output.
fn said(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pipeline")).args(args).output().expect("the binary starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let help = said(&["--help"]);
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let found: BTreeSet<String> = names.filter(|name| !name.is_empty() && *name != "help").map(Into::into).collect();
    assert!(10 < found.len(), "{found:?}");
    found
}

/// What bash offers after these words.
fn offered(words: &[&str]) -> Vec<String> {
    let script = "source <(\"$0\" completions bash); COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                  _pipeline pipeline \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_pipeline")]).args(words).output();
    let output = output.expect("bash starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered(&["pipeline", "val"]), ["validate"]);
    assert_eq!(offered(&["pipeline", "state", "exp"]), ["export"]);
    assert_eq!(offered(&["pipeline", "run", "--cold"]), ["--cold-start"]);
    assert_eq!(offered(&["pipeline", "--log", "js"]), ["json"]);
}

#[test]
fn every_shell_is_told_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        let missing: Vec<String> = commands().into_iter().filter(|command| !script.contains(command)).collect();
        assert_eq!(missing, [""; 0], "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    said(&["man", "--out", &folder.path().display().to_string()]);
    let page = |name: &str| std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap_or_default();
    assert_eq!(page("pipeline"), said(&["man"]));
    for command in commands() {
        let text = page(&format!("pipeline-{command}"));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"), "{command}: {text}");
        let escaped = command.replace('-', "\\-");
        assert!(page("pipeline").contains(&format!("pipeline\\-{escaped}(1)")), "{command} is not in pipeline(1)");
    }
}

/// `pipelines/iot.yaml` with its state in a folder, and a dashboard.
fn iot(folder: &Path) -> PipelineRun {
    let run = pipeline().args(["run"]).args([repository().join("pipelines/iot.yaml")]);
    let run = run.args(["--dashboard", "127.0.0.1:0"]).env("STATE", folder.join("state"));
    run.env("DATABASE", folder.join("iot.db"))
}

#[tokio::test]
async fn health_says_whether_a_pipeline_is_alive_and_ready() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = iot(folder.path()).env("PIPELINE_METRICS_TOKEN", "secret").start();
    let url = Dashboard::of(&mut run).await.url;
    let ask = |args: &[&str]| pipeline().args(["health", &url]).args(args).env("PIPELINE_METRICS_TOKEN", "secret");

    let alive = ask(&[]).start().wait().await;
    assert_eq!((alive.code, alive.stdout.as_str()), (Some(0), "alive\n"));
    let is_ready = async || ask(&["--ready"]).start().wait().await.stdout == "ready\n";
    eventually(Duration::from_secs(60), "the pipeline is ready", is_ready).await;

    let refused = ask(&[]).env("PIPELINE_METRICS_TOKEN", "wrong").start().wait().await;
    refused.assert_code(2);
    assert!(refused.stderr.contains("wants another token"), "{}", refused.stderr);

    run.terminate();
    run.wait().await.assert_code(0);
    let gone = ask(&[]).start().wait().await;
    gone.assert_code(1);
    assert!(gone.stderr.contains("no answer from"), "{}", gone.stderr);
}

#[tokio::test]
async fn health_says_why_a_pipeline_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = "sinks.alerts={ type: webhook, inputs: spikes, url: 'http://127.0.0.1:1/' }";
    let mut run = iot(folder.path()).args(["--set", nowhere]).start();
    let url = Dashboard::of(&mut run).await.url;
    let says_why = async || {
        let finished = pipeline().args(["health", "--ready", &url]).start().wait().await;
        finished.code == Some(1) && finished.stderr.contains("error: not ready: alerts: ")
    };
    eventually(Duration::from_secs(60), "the outbox fails", says_why).await;
    run.terminate();
    run.wait().await;
}
