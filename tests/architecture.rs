//! Which crate may know which, and where `unsafe` may stand.

use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// The crates of ours that a crate needs to be built, not those its tests need.
fn needs(folder: &Path) -> Vec<String> {
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    let dependencies = text.split("[dependencies]").nth(1).expect("it has dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let names = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("pipeline-")).map(String::from).collect()
}

fn folders(of: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(of)).expect("the folder is there");
    let folders = entries.map(|entry| entry.expect("it can be read").path());
    folders.filter(|folder| folder.join("Cargo.toml").exists()).collect()
}

#[test]
fn plugins_know_the_contract_and_no_engine() {
    let plugins = folders("plugins");
    assert!(5 <= plugins.len(), "{plugins:?}");
    for plugin in plugins {
        let is_library = plugin.ends_with("example-rust");
        let allowed: &[&str] = match is_library {
            true => &["pipeline-stage", "pipeline-abi"],
            false => &["pipeline-stage", "pipeline-connections", "pipeline-inbox", "pipeline-tables"],
        };
        let needed = needs(&plugin);
        assert!(needed.iter().all(|name| allowed.contains(&name.as_str())), "{}: {needed:?}", plugin.display());
    }
}

#[test]
fn a_shell_knows_its_plugin_and_the_boundary() {
    let shells = folders("plugins/shells");
    assert!(!shells.is_empty());
    for shell in shells {
        let plugin = shell.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        assert_eq!(needs(&shell), ["pipeline-abi".to_owned(), format!("pipeline-{plugin}")], "{}", shell.display());
    }
}

#[test]
fn the_engine_names_no_plugin() {
    assert!(needs(&repository().join("engine/stage")).is_empty());
    assert!(needs(&repository().join("engine/connections")).is_empty());
    assert_eq!(needs(&repository().join("engine/runtime")), ["pipeline-stage"]);
    assert_eq!(needs(&repository().join("engine/testkit")), ["pipeline-stage"]);
    assert_eq!(needs(&repository().join("engine/blocking")), ["pipeline-stage"]);
    assert_eq!(needs(&repository().join("engine/abi")), ["pipeline-stage", "pipeline-blocking"]);
    assert_eq!(needs(&repository().join("engine/python")), ["pipeline-stage", "pipeline-blocking"]);
}

#[test]
fn nothing_but_the_simulation_is_built_with_deliberate_bugs() {
    let crates = ["engine", "plugins", "plugins/shells", "tests", "tests/bench"].into_iter().flat_map(folders);
    for folder in crates.filter(|folder| !folder.ends_with("engine/simulation")) {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("it can be read");
        let asks = manifest.contains("\"deliberate-bugs\"") || manifest.contains("pipeline-simulation");
        assert!(!asks, "{}", folder.display());
    }
}

/// Where `unsafe` may stand: the boundary to plugins, an option of the allocator, two instructions of the processor, and two
/// calls of librdkafka. Elsewhere the lint forbids it.
const UNSAFE: [&str; 5] = [
    "engine/abi/src/",
    "engine/cli/src/memory.rs",
    "engine/stage/src/processor.rs",
    "plugins/kafka/src/sources/batch_call.rs",
    "plugins/kafka/src/sources/topic_id.rs",
];

/// Where the lint is lifted: for these, and in the line that makes a library of stages.
const ALLOWS: [&str; 6] = [
    "engine/abi/src/lib.rs",
    "engine/abi/src/sdk/mod.rs",
    "engine/cli/src/memory.rs",
    "engine/stage/src/processor.rs",
    "plugins/kafka/src/sources/batch_call.rs",
    "plugins/kafka/src/sources/topic_id.rs",
];

/// All files with Rust of ours but this one, by their paths in the repository.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["engine", "plugins", "tests"] {
        visit(&repository().join(folder), &mut found);
    }
    assert!(100 < found.len(), "{} files were found", found.len());
    found
}

fn visit(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            visit(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("architecture.rs") {
            let text = std::fs::read_to_string(&path).expect("source is text");
            let path = path.strip_prefix(repository()).expect("it is in the repository");
            found.push((path.display().to_string(), text));
        }
    }
}

fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe extern \"C\" {")
}

#[test]
fn unsafe_stands_where_it_may_and_nowhere_else() {
    let files = sources();
    let with_unsafe: Vec<&String> =
        files.iter().filter(|(_, text)| text.lines().any(is_unsafe)).map(|(path, _)| path).collect();
    let elsewhere: Vec<_> = with_unsafe.iter().filter(|file| !UNSAFE.iter().any(|may| file.starts_with(may))).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    for may in UNSAFE {
        assert!(with_unsafe.iter().any(|file| file.starts_with(may)), "`unsafe` is not needed in {may} any more");
    }
    let lifts = |text: &str| {
        let text: String = text.split_whitespace().collect();
        text.contains("allow(unsafe_code") || text.contains("expect(unsafe_code")
    };
    let mut lifted: Vec<&String> = files.iter().filter(|(_, text)| lifts(text)).map(|(path, _)| path).collect();
    lifted.sort();
    assert_eq!(lifted, ALLOWS, "the lint is lifted there");
}

/// The comment may stand above the first line of the statement.
fn says_why(above: &[&str]) -> bool {
    for line in above.iter().rev().map(|line| line.trim()) {
        match line.strip_prefix("//") {
            Some(comment) if comment.trim().starts_with("SAFETY: ") => return true,
            None if line.is_empty() || line.ends_with([';', '{', '}']) => return false,
            _ => {}
        }
    }
    false
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let (mut checked, mut without) = (0, Vec::new());
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for number in (0..lines.len()).filter(|number| is_unsafe(lines[*number])) {
            checked += 1;
            if !says_why(&lines[..number]) {
                without.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(100 < checked, "{checked} blocks were found");
    assert!(without.is_empty(), "no `// SAFETY:` directly above: {without:#?}");
}

#[test]
fn every_crate_keeps_the_lints_of_the_workspace() {
    let crates = ["engine", "plugins", "plugins/shells", "tests", "tests/bench"].map(folders).concat();
    assert!(10 <= crates.len(), "{crates:?}");
    for folder in crates {
        let text = std::fs::read_to_string(folder.join("Cargo.toml")).expect("it can be read");
        assert!(text.contains("[lints]\nworkspace = true"), "{}", folder.display());
    }
}
