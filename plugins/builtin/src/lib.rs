//! The stages that need no heavy client library. One stage is one file, named after its `type`.

mod detectors;
mod formats;
mod quotes;
mod sinks;
mod sources;
mod transforms;

use pipeline_stage::StageType;

pub use sinks::console::Lines;

/// All of them, in the order users see them.
pub fn stages() -> Vec<StageType> {
    [sources::stages(), formats::stages(), transforms::stages(), detectors::stages(), sinks::stages()]
        .into_iter()
        .flatten()
        .collect()
}
