//! How payloads become rows, one file for each format; what they share is in `rows`, `value` and `time`.

pub(crate) mod building;
mod csv;
pub(crate) mod eight;
#[cfg(test)]
mod fixtures;
mod json;
mod rows;
mod text;
pub(crate) mod time;
pub(crate) mod value;

use pipeline_stage::StageType;

/// All formats of this crate.
pub fn stages() -> Vec<StageType> {
    vec![
        StageType::format::<json::JsonOptions>(),
        StageType::format::<csv::CsvOptions>(),
        StageType::format::<text::TextOptions>(),
    ]
}
