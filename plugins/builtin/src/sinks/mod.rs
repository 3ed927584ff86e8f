//! Sinks: where rows go.

mod columns;
pub mod console;
pub mod discard;
pub mod file;
#[cfg(test)]
mod fixtures;

use pipeline_stage::StageType;

/// All sinks of this crate.
pub fn stages() -> Vec<StageType> {
    vec![
        StageType::sink::<console::ConsoleOptions>(),
        StageType::sink::<file::FileSinkOptions>(),
        StageType::sink::<discard::DiscardOptions>(),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_sinks_say_about_themselves_is_true() {
        super::stages().iter().for_each(pipeline_testkit::checks_out);
    }
}
