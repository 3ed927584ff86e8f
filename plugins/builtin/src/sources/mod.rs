//! Where rows come from, one file or folder each.

pub mod file;
pub mod simulator;
