//! Where rows come from, one file or folder each.

mod file;
mod simulator;

use pipeline_stage::StageType;

/// All sources of this crate.
pub fn stages() -> Vec<StageType> {
    vec![StageType::source::<simulator::SimulatorOptions>(), StageType::source::<file::FileOptions>()]
}
