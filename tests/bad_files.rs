//! Every file under `tests/bad-files` is wrong, or worth a warning; `NAME.txt` is all that `pipeline validate` says of
//! `NAME.yaml`, and its exit code. A file may begin with comments that give the command arguments and variables:
//! `# arguments: --profile quiet` and `# environment: NAME=value`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p pipeline-cli --test files` writes what is said now; read the difference as
//! somebody who has made the mistake.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bad-files")
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder of bad files");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut names: Vec<String> = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// What a comment at the head of a file says.
fn directive<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("# {name}: ");
    text.lines().filter_map(|line| line.strip_prefix(start.as_str())).flat_map(str::split_whitespace).collect()
}

fn said_of(name: &str, format: &str) -> (String, String) {
    let file = format!("{name}.yaml");
    let bytes = std::fs::read(folder().join(&file)).expect("a bad file");
    let text = String::from_utf8_lossy(&bytes);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
    command.current_dir(folder()).env_clear();
    command.args(["validate", &file, "--format", format]).args(directive(&text, "arguments"));
    for variable in directive(&text, "environment") {
        command.envs(variable.split_once('='));
    }
    let output = command.output().expect("the command runs");
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let code = output.status.code().expect("an exit code");
    (format!("{}\nexit code {code}\n", err.expect("UTF-8").trim_end()), out.expect("UTF-8"))
}

#[test]
fn every_bad_file_is_explained() {
    let is_update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let names = names();
    let mut differences = String::new();
    for name in &names {
        let golden = folder().join(format!("{name}.txt"));
        let (said, _) = said_of(name, "human");
        if is_update {
            std::fs::write(&golden, &said).expect("the golden file can be written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            let _ = writeln!(differences, "--- {name}, expected:\n{expected}\n--- but it says:\n{said}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert!(60 <= names.len(), "there are only {} bad files", names.len());
}

#[test]
fn each_is_an_error_or_a_warning_with_a_place_in_json_too() {
    for name in names() {
        let (_, json) = said_of(&name, "json");
        let diagnostics: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
        assert!(!diagnostics.is_empty(), "{name} is not wrong");
        for diagnostic in diagnostics {
            let severity = diagnostic["severity"].as_str();
            assert!(matches!(severity, Some("error" | "warning")), "{name}: {diagnostic}");
            assert!(diagnostic["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}: {diagnostic}");
            let has_place = diagnostic["line"].as_u64().is_some_and(|line| 0 < line);
            let has_none = ["profile_without_profiles", "not_utf8"].contains(&name.as_str());
            assert!(has_place || has_none, "{name}: {diagnostic}");
        }
    }
}

#[test]
fn no_secret_is_shown() {
    for name in names() {
        let (said, json) = said_of(&name, "human");
        assert!(!said.contains("hush") && !json.contains("hush"), "{name}: {said}");
    }
}
