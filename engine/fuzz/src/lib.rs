//! What comes from outside, given bytes that nobody would think of: each target takes any bytes and panics when a law is
//! broken.
//!
//! A law is more than "it does not crash": what is decoded in two ways is the same, what was accepted once is accepted
//! again, and what is refused is refused in words.
//!
//! `cargo test -p pipeline-fuzz` gives the targets their corpus and changed copies of it, on any compiler; `.ci/fuzz`
//! lets libFuzzer look for inputs that reach new code.

mod boundary;
mod csv;
mod expressions;
mod files;
mod formats;
mod json;
mod state;
mod stored;

/// One of the things that take bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its folder in `corpus/`.
    pub name: &'static str,
    /// Checks the laws on these bytes; true when they were accepted as something that is right.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "json", run: json::run },
    Target { name: "csv", run: csv::run },
    Target { name: "files", run: files::run },
    Target { name: "expressions", run: expressions::run },
    Target { name: "checkpoints", run: stored::checkpoints },
    Target { name: "outbox", run: stored::outbox },
    Target { name: "marks", run: stored::marks },
    Target { name: "state", run: state::run },
    Target { name: "boundary", run: boundary::run },
];
