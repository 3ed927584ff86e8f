//! The contract between the engine and its stages: read this crate first.
//!
//! A *source* gives rows, *transforms* and *detectors* turn rows into rows, *sinks* take them. Each is made of its
//! options, a struct that is also its documentation and its schema. The engine (crate `pipeline-runtime`) connects
//! them to tasks and keeps their state; this crate has no async runtime, no I/O, and no
//! `unsafe` but where memory is asked for ahead of its use.
//!
//! | to write a … | implement | and list it with |
//! |---|---|---|
//! | source | [`SourceOptions`], [`Source`], [`Reader`] | [`StageType::source`] |
//! | format | [`FormatOptions`], [`Format`] | [`StageType::format`] |
//! | transform | [`TransformOptions`], [`Transform`] | [`StageType::transform`] |
//! | detector | [`DetectorOptions`], [`Detector`] | [`StageType::detector`] |
//! | sink | [`SinkOptions`], [`Sink`] or [`OutboxSink`] | [`StageType::sink`] |

mod cell;
mod context;
mod detector;
mod error;
mod format;
mod history;
mod json;
pub mod keyed;
mod options;
mod position;
mod printable;
mod processor;
mod registry;
mod rows;
mod short_copy;
mod sink;
mod source;
mod state;
mod transform;

pub use cell::*;
pub use context::*;
pub use detector::*;
pub use error::*;
pub use format::*;
pub use history::*;
pub use json::*;
pub use options::*;
pub use position::*;
pub use printable::*;
pub use processor::{prefetch, with_fused_products};
pub use registry::*;
pub use rows::*;
pub use short_copy::*;
pub use sink::*;
pub use source::*;
pub use state::{SavedState, StateWriter, decode, encode};
pub use transform::*;
