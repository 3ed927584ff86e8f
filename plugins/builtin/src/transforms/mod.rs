//! Rows into rows, one file or folder each.

mod unnest;

use pipeline_stage::StageType;

/// All transforms of this crate.
pub fn stages() -> Vec<StageType> {
    vec![StageType::transform::<unnest::UnnestOptions>()]
}
