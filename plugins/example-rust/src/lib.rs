//! A detector in Rust as a shared library: an ordinary stage and one line.

use pipeline_stage::{Detector, DetectorOptions, Reading, Result, Score, StageError, StageOptions, StageType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pipeline_abi::export_plugin!([StageType::detector::<JumpOptions>()]);

/// Scores how far a reading is from the one before it.
///
/// `jump` is the difference with its sign; a reading is an anomaly when it is farther away than `limit`, in the unit of
/// the value. The first reading of a series has no score.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JumpOptions {
    /// The largest difference that is no anomaly, in the unit of the value.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub limit: f64,
}

impl StageOptions for JumpOptions {
    const NAME: &'static str = "jump";
    const EXAMPLE: &'static str = "
jumps:
  type: jump
  inputs: [readings]
  value: value
  limit: 10
";
}

impl DetectorOptions for JumpOptions {
    type Detector = Jump;

    fn build(self) -> Result<Jump> {
        if self.limit.is_nan() || self.limit <= 0.0 {
            let message = format!("`limit` is {}, it must be above 0", self.limit);
            return Err(StageError::config(message).at_option("limit"));
        }
        Ok(Jump { limit: self.limit })
    }
}

/// The detector: see [`JumpOptions`].
#[derive(Debug)]
pub struct Jump {
    limit: f64,
}

/// What is remembered of a series.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Series {
    last: Option<f64>,
}

impl Detector for Jump {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "jump";
    type Series = Series;

    fn start(&self) -> Series {
        Series::default()
    }

    fn score(&self, series: &Series, reading: &Reading) -> Option<Score> {
        let last = series.last?;
        let jump = reading.value - last;
        Some(Score {
            score: jump.abs() / self.limit,
            is_anomaly: self.limit < jump.abs(),
            expected: last,
            lower: last - self.limit,
            upper: last + self.limit,
            statistic: jump,
        })
    }

    fn remember(&self, series: &mut Series, reading: &Reading, _score: Option<&Score>) {
        series.last = Some(reading.value);
    }

    fn looks_back(&self) -> Option<u64> {
        Some(1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_reading_far_from_the_one_before_is_an_anomaly() {
        let detector = JumpOptions { limit: 5.0 }.build().unwrap();
        let mut series = detector.start();
        let mut observe = |value| detector.observe(&mut series, &Reading { at: None, value });
        assert_eq!(observe(20.0), None);
        let verdicts: Vec<bool> = [25.0, 19.0, 18.0].map(|value| observe(value).unwrap().is_anomaly).to_vec();
        assert_eq!(verdicts, [false, true, false]);
    }

    #[test]
    fn refuses_a_limit_that_is_none() {
        for limit in [0.0, -1.0, f64::NAN] {
            let error = JumpOptions { limit }.build().unwrap_err();
            assert_eq!(error.option(), Some("limit"));
        }
    }
}
