//! The engine: a pipeline file becomes a graph, a plan, tasks.
//!
//! ```text
//! file → graph → plan (nothing opened) → run: tasks → epoch log, sinks with marks, checkpoints
//! ```

pub mod bench;
#[cfg(feature = "deliberate-bugs")]
pub mod bugs;
#[cfg(not(feature = "deliberate-bugs"))]
mod bugs;
pub mod changes;
pub mod diagnostics;
pub mod explain;
pub mod expression;
pub mod file;
mod fixed_hash;
pub mod graph;
pub mod plan;
pub mod run;
pub mod schema;
pub mod store;
