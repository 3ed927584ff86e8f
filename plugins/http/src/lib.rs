//! The stages that speak HTTP.

mod answer;
mod encoded;
mod endpoint;
mod headers;
mod sinks;
mod sources;
mod template;

use pipeline_stage::StageType;

/// All of them, in the order users see them.
pub fn stages() -> Vec<StageType> {
    [sources::stages(), sinks::stages()].concat()
}
