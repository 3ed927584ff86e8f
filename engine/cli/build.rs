//! Packs the SDK for plugins in Rust into the binary: `pipeline plugin new` writes it beside a scaffold.
//!
//! The SDK is the source of the crates `pipeline-stage` and `pipeline-abi`, without the engine's side, with manifests
//! that need no workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The crates, with their folders below `engine/`.
const CRATES: [(&str, &str); 2] = [("pipeline-stage", "stage"), ("pipeline-abi", "abi")];
/// What is the engine's side alone.
const LEFT_OUT: &str = "host";

fn main() -> io::Result<()> {
    let engine = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo says where this is")).join("..");
    let root = engine.join("..");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo says where to write"));
    let workspace = Workspace::read(&root.join("Cargo.toml"))?;
    let mut list = String::from("&[\n");
    for (name, folder) in CRATES {
        let folder = engine.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let manifest = out.join(format!("{name}.toml"));
        fs::write(&manifest, workspace.manifest(name, &fs::read_to_string(folder.join("Cargo.toml"))?))?;
        entry(&mut list, &format!("{name}/Cargo.toml"), &manifest);
        for part in ["src", "include"].iter().filter(|part| folder.join(part).is_dir()) {
            files(&folder.join(part), &format!("{name}/{part}"), &mut list)?;
        }
    }
    list.push(']');
    fs::write(out.join("sdk.rs"), list)?;
    let lock = root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    fs::write(out.join("sdk.lock"), lock_of_sdk(&fs::read_to_string(lock)?))
}

fn entry(list: &mut String, path: &str, file: &Path) {
    writeln!(list, "    ({path:?}, include_str!({:?})),", file.display().to_string()).expect("text can be written to");
}

fn files(folder: &Path, path: &str, list: &mut String) -> io::Result<()> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    found.sort();
    for file in found {
        let name = file.file_name().expect("it is in a folder").to_string_lossy().into_owned();
        if file.is_dir() && name != LEFT_OUT {
            files(&file, &format!("{path}/{name}"), list)?;
        } else if file.is_file() {
            entry(list, &format!("{path}/{name}"), &file);
        }
    }
    Ok(())
}

/// What crates inherit from the workspace's manifest, line by line: it is ours, and simple.
struct Workspace {
    package: BTreeMap<String, String>,
    dependencies: BTreeMap<String, String>,
}

impl Workspace {
    fn read(manifest: &Path) -> io::Result<Self> {
        println!("cargo::rerun-if-changed={}", manifest.display());
        let text = fs::read_to_string(manifest)?;
        let pairs = |section: &str| {
            let body = text.split(&format!("\n[{section}]\n")).nth(1).expect("the workspace has this section");
            let lines = body.split("\n[").next().unwrap_or_default().lines();
            lines.filter_map(|line| line.split_once(" = ")).map(|(name, value)| (name.into(), value.into())).collect()
        };
        Ok(Workspace { package: pairs("workspace.package"), dependencies: pairs("workspace.dependencies") })
    }

    /// The manifest of a crate with what it inherits written out, and without what is for the engine or for tests.
    fn manifest(&self, name: &str, inherited: &str) -> String {
        let mut manifest = format!("[package]\nname = \"{name}\"\n");
        for (key, value) in &self.package {
            writeln!(manifest, "{key} = {value}").expect("text can be written to");
        }
        let section = |section: &str| {
            let body = inherited.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_default();
            body.split("\n[").next().unwrap_or_default().lines()
        };
        let features = section("features").filter(|line| line.starts_with("io = "));
        manifest.push_str("\n[features]\n");
        features.for_each(|line| writeln!(manifest, "{line}").expect("text can be written to"));
        manifest.push_str("\n[dependencies]\n");
        for line in section("dependencies") {
            let dependency = line.split(['.', ' ']).next().unwrap_or_default();
            let is_optional = line.contains("optional");
            // The only optional dependency that is not the engine's.
            if dependency.is_empty() || dependency.starts_with('#') || (is_optional && dependency != "tokio") {
                continue;
            }
            writeln!(manifest, "{dependency} = {}", self.dependency(dependency, is_optional))
                .expect("text can be written to");
        }
        manifest.push_str("\n[lints.rust]\n# The engine's side is left out.\n");
        manifest.push_str("unexpected_cfgs = { level = \"warn\", check-cfg = ['cfg(feature, values(\"host\"))'] }\n");
        manifest
    }

    fn dependency(&self, name: &str, is_optional: bool) -> String {
        let written = &self.dependencies[name];
        match written.strip_suffix(" }") {
            _ if CRATES.iter().any(|(of_sdk, _)| *of_sdk == name) => format!("{{ path = \"../{name}\" }}"),
            Some(table) if is_optional => format!("{table}, optional = true }}"),
            None if is_optional => format!("{{ version = {written}, optional = true }}"),
            _ => written.clone(),
        }
    }
}

/// Of `Cargo.lock` the packages that the SDK needs: a scaffold is built with the versions that were tested.
fn lock_of_sdk(lock: &str) -> String {
    let (head, packages) = lock.split_once("[[package]]\n").expect("there are packages");
    let packages: Vec<&str> = packages.split("[[package]]\n").collect();
    let (mut needed, mut open) = (BTreeSet::new(), CRATES.map(|(name, _)| name.to_owned()).to_vec());
    while let Some(wanted) = open.pop() {
        // `name`, or `name version` where there are several of one name.
        let (name, version) =
            wanted.split_once(' ').map_or((wanted.as_str(), None), |(name, version)| (name, Some(version)));
        for (number, package) in packages.iter().enumerate() {
            let is_it =
                field(package, "name") == name && version.is_none_or(|version| field(package, "version") == version);
            if is_it && needed.insert(number) {
                // Of ours, others are for the engine or for tests.
                let is_needed = |of: &String| !of.starts_with("pipeline-") || CRATES.iter().any(|(name, _)| name == of);
                open.extend(dependencies_of(package).into_iter().filter(is_needed));
            }
        }
    }
    let kept: Vec<String> =
        needed.iter().map(|number| format!("[[package]]\n{}\n", packages[*number].trim_end())).collect();
    format!("{head}{}", kept.join("\n"))
}

fn field<'a>(package: &'a str, name: &str) -> &'a str {
    let start = format!("{name} = \"");
    let mut lines = package.lines().filter_map(|line| line.strip_prefix(&start));
    lines.next().map_or("", |value| value.trim_end_matches('"'))
}

fn dependencies_of(package: &str) -> Vec<String> {
    let list = package.split("dependencies = [").nth(1).and_then(|list| list.split(']').next()).unwrap_or_default();
    list.lines().map(|line| line.trim().trim_matches([',', '"']).to_owned()).filter(|name| !name.is_empty()).collect()
}
