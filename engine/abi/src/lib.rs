//! The C ABI of plugins, both sides: `include/pipeline_plugin.h` is the document of record.
//!
//! A plugin in Rust is an ordinary stage (crate `pipeline-stage`) and one line:
//!
//! ```ignore
//! pipeline_abi::export_plugin!([StageType::detector::<HeartbeatOptions>()]);
//! ```
//!
//! The engine's side, feature `host`, loads libraries and makes stages of what they export. This version of the ABI
//! has transforms and detectors.

#![allow(
    unsafe_code,
    reason = "this crate is the boundary: raw pointers of the other side are used here, and nowhere else"
)]

#[cfg(feature = "host")]
pub mod host;
mod memory;
pub mod raw;
#[doc(hidden)]
pub mod sdk;

/// The C header, for kits that hand it to plugin authors.
pub const HEADER: &str = include_str!("../include/pipeline_plugin.h");
