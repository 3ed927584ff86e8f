//! The stages that need no heavy client library. One stage is one file, named after its `type`.

mod detectors;
mod formats;
mod quotes;
mod sinks;
mod sources;

use pipeline_stage::StageType;

/// All of them, in the order users see them.
pub fn stages() -> Vec<StageType> {
    let mut stages = vec![
        StageType::source::<sources::simulator::SimulatorOptions>(),
        StageType::source::<sources::file::FileOptions>(),
        StageType::format::<formats::json::JsonOptions>(),
        StageType::format::<formats::csv::CsvOptions>(),
        StageType::detector::<detectors::zscore::ZscoreOptions>(),
    ];
    stages.extend(sinks::stages());
    stages
}
