//! What changes what: the file, then its profile, then the environment, then arguments.

use std::collections::BTreeMap;

use figment::value::{Dict, Empty, Map as FigmentMap, Value as FigmentValue};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde_json::{Map, Value};

use super::pointer::Pointer;
use super::tree::{Content, Entry, Node};

/// The maps of a file that hold stages.
pub const STAGE_MAPS: [&str; 4] = ["sources", "transforms", "detectors", "sinks"];

/// What a stage keeps when a layer gives it another type: that which is no option of the type.
const KEPT: [&str; 4] = ["inputs", "when", "format", "schema"];

/// Values from one place: the file, a profile, a variable, an argument.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Index of its text in the report.
    pub source: usize,
    /// Where it stands in that text: nothing for the file, `profiles`, `production` for a profile.
    pub root: Pointer,
    /// What kind of layer it is: a higher one changes a lower one.
    pub rank: Rank,
    /// Its values.
    pub node: Node,
}

/// The layers from the bottom up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The file.
    File,
    /// One of its profiles.
    Profile,
    /// Environment variables.
    Environment,
    /// `--set`.
    Argument,
}

/// The values of all layers as one, and which layer each came from.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// The values, keys in the order of the file.
    pub value: Value,
    /// The layer of each scalar, list and map.
    pub layers: BTreeMap<Pointer, usize>,
    /// Stages that a layer took away with `id: ~`.
    pub removed: BTreeMap<Pointer, usize>,
}

/// Merges layers that are ordered from the lowest to the highest.
pub fn merge(layers: &mut [Layer]) -> Merged {
    drop_options_of_other_types(layers);
    let mut figment = Figment::new();
    for (index, layer) in layers.iter().enumerate() {
        figment = figment.merge(Provided { index, layer });
    }
    // A figment's own error would be one of a provider; these have none.
    let values = figment.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default();
    let mut merged = Merged::default();
    let reader = Reader { figment: &figment, layers };
    merged.value = Value::Object(reader.dict(&values, &Pointer::default(), &mut merged));
    merged
}

/// A layer as figment wants it; its metadata's name is the layer's number.
struct Provided<'a> {
    index: usize,
    layer: &'a Layer,
}

impl Provider for Provided<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.index.to_string())
    }

    fn data(&self) -> Result<FigmentMap<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(dict(self.layer.node.entries())))
    }
}

fn dict(entries: &[Entry]) -> Dict {
    entries.iter().map(|entry| (entry.key.clone(), figment_value(&entry.node))).collect()
}

fn figment_value(node: &Node) -> FigmentValue {
    match &node.content {
        Content::Scalar(scalar) => match &scalar.value {
            Value::Bool(truth) => (*truth).into(),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => number.into(),
                (None, Some(number)) => number.into(),
                // What is no integer of 64 bits is a float in JSON.
                (None, None) => number.as_f64().unwrap_or_default().into(),
            },
            Value::String(text) => text.clone().into(),
            _ => Empty::None.into(),
        },
        Content::List(items) => items.iter().map(figment_value).collect::<Vec<_>>().into(),
        Content::Map(entries) => dict(entries).into(),
    }
}

/// Turns figment's values back into JSON, in the order of the file, and notes which layer they came from.
struct Reader<'a> {
    figment: &'a Figment,
    layers: &'a [Layer],
}

impl Reader<'_> {
    fn dict(&self, dict: &Dict, at: &Pointer, merged: &mut Merged) -> Map<String, Value> {
        let mut map = Map::new();
        for key in self.in_written_order(dict, at) {
            let pointer = at.join(&key);
            let Some(value) = dict.get(&key) else { continue };
            let layer = self.layer_of(value);
            merged.layers.insert(pointer.clone(), layer);
            if matches!(value, FigmentValue::Empty(..)) && self.is_left_out(&pointer, layer, merged) {
                continue;
            }
            let value = self.value(value, &pointer, merged);
            map.insert(key, value);
        }
        map
    }

    /// Null takes a stage away; a stage of the file itself that has nothing below it is a mistake. An option that is
    /// null counts as not given, if there is such an option: the plan knows.
    fn is_left_out(&self, pointer: &Pointer, layer: usize, merged: &mut Merged) -> bool {
        let depth = pointer.parts().count();
        let is_stage = depth == 2 && pointer.parts().next().is_some_and(|map| STAGE_MAPS.contains(&map));
        if !is_stage || self.layers[layer].rank == Rank::File {
            return false;
        }
        merged.removed.insert(pointer.clone(), layer);
        true
    }

    fn value(&self, value: &FigmentValue, at: &Pointer, merged: &mut Merged) -> Value {
        match value {
            FigmentValue::Dict(_, dict) => Value::Object(self.dict(dict, at, merged)),
            FigmentValue::Array(_, items) => {
                let items = items.iter().enumerate().map(|(i, item)| {
                    let pointer = at.join(i);
                    merged.layers.insert(pointer.clone(), self.layer_of(item));
                    self.value(item, &pointer, merged)
                });
                items.collect()
            }
            FigmentValue::String(_, text) => text.as_str().into(),
            FigmentValue::Char(_, character) => character.to_string().into(),
            FigmentValue::Bool(_, truth) => (*truth).into(),
            FigmentValue::Empty(..) => Value::Null,
            // Numbers go in as JSON's: whole ones of 64 bits, or finite floats.
            number => serde_json::to_value(number).unwrap_or(Value::Null),
        }
    }

    fn layer_of(&self, value: &FigmentValue) -> usize {
        let metadata = self.figment.get_metadata(value.tag());
        metadata.and_then(|metadata| metadata.name.parse().ok()).unwrap_or(0)
    }

    /// figment sorts its keys; people expect those of the file.
    fn in_written_order(&self, dict: &Dict, at: &Pointer) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for layer in self.layers {
            let entries = layer.node.at(at.parts()).map_or(&[][..], Node::entries);
            for entry in entries {
                if dict.contains_key(&entry.key) && !keys.contains(&entry.key) {
                    keys.push(entry.key.clone());
                }
            }
        }
        keys
    }
}

/// Where a higher layer gives a stage another type, the options of the old type are dropped from the lower ones; the
/// same for a source's format.
fn drop_options_of_other_types(layers: &mut [Layer]) {
    for top in 1..layers.len() {
        let (below, above) = layers.split_at_mut(top);
        let Some(layer) = above.first() else { continue };
        for map in STAGE_MAPS {
            for stage in layer.node.entry(map).map_or(&[][..], |entry| entry.node.entries()) {
                drop_if_changed(below, layer.rank, &[map, &stage.key], &stage.node, &KEPT);
                if let Some(format) = stage.node.entry("format") {
                    drop_if_changed(below, layer.rank, &[map, &stage.key, "format"], &format.node, &[]);
                }
            }
        }
    }
}

fn drop_if_changed(below: &mut [Layer], rank: Rank, path: &[&str], node: &Node, kept: &[&str]) {
    let lower = below.iter().rev().filter(|layer| layer.rank < rank);
    let old = lower.filter_map(|layer| layer.node.at(path.iter().copied())).find_map(type_of);
    let is_changed = matches!((type_of(node), old), (Some(new), Some(old)) if new != old);
    if is_changed {
        let lower = below.iter_mut().filter(|layer| layer.rank < rank);
        lower.for_each(|layer| retain(&mut layer.node, path, &|key| kept.contains(&key)));
    }
}

/// `type:` of a stage or format; a format may be no more than its type.
fn type_of(node: &Node) -> Option<String> {
    let node = node.entry("type").map_or(node, |entry| &entry.node);
    node.scalar().map(|scalar| scalar.text.clone())
}

fn retain(node: &mut Node, path: &[&str], keep: &dyn Fn(&str) -> bool) {
    let Content::Map(entries) = &mut node.content else { return };
    match path.split_first() {
        None => entries.retain(|entry| keep(&entry.key)),
        Some((first, rest)) => {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *first) {
                retain(&mut entry.node, rest, keep);
            }
        }
    }
}
