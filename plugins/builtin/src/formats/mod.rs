//! How payloads become rows, one file for each format; what they share is in `rows`, `value` and `time`.

mod building;
mod csv;
#[cfg(test)]
mod fixtures;
mod json;
mod rows;
pub(crate) mod time;
mod value;

use pipeline_stage::StageType;

/// All formats of this crate.
pub fn stages() -> Vec<StageType> {
    vec![StageType::format::<json::JsonOptions>(), StageType::format::<csv::CsvOptions>()]
}
