//! docs/dependencies.md: each direct dependency with its reason, and none that is not there any more.

use std::collections::BTreeSet;

use super::repository;

/// The crates of others that `Cargo.toml` names for the workspace.
fn named() -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join("Cargo.toml")).expect("it is there");
    let part = text.split("[workspace.dependencies]").nth(1).expect("it has dependencies");
    let lines = part.split("\n[").next().unwrap_or_default().lines();
    let names = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    names.filter(|(_, value)| !value.contains("path = ")).map(|(name, _)| name.to_owned()).collect()
}

/// Those that the page has a row for, with the reason.
fn explained() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join("docs/dependencies.md")).expect("it is there");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split_once("` | "));
    rows.map(|(name, why)| (name.to_owned(), why.trim_end_matches('|').trim().to_owned())).collect()
}

#[test]
fn every_direct_dependency_has_a_reason_and_every_reason_a_dependency() {
    let explained = explained();
    let names: BTreeSet<String> = explained.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), explained.len(), "one is explained twice");
    assert_eq!(names, named(), "left: what docs/dependencies.md explains, right: what Cargo.toml names");
    assert!(30 < names.len());
    for (name, why) in explained {
        assert!(20 < why.len(), "`{name}`: `{why}` is no reason");
    }
}

#[test]
fn no_crate_names_a_version_of_its_own() {
    for folder in ["engine", "plugins", "plugins/shells", "tests", "tests/bench"] {
        for entry in std::fs::read_dir(repository().join(folder)).expect("the folder is there") {
            let manifest = entry.expect("it can be read").path().join("Cargo.toml");
            let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
            let own = text.lines().filter(|line| line.contains(" = \"") || line.contains("version = \""));
            let own: Vec<&str> = own.filter(|line| line.contains("version = \"") || is_version(line)).collect();
            assert!(own.is_empty(), "{}: {own:?}", manifest.display());
        }
    }
}

/// `serde = "1"`.
fn is_version(line: &str) -> bool {
    line.split_once(" = \"").is_some_and(|(_, value)| value.starts_with(|first: char| first.is_ascii_digit()))
}
