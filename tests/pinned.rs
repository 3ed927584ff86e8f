//! What builds and releases the program is of others, too: it is named by what it contains, so that nobody can put
//! something else in its place.

use std::collections::BTreeMap;
use std::path::Path;

use crate::containers::{instructions, is_pinned, root, text};

/// The files in a folder of the repository, with their texts.
fn files_in(folder: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let named = |path: &Path| format!("{folder}/{}", path.file_name().expect("a name").to_string_lossy());
    paths.map(|path| (named(&path), text(&named(&path)))).collect()
}

/// What a line of a workflow uses, if it is of others: `name@commit # version`.
fn used(line: &str) -> Option<&str> {
    let used = line.trim_start().trim_start_matches("- ").strip_prefix("uses:")?.trim();
    (!used.starts_with("./")).then_some(used)
}

/// The action and its commit, if it is named by one and says which version that is.
fn pinned(used: &str) -> Option<(&str, &str)> {
    let (action, version) = used.split_once(" # v")?;
    let (name, commit) = action.split_once('@')?;
    let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_version = version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok());
    (is_commit && is_version).then_some((name, used))
}

#[test]
fn every_action_is_named_by_its_commit_and_everywhere_by_the_same() {
    let (mut chosen, mut n_used) = (BTreeMap::new(), 0);
    for (file, workflow) in files_in(".github/workflows") {
        for used in workflow.lines().filter_map(used) {
            let (name, used) = pinned(used).unwrap_or_else(|| panic!("{file}: {used}"));
            let other = *chosen.entry(name.to_owned()).or_insert_with(|| used.to_owned()) == *used;
            assert!(other, "{file}: {used}, elsewhere {}", chosen[name]);
            n_used += 1;
        }
    }
    assert!(20 <= n_used, "only {n_used}");
    for loose in ["actions/cache@v4", "actions/cache@v4.2.3 # v4.2.3", "actions/cache@5a3ec84 # v4.2.3"] {
        assert!(pinned(loose).is_none(), "{loose}");
    }
}

#[test]
fn a_checkout_leaves_no_token_behind() {
    for (file, workflow) in files_in(".github/workflows") {
        let [checkouts, without] =
            ["actions/checkout@", "persist-credentials: false"].map(|words| workflow.matches(words).count());
        assert_eq!(checkouts, without, "{file}");
    }
}

#[test]
fn what_a_release_is_built_in_is_pinned() {
    let portable = text(".ci/portable");
    let value = |name: &str| {
        let value = portable.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).expect("it is set");
        value.to_owned()
    };
    assert!(is_pinned(&value("image")), "{}", value("image"));
    assert_eq!(portable.matches(" sha256=").count(), 2, "of rustup, for each processor");
    assert!(portable.contains("sha256sum --check --strict"));
    assert!(!portable.contains("sh.rustup.rs"), "what it gives is another thing tomorrow");
    let oldest = text("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned));
    let toolchain = format!("{}.0", oldest.expect("a version").trim_matches('"'));
    assert_eq!(value("rust"), toolchain);
    assert!(instructions("FROM")[0].starts_with(&format!("rust:{toolchain}-")));
    for (file, workflow) in files_in(".github/workflows") {
        let lines = workflow.lines().filter(|line| line.contains("rustup toolchain install"));
        lines.for_each(|line| assert!(line.contains(&format!("install {toolchain} ")), "{file}: {line}"));
    }
}

#[test]
fn whatever_is_released_is_built_so_that_others_get_the_same_bytes() {
    for (file, start) in [
        ("Makefile", "dist:\n\t.ci/reproducible build --release "),
        (".ci/portable", "\n  .ci/reproducible build --release "),
    ] {
        assert!(text(file).contains(start), "{file}");
    }
    // OpenSSL keeps the folder of its build, and no flag takes it out: there is one on all machines.
    assert!(text(".ci/portable").contains("--volume \"$PWD:/source\" --workdir /source "));
    let nightly = text(".github/workflows/nightly.yml");
    for checkout in ["one", "another/place"] {
        assert!(nightly.contains(&format!("- run: {checkout}/.ci/portable\n")), "{checkout}");
    }
    // The image has no git and not this script: its flags are those for the folder of its build.
    let flags = text(".ci/reproducible").replace("$source", "/build").replace("$home", "/usr/local/cargo");
    let in_image = instructions("ENV").into_iter().find(|set| set.contains("RUSTFLAGS")).expect("flags");
    let of_script = |name: &str| {
        let start = format!("local {name}=\"");
        let set = flags.lines().find_map(|line| line.trim_start().strip_prefix(&start)).expect("flags");
        set.trim_end_matches('"')
    };
    for name in ["remap", "fast", "prefix"] {
        assert!(in_image.contains(of_script(name)), "{} is not in {in_image}", of_script(name));
    }
    // Whoever builds without either has C that is as fast.
    let config = text(".cargo/config.toml");
    assert!(config.contains(&format!("\nCFLAGS = \"{}\"\n", of_script("fast"))), "{config}");
}
