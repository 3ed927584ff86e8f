//! The C ABI of plugins, both sides: `include/pipeline_plugin.h` is the document of record.
//!
//! A plugin in Rust is an ordinary stage (crate `pipeline-stage`) and one line:
//!
//! ```ignore
//! pipeline_abi::export_plugin!([StageType::detector::<HeartbeatOptions>()]);
//! ```
//!
//! Sources and sinks need the feature `io`: a runtime that waits for them.
//! The engine's side, feature `host`, loads libraries and makes stages of what they export.

#![allow(
    unsafe_code,
    reason = "this crate is the boundary: raw pointers of the other side are used here, and nowhere else"
)]

#[cfg(any(feature = "host", feature = "io"))]
mod exchange;
#[cfg(feature = "host")]
pub mod host;
mod memory;
#[cfg(any(feature = "host", feature = "io"))]
mod payloads;
pub mod raw;
#[doc(hidden)]
pub mod sdk;

/// The C header, for kits that hand it to plugin authors.
pub const HEADER: &str = include_str!("../include/pipeline_plugin.h");

/// All stages but the formats, which cannot be exported.
pub fn without_formats(stages: Vec<pipeline_stage::StageType>) -> Vec<pipeline_stage::StageType> {
    stages.into_iter().filter(|stage| stage.kind != pipeline_stage::Kind::Format).collect()
}
