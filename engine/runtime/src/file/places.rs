//! Where the values of a pipeline file were written.

use std::ops::Range;

use super::layers::Layer;
use super::pointer::Pointer;
use super::tree::{Entry, Node};
use super::{PipelineFile, spans};
use crate::diagnostics::Place;

impl PipelineFile {
    /// Where a value stands: the value itself if it is on one line, else its key. For what stands nowhere, the nearest
    /// thing around it.
    pub fn place(&self, pointer: &Pointer) -> Place {
        match self.written(pointer) {
            Some((layer, node)) if self.is_on_one_line(layer, node) => place(layer, node.range.clone()),
            _ => self.key_place(pointer),
        }
    }

    /// Where the key of a value stands; for an item of a list the item.
    pub fn key_place(&self, pointer: &Pointer) -> Place {
        if let Some((layer, entry)) = self.entry(pointer) {
            return place(layer, entry.key_range.clone());
        }
        if let Some((layer, node)) = self.written(pointer).filter(|_| pointer.last().parse::<usize>().is_ok()) {
            let end = node.range.start + self.text(layer)[node.range.clone()].lines().next().map_or(0, str::len);
            return place(layer, node.range.start..end);
        }
        match pointer.parent() {
            Some(parent) => self.key_place(&parent),
            // The file as a whole: its first character.
            None => Place { source: 0, range: 0..0 },
        }
    }

    /// Where bytes of a text value stand.
    pub fn place_inside(&self, pointer: &Pointer, part: Range<usize>) -> Place {
        match self.written(pointer) {
            Some((layer, node)) => match spans::inside(self.text(layer), node, part) {
                // An empty part, at the end of a text that lacks something, is still shown by a caret.
                range if self.text(layer)[range.clone()].contains('\n') => self.key_place(pointer),
                range => place(layer, range),
            },
            None => self.place(pointer),
        }
    }

    /// The layer that decides a value, with what it wrote. A map is shown where the lowest layer has it: there it is
    /// explained.
    fn written(&self, pointer: &Pointer) -> Option<(&Layer, &Node)> {
        let decided = self.merged.layers.get(pointer).map(|&index| &self.layers[index]);
        let found = decided.and_then(|layer| Some((layer, layer.node.at(pointer.parts())?)));
        match found {
            Some((_, node)) if node.entries().is_empty() => found,
            _ => self.layers.iter().find_map(|layer| Some((layer, layer.node.at(pointer.parts())?))),
        }
    }

    fn entry(&self, pointer: &Pointer) -> Option<(&Layer, &Entry)> {
        let parent = pointer.parent()?;
        let find =
            |layer: &'_ Layer| layer.node.at(parent.parts()).and_then(|node| node.entry(pointer.last())).is_some();
        let decided = self.merged.layers.get(pointer).map(|&index| &self.layers[index]);
        let is_leaf = self.written(pointer).is_none_or(|(_, node)| node.entries().is_empty());
        let layer = match decided.filter(|layer| is_leaf && find(layer)) {
            Some(layer) => layer,
            None => self.layers.iter().find(|layer| find(layer))?,
        };
        Some((layer, layer.node.at(parent.parts())?.entry(pointer.last())?))
    }

    fn text(&self, layer: &Layer) -> &str {
        self.sources[layer.source].text()
    }

    fn is_on_one_line(&self, layer: &Layer, node: &Node) -> bool {
        !node.range.is_empty() && !self.text(layer)[node.range.clone()].contains('\n')
    }

    /// The rank of the layer that decides a value.
    pub fn rank(&self, pointer: &Pointer) -> Option<super::Rank> {
        self.merged.layers.get(pointer).map(|&index| self.layers[index].rank)
    }

    /// Whether a profile, variable or argument took this stage away, and where.
    pub fn removed(&self, pointer: &Pointer) -> Option<Place> {
        let layer = &self.layers[*self.merged.removed.get(pointer)?];
        let entry = layer.node.at(pointer.parent()?.parts())?.entry(pointer.last())?;
        Some(place(layer, entry.key_range.clone()))
    }

    /// The stages that were taken away though no lower layer has them.
    pub fn removed_for_nothing(&self) -> Vec<(Pointer, Place)> {
        let removed = self.merged.removed.iter().filter(|(pointer, index)| {
            !self.layers[..**index].iter().any(|layer| layer.node.at(pointer.parts()).is_some())
        });
        removed.filter_map(|(pointer, _)| Some((pointer.clone(), self.removed(pointer)?))).collect()
    }
}

fn place(layer: &Layer, range: Range<usize>) -> Place {
    Place { source: layer.source, range }
}
