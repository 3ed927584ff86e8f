//! What a plugin is built against; the binary carries it.

/// The crates `pipeline-stage` and `pipeline-abi`: path below `sdk/`, and text. Packed by `build.rs`.
pub const CRATES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The versions of their dependencies that were tested.
pub const LOCK: &str = include_str!(concat!(env!("OUT_DIR"), "/sdk.lock"));

/// The versions that a scaffold names, as the SDK does.
pub fn dependency(name: &str) -> String {
    let manifests = CRATES.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    let lines = manifests.flat_map(|(_, text)| text.lines());
    let mut found = lines.filter_map(|line| line.split_once(" = ")).filter(|(of, _)| *of == name);
    let (_, version) = found.next().expect("the SDK needs it, too");
    // Optional is what not every scaffold needs.
    format!("{name} = {}", version.replace(", optional = true", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_has_the_plugins_side_and_not_the_engines() {
        let paths: Vec<&str> = CRATES.iter().map(|(path, _)| *path).collect();
        for needed in ["pipeline-stage/Cargo.toml", "pipeline-stage/src/lib.rs", "pipeline-abi/src/sdk/mod.rs"] {
            assert!(paths.contains(&needed), "{needed}: {paths:?}");
        }
        assert!(paths.iter().all(|path| !path.contains("/host/") && !path.contains("/tests/")), "{paths:?}");
        let size: usize = CRATES.iter().map(|(_, text)| text.len()).sum();
        assert!(size < 500_000, "{size} bytes");
    }

    #[test]
    fn the_sdks_manifests_need_no_workspace_and_nothing_of_the_engine() {
        for (path, text) in CRATES.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
            assert!(!text.contains("workspace"), "{path}: {text}");
            assert!(!text.contains("libloading") && !text.contains("testkit"), "{path}: {text}");
        }
        assert_eq!(dependency("serde"), "serde = { version = \"1\", features = [\"derive\", \"rc\"] }");
        assert!(LOCK.contains("name = \"arrow-array\"") && !LOCK.contains("name = \"rdkafka\""));
        assert!(!LOCK.contains("name = \"arrow-cast\""), "the kernels of Arrow take minutes to build");
    }
}
