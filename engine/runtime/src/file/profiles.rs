//! `profiles:` of a file, and what layers from outside may change.

use super::layers::{Layer, Rank, STAGE_MAPS};
use super::pointer::Pointer;
use super::tree::{Content, Node};
use crate::diagnostics::{Diagnostic, Place, did_you_mean, list, nearest};

/// The names of the profiles.
pub(super) fn names(root: &Node) -> Vec<String> {
    let profiles = root.entry("profiles").map_or(&[][..], |entry| entry.node.entries());
    profiles.iter().map(|entry| entry.key.clone()).collect()
}

/// The file's own layer.
pub(super) fn without(root: &Node) -> Layer {
    let entries = root.entries().iter().filter(|entry| entry.key != "profiles").cloned().collect();
    let node = Node { range: root.range.clone(), content: Content::Map(entries) };
    Layer { source: 0, root: Pointer::default(), rank: Rank::File, node }
}

/// The layer of the profile that was asked for; none when none was, or it is empty.
///
/// # Errors
/// When there is no such profile, or it is no map.
pub(super) fn find(root: &Node, name: Option<&str>) -> Result<Option<Layer>, Box<Diagnostic>> {
    let all = root.entry("profiles");
    if let Some(entry) = all.filter(|entry| !matches!(entry.node.content, Content::Map(_)) && !entry.node.is_null()) {
        let place = Place { source: 0, range: entry.key_range.clone() };
        return Err(Box::new(
            Diagnostic::error("`profiles` must be a map from names to what they change").at(place, ""),
        ));
    }
    let Some(name) = name else { return Ok(None) };
    let Some(entry) = all.and_then(|all| all.node.entry(name)) else { return Err(Box::new(unknown(root, name))) };
    match &entry.node.content {
        Content::Map(_) => {
            let root = Pointer::new(["profiles", name]);
            Ok(Some(Layer { source: 0, root, rank: Rank::Profile, node: entry.node.clone() }))
        }
        _ if entry.node.is_null() => Ok(None),
        _ => {
            let place = Place { source: 0, range: entry.node.range.clone() };
            let problem = Diagnostic::error(format!("the profile `{name}` must be a map of what it changes"));
            Err(Box::new(problem.at(place, "")))
        }
    }
}

fn unknown(root: &Node, name: &str) -> Diagnostic {
    let names = names(root);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let problem = Diagnostic::error(format!("no profile is called `{name}`"));
    let problem = match root.entry("profiles") {
        Some(entry) => {
            let meant = did_you_mean(nearest(name, names.iter().copied()));
            problem.at(Place { source: 0, range: entry.key_range.clone() }, meant)
        }
        None => problem,
    };
    match names.is_empty() {
        true => problem.note("the file has no profiles"),
        false => problem.note(format!("there is {}", list(names, "and"))),
    }
}

/// The stages that the layers so far define: map and id.
pub(super) fn stages(layers: &[Layer]) -> Vec<(String, String)> {
    let mut stages = Vec::new();
    for layer in layers {
        for map in STAGE_MAPS {
            let entries = layer.node.entry(map).map_or(&[][..], |entry| entry.node.entries());
            stages.extend(entries.iter().map(|entry| (map.to_owned(), entry.key.clone())));
        }
    }
    stages
}

/// What is wrong with a layer from outside that names a stage which is not there.
pub(super) fn unknown_stage(layer: &Layer, stages: &[(String, String)]) -> Option<Diagnostic> {
    let map = layer.node.entries().first().filter(|entry| STAGE_MAPS.contains(&entry.key.as_str()))?;
    let stage = map.node.entries().first()?;
    if stages.contains(&(map.key.clone(), stage.key.clone())) {
        return None;
    }
    let of_map = || stages.iter().filter(|(of, _)| *of == map.key).map(|(_, id)| id.as_str());
    let place = Place { source: layer.source, range: stage.key_range.clone() };
    let meant = did_you_mean(nearest(&stage.key, of_map()));
    let problem = Diagnostic::error(format!("no stage under `{}` is called `{}`", map.key, stage.key));
    Some(problem.at(place, meant).note(match list(of_map(), "and") {
        there if there.is_empty() => format!("there is none under `{}`", map.key),
        there => format!("there is {there}"),
    }))
}
