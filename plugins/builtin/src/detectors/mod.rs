//! Models of one series, one file each.

mod zscore;

use pipeline_stage::StageType;

/// All detectors of this crate.
pub fn stages() -> Vec<StageType> {
    vec![StageType::detector::<zscore::ZscoreOptions>()]
}
