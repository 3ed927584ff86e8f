//! `heartbeat`: how much larger the step to this reading is than the steps before it.

use pipeline_stage::{Detector, DetectorOptions, Reading, Result, Score, StageError, StageOptions, StageType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pipeline_abi::export_plugin!([StageType::detector::<HeartbeatOptions>()]);

/// Scores a reading by how many times larger its step is than steps of its series usually are.
///
/// A step is the distance to the reading before it. What is usual is learned from the latest steps; one that is an
/// anomaly counts as much as `threshold` allows, so that an outlier does not become the norm. There is no score for
/// the first readings of a series, nor while it does not move at all.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatOptions {
    /// How many times larger than usual a step must be to be an anomaly.
    #[serde(default = "default_threshold")]
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub threshold: f64,
    /// From how many steps the usual one is learned: with more of them it changes more slowly.
    #[serde(default = "default_memory")]
    #[schemars(range(min = 2, max = 100_000))]
    pub memory: u32,
}

fn default_threshold() -> f64 {
    4.0
}

fn default_memory() -> u32 {
    30
}

/// Fewer steps say little about what is usual.
const MIN_STEPS: u32 = 8;

impl StageOptions for HeartbeatOptions {
    const NAME: &'static str = "heartbeat";
    const EXAMPLE: &'static str = "
jumps:
  type: heartbeat
  inputs: [readings]
  value: value
  threshold: 4.0
";
}

impl DetectorOptions for HeartbeatOptions {
    type Detector = HeartbeatOptions;

    fn build(self) -> Result<HeartbeatOptions> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        if self.threshold.is_nan() || self.threshold <= 1.0 {
            return wrong("threshold", format!("`threshold` is {}, it must be above 1", self.threshold));
        }
        if self.memory < 2 {
            return wrong("memory", format!("`memory` is {}, it must be at least 2", self.memory));
        }
        Ok(self)
    }
}

/// What is remembered of a series: the engine keeps it, saves it, and gives it back after a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Past {
    last: Option<f64>,
    usual_step: f64,
    steps: u32,
}

impl Detector for HeartbeatOptions {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "step_ratio";
    type Series = Past;

    fn start(&self) -> Past {
        Past::default()
    }

    fn score(&self, past: &Past, reading: &Reading) -> Option<Score> {
        let last = past.last?;
        let is_warm = MIN_STEPS <= past.steps && 0.0 < past.usual_step;
        if !is_warm {
            return None;
        }
        let step = step(last, reading);
        let ratio = (step / past.usual_step).min(f64::MAX);
        let margin = self.threshold * past.usual_step;
        Some(Score {
            score: ratio / self.threshold,
            is_anomaly: self.threshold < ratio,
            expected: last,
            lower: last - margin,
            upper: last + margin,
            statistic: ratio,
        })
    }

    fn remember(&self, past: &mut Past, reading: &Reading, _score: Option<&Score>) {
        if let Some(last) = past.last.replace(reading.value) {
            self.learn(past, step(last, reading));
        }
    }
}

/// The distance of two finite numbers may be infinite, and only finite ones may be remembered.
fn step(last: f64, reading: &Reading) -> f64 {
    (reading.value - last).abs().min(f64::MAX)
}

impl HeartbeatOptions {
    fn learn(&self, past: &mut Past, step: f64) {
        let is_first_move = past.usual_step == 0.0;
        let learned = if is_first_move { step } else { step.min(self.threshold * past.usual_step) };
        past.steps = past.steps.saturating_add(1);
        // `memory` may have been larger when the series was saved: it is looked at here, not there.
        let weight = f64::from(past.steps.min(self.memory));
        past.usual_step += (learned - past.usual_step) / weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector() -> HeartbeatOptions {
        HeartbeatOptions { threshold: 4.0, memory: 30 }.build().expect("good options")
    }

    /// Scores these readings, one after the other.
    fn scores(detector: &HeartbeatOptions, past: &mut Past, values: impl IntoIterator<Item = f64>) -> Vec<Option<Score>> {
        let readings = values.into_iter().map(|value| Reading { at: None, value });
        readings.map(|reading| detector.observe(past, &reading)).collect()
    }

    /// A series that moves by 1, up and down.
    fn steady(readings: usize) -> impl Iterator<Item = f64> {
        (0..readings).map(|number| 20.0 + (number % 2) as f64)
    }

    #[test]
    fn says_nothing_before_it_has_seen_some_steps() {
        let scores = scores(&detector(), &mut Past::default(), steady(20));
        let first = scores.iter().position(Option::is_some);
        assert_eq!(first, Some(MIN_STEPS as usize + 1));
    }

    #[test]
    fn a_jump_is_an_anomaly_and_a_usual_step_is_none() {
        let (detector, mut past) = (detector(), Past::default());
        scores(&detector, &mut past, steady(20));
        let jump = detector.observe(&mut past, &Reading { at: None, value: 31.0 }).expect("it is warm");
        assert!(jump.is_anomaly);
        assert_eq!((jump.statistic, jump.score, jump.expected), (10.0, 2.5, 21.0));
        assert_eq!((jump.lower, jump.upper), (17.0, 25.0));
        let usual = detector.observe(&mut past, &Reading { at: None, value: 30.0 }).expect("it is warm");
        assert!(!usual.is_anomaly);
    }

    #[test]
    fn an_outlier_does_not_become_the_norm() {
        let (detector, mut past) = (detector(), Past::default());
        scores(&detector, &mut past, steady(50));
        scores(&detector, &mut past, [1e9]);
        assert!(past.usual_step <= 1.2, "{past:?}");
    }

    #[test]
    fn a_series_that_stands_still_has_no_scores_until_it_moves() {
        let (detector, mut past) = (detector(), Past::default());
        assert!(scores(&detector, &mut past, [7.0; 50]).iter().all(Option::is_none));
        assert!(scores(&detector, &mut past, steady(3)).iter().any(Option::is_some));
    }

    #[test]
    fn only_finite_numbers_are_remembered() {
        let (detector, mut past) = (detector(), Past::default());
        scores(&detector, &mut past, [f64::MAX, f64::MIN, f64::MAX, f64::MIN]);
        assert!(past.usual_step.is_finite());
    }

    #[test]
    fn refuses_bad_options() {
        for (options, message) in [
            (HeartbeatOptions { threshold: 1.0, memory: 30 }, "`threshold` is 1, it must be above 1"),
            (HeartbeatOptions { threshold: 4.0, memory: 1 }, "`memory` is 1, it must be at least 2"),
        ] {
            assert_eq!(options.build().expect_err("bad options").to_string(), message);
        }
    }
}
