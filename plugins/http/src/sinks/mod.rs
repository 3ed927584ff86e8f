//! Sinks that deliver alerts by HTTP.

mod slack;
mod webhook;

use pipeline_stage::{Pace, Rate, Result, Span, StageError, StageType, WhenFull};

/// All of them.
pub fn stages() -> Vec<StageType> {
    vec![StageType::sink::<slack::SlackOptions>(), StageType::sink::<webhook::WebhookOptions>()]
}

/// Ten seconds: a healthy service answers within one, and an alert that waits longer is better tried again.
fn default_timeout() -> Span {
    Span(std::time::Duration::from_secs(10))
}

/// A thousand alerts that nobody has seen say no more than a summary of them does.
fn default_max_pending() -> u64 {
    1_000
}

/// Checks the options that all sinks of this crate share.
fn pace(rate: Rate, timeout: Span, max_pending: u64, when_full: WhenFull) -> Result<Pace> {
    if timeout.0.is_zero() {
        return Err(StageError::config("`timeout` is 0s, it must be above 0s").at_option("timeout"));
    }
    if max_pending == 0 {
        return Err(StageError::config("`max_pending` is 0, it must be at least 1").at_option("max_pending"));
    }
    Ok(Pace { at_most_every: rate.interval(), timeout: timeout.0, max_pending, when_full })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_sinks_say_about_themselves_is_true() {
        super::stages().iter().for_each(pipeline_testkit::checks_out);
    }
}
