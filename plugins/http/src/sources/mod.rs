//! Sources that ask for rows by HTTP, or are sent them.

mod poll;
mod push;

use pipeline_stage::StageType;

/// All of them.
pub fn stages() -> Vec<StageType> {
    vec![StageType::source::<poll::HttpOptions>(), StageType::source::<push::HttpPushOptions>()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_sources_say_about_themselves_is_true() {
        super::stages().iter().for_each(pipeline_testkit::checks_out);
    }
}
