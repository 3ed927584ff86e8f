//! `zscore`: how many standard deviations a reading is away from the mean of those before it.
//!
//! The first detector to try: it needs no training and its verdict can be checked by hand. It assumes that a series
//! wanders slowly; for daily or weekly patterns it is the wrong method, for many outliers in a row so is a mean.

mod squares;
mod sum;
mod window;

use pipeline_stage::{Detector, DetectorOptions, Reading, Result, Score, StageError, StageOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use window::Window;

/// Scores a reading by how many standard deviations it is away from the mean of the readings before it.
///
/// Mean and population standard deviation are those of up to `window` earlier readings of the series; the reading
/// joins them afterwards. `z_score` is the distance in standard deviations, without a sign; a reading is an anomaly
/// when it is above `threshold`. `expected` is the mean, `lower` and `upper` are the limits that the reading had to
/// stay within.
///
/// There is no score while there are fewer than `min_samples` earlier readings, nor while they are all equal: a
/// constant window has no spread to measure with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZscoreOptions {
    /// How many earlier readings of the series a reading is compared with, at most.
    #[serde(default = "default_window")]
    #[schemars(range(min = 2, max = 100_000))]
    pub window: u32,
    /// Above how many standard deviations a reading is an anomaly.
    #[serde(default = "default_threshold")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub threshold: f64,
    /// How many earlier readings there must be before there is a score.
    #[serde(default = "default_min_samples")]
    #[schemars(range(min = 2, max = 100_000))]
    pub min_samples: u32,
    /// Which readings can be anomalies: those above the mean, those below it, or both. `z_score` is given for all.
    #[serde(default)]
    pub direction: Direction,
    /// How far from the mean an anomaly must be at least, in the unit of the value, however small the spread is: with
    /// 0.5, a reading of 20.4 after a mean of 20.0 is never an anomaly. The default 0 sets no such limit.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_deviation: f64,
    /// Whether an anomalous reading joins the window. With `false` an outlier does not widen the limits for those
    /// after it; the risk is that a series which moves to another level for good is anomalous for ever, because the
    /// new level is never learned (`expire_after` ends that after a gap).
    #[serde(default = "default_include_anomalies")]
    pub include_anomalies: bool,
}

/// On which side of the mean an anomaly can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// On either side.
    #[default]
    Both,
    /// Above the mean only.
    Above,
    /// Below the mean only.
    Below,
}

fn default_window() -> u32 {
    30
}

fn default_threshold() -> f64 {
    3.0
}

fn default_min_samples() -> u32 {
    MIN_SAMPLES
}

fn default_include_anomalies() -> bool {
    true
}

/// One reading has no spread; two can be told from each other.
const MIN_SAMPLES: u32 = 2;

/// Each checkpoint writes the windows that have changed: 900 kB a series at this size.
const MAX_WINDOW: u32 = 100_000;

impl StageOptions for ZscoreOptions {
    const NAME: &'static str = "zscore";
    const EXAMPLE: &'static str = "
spikes:
  type: zscore
  inputs: [readings]
  value: value
  time: timestamp
  window: 30
  threshold: 3.0
  min_deviation: 0.5
";
}

impl DetectorOptions for ZscoreOptions {
    type Detector = Zscore;

    fn build(self) -> Result<Zscore> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        if self.window < MIN_SAMPLES {
            return wrong("window", format!("`window` is {}, it must be at least {MIN_SAMPLES}", self.window));
        }
        if self.window > MAX_WINDOW {
            return wrong("window", format!("`window` is {}, it must be at most {MAX_WINDOW}", self.window));
        }
        for (option, value) in [("threshold", self.threshold), ("min_deviation", self.min_deviation)] {
            if !value.is_finite() {
                return wrong(option, format!("`{option}` is {value}, it must be finite"));
            }
        }
        if self.threshold <= 0.0 {
            return wrong("threshold", format!("`threshold` is {}, it must be above 0", self.threshold));
        }
        if self.min_samples < MIN_SAMPLES {
            let message = format!("`min_samples` is {}, it must be at least {MIN_SAMPLES}", self.min_samples);
            return wrong("min_samples", message);
        }
        if self.min_samples > self.window {
            let (samples, window) = (self.min_samples, self.window);
            return wrong("min_samples", format!("`min_samples` is {samples}, it must be at most `window`, {window}"));
        }
        if self.min_deviation < 0.0 {
            return wrong("min_deviation", format!("`min_deviation` is {}, it must be at least 0", self.min_deviation));
        }
        Ok(Zscore { window: self.window as usize, min_samples: self.min_samples as usize, options: self })
    }
}

/// The detector: see [`ZscoreOptions`].
#[derive(Debug)]
pub struct Zscore {
    window: usize,
    min_samples: usize,
    options: ZscoreOptions,
}

impl Detector for Zscore {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "z_score";
    type Series = Window;

    fn start(&self) -> Window {
        Window::default()
    }

    fn adopt(&self, mut saved: Window) -> Result<Window> {
        saved.fit(self.window);
        Ok(saved)
    }

    fn score(&self, past: &Window, reading: &Reading) -> Option<Score> {
        self.judge(past, reading.value)
    }

    fn remember(&self, past: &mut Window, reading: &Reading, score: Option<&Score>) {
        let is_anomaly = score.is_some_and(|score| score.is_anomaly);
        if !is_anomaly || self.options.include_anomalies {
            past.push(reading.value, self.window);
        }
    }

    fn prefetch(&self, past: &Window) {
        past.prefetch(self.window);
    }

    fn foresee(&self, past: &mut Window) {
        past.foresee();
    }

    fn window(&self, past: &Window) -> Option<Vec<f64>> {
        Some(past.oldest_first())
    }

    /// Without its anomalies the window may reach back any number of readings.
    fn looks_back(&self) -> Option<u64> {
        self.options.include_anomalies.then_some(self.window as u64)
    }

    fn bytes_per_series(&self) -> usize {
        size_of::<Window>() + self.window * size_of::<f64>()
    }
}

impl Zscore {
    fn judge(&self, past: &Window, value: f64) -> Option<Score> {
        if past.len() < self.min_samples {
            return None;
        }
        let (mean, deviation) = past.mean_and_deviation()?;
        let distance = (value - mean).abs();
        // A spread that is next to nothing, or a threshold below 1, must not make an infinity of a finite reading.
        let z = (distance / deviation).min(f64::MAX);
        let threshold = self.options.threshold;
        let is_side_watched = match self.options.direction {
            Direction::Both => true,
            Direction::Above => mean < value,
            Direction::Below => value < mean,
        };
        let margin = (threshold * deviation).max(self.options.min_deviation);
        Some(Score {
            score: (z / threshold).min(f64::MAX),
            is_anomaly: threshold < z && is_side_watched && self.options.min_deviation <= distance,
            expected: mean,
            lower: if self.options.direction == Direction::Above { f64::NEG_INFINITY } else { mean - margin },
            upper: if self.options.direction == Direction::Below { f64::INFINITY } else { mean + margin },
            statistic: z,
        })
    }
}

#[cfg(test)]
mod tests {
    use pipeline_stage::StageType;
    use pipeline_testkit::{Random, obeys_laws, readings};
    use serde_json::json;

    use super::*;

    fn options(options: serde_json::Value) -> ZscoreOptions {
        serde_json::from_value(options).unwrap()
    }

    fn zscore(of: serde_json::Value) -> Zscore {
        options(of).build().unwrap()
    }

    fn observe_all(detector: &Zscore, past: &mut Window, values: &[f64]) -> Vec<Option<Score>> {
        values.iter().map(|&value| detector.observe(past, &Reading { at: None, value })).collect()
    }

    fn last_score(detector: &Zscore, values: &[f64]) -> Option<Score> {
        observe_all(detector, &mut detector.start(), values).pop().unwrap()
    }

    #[test]
    fn refuses_bad_options() {
        for (bad, option, message) in [
            (json!({"window": 1}), "window", "`window` is 1, it must be at least 2"),
            (json!({"window": 100_001}), "window", "`window` is 100001, it must be at most 100000"),
            (json!({"threshold": 0}), "threshold", "`threshold` is 0, it must be above 0"),
            (json!({"threshold": -3.5}), "threshold", "`threshold` is -3.5, it must be above 0"),
            (json!({"min_samples": 1}), "min_samples", "`min_samples` is 1, it must be at least 2"),
            (json!({"min_samples": 31}), "min_samples", "`min_samples` is 31, it must be at most `window`, 30"),
            (json!({"min_deviation": -1}), "min_deviation", "`min_deviation` is -1, it must be at least 0"),
        ] {
            let error = options(bad).build().expect_err("bad options");
            assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
        }
        let infinite = ZscoreOptions { threshold: f64::INFINITY, ..options(json!({})) };
        assert_eq!(infinite.build().err().unwrap().to_string(), "`threshold` is inf, it must be finite");
    }

    #[test]
    fn says_nothing_until_there_are_enough_readings() {
        for (min_samples, silent) in [(2, 2), (5, 5)] {
            let detector = zscore(json!({"min_samples": min_samples}));
            let values: Vec<f64> = (0..8).map(f64::from).collect();
            let scores = observe_all(&detector, &mut detector.start(), &values);
            assert_eq!(scores.iter().position(Option::is_some), Some(silent));
        }
    }

    #[test]
    fn so_many_readings_suffice_as_it_looks_back() {
        let mut random = Random::new(7);
        let values: Vec<f64> = (0..300).map(|_| random.below(1_000) as f64).collect();
        let detector = zscore(json!({"window": 12}));
        let all = observe_all(&detector, &mut detector.start(), &values);
        let needed = detector.looks_back().unwrap() as usize;
        for begin in [0, 1, 77, 200] {
            let from_there = observe_all(&detector, &mut detector.start(), &values[begin..]);
            for (found, expected) in from_there[needed..].iter().zip(&all[begin + needed..]) {
                let (found, expected) = (found.unwrap(), expected.unwrap());
                assert!((found.statistic - expected.statistic).abs() < 1e-9 * expected.statistic, "{begin}");
            }
        }
        assert_eq!(zscore(json!({"include_anomalies": false})).looks_back(), None);
    }

    #[test]
    fn measures_in_population_standard_deviations() {
        let score = last_score(&zscore(json!({})), &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, 12.0]).unwrap();
        let expected =
            Score { score: 3.5 / 3.0, is_anomaly: true, expected: 5.0, lower: -1.0, upper: 11.0, statistic: 3.5 };
        assert_eq!(score, expected);
    }

    #[test]
    fn a_z_score_at_the_threshold_is_no_anomaly() {
        assert!(!last_score(&zscore(json!({})), &[4.0, 6.0, 8.0]).unwrap().is_anomaly, "z is 3 exactly");
        assert!(last_score(&zscore(json!({})), &[4.0, 6.0, 8.0f64.next_up()]).unwrap().is_anomaly);
    }

    #[test]
    fn a_constant_window_gives_no_score_whatever_rounding_makes_of_it() {
        // The mean of three times 0.1 is not 0.1.
        assert_eq!(last_score(&zscore(json!({})), &[0.1, 0.1, 0.1, 5.0]), None);
        assert_eq!(last_score(&zscore(json!({})), &[0.0, -0.0, 5.0]), None);
    }

    #[test]
    fn an_anomaly_joins_the_window_unless_told_otherwise() {
        let values = [4.0, 6.0, 100.0, 100.0];
        assert!(!last_score(&zscore(json!({})), &values).unwrap().is_anomaly, "the first 100 has widened the limits");
        let score = last_score(&zscore(json!({"include_anomalies": false})), &values).unwrap();
        assert_eq!((score.is_anomaly, score.expected), (true, 5.0));
    }

    #[test]
    fn looks_to_the_side_it_is_told_to() {
        for (direction, value, is_anomaly, lower, upper) in [
            ("both", 20.0, true, 2.0, 8.0),
            ("both", -20.0, true, 2.0, 8.0),
            ("above", 20.0, true, f64::NEG_INFINITY, 8.0),
            ("above", -20.0, false, f64::NEG_INFINITY, 8.0),
            ("below", 20.0, false, 2.0, f64::INFINITY),
            ("below", -20.0, true, 2.0, f64::INFINITY),
        ] {
            let score = last_score(&zscore(json!({"direction": direction})), &[4.0, 6.0, value]).unwrap();
            assert_eq!((score.is_anomaly, score.lower, score.upper), (is_anomaly, lower, upper), "{direction} {value}");
            assert!(3.0 < score.statistic, "z is given for both sides");
        }
    }

    #[test]
    fn ignores_deviations_below_the_least_one() {
        for (min_deviation, is_anomaly, upper) in [(0.0, true, 8.0), (4.0, true, 9.0), (4.1, false, 9.1)] {
            let score = last_score(&zscore(json!({"min_deviation": min_deviation})), &[4.0, 6.0, 9.0]).unwrap();
            assert_eq!((score.is_anomaly, score.upper), (is_anomaly, upper), "{min_deviation}");
        }
    }

    #[test]
    fn readings_near_the_end_of_floats_are_survived() {
        let detector = zscore(json!({}));
        for values in [[f64::MAX, f64::MAX.next_down()], [f64::MAX, f64::MIN], [5e-324, 0.0], [1e200, 1.0]] {
            let mut past = detector.start();
            let scores = observe_all(&detector, &mut past, &values);
            assert_eq!(scores, [None, None]);
            for value in [f64::MAX, f64::MIN, 0.0, 1.0] {
                let score = detector.observe(&mut past.clone(), &Reading { at: None, value });
                assert!(score.is_none_or(|score| score.statistic.is_finite() && score.score.is_finite()));
            }
        }
        let tiny = last_score(&zscore(json!({"threshold": 0.1})), &[0.0, 1e-160, 1e300]).unwrap();
        assert_eq!((tiny.is_anomaly, tiny.statistic, tiny.score), (true, f64::MAX, f64::MAX));
    }

    #[test]
    fn a_window_saved_under_another_option_keeps_its_newest_readings() {
        let values: Vec<f64> = (0..13).map(f64::from).collect();
        for (saved_with, resumed_with, expected_mean) in [(5, 3, 11.0), (5, 9, 10.0), (5, 5, 10.0), (20, 13, 6.0)] {
            let mut past = zscore(json!({})).start();
            observe_all(&zscore(json!({"window": saved_with})), &mut past, &values);
            let resumed = zscore(json!({"window": resumed_with}));
            let mut past = resumed.adopt(past).unwrap();
            let score = resumed.observe(&mut past, &Reading { at: None, value: 13.0 }).unwrap();
            assert_eq!(score.expected, expected_mean, "{saved_with} → {resumed_with}");
            let more: Vec<f64> = (14..40).map(f64::from).collect();
            let last = observe_all(&resumed, &mut past, &more).pop().unwrap().unwrap();
            let newest: Vec<f64> = (39 - resumed_with..39).map(f64::from).collect();
            assert_eq!(last.expected, newest.iter().sum::<f64>() / newest.len() as f64, "and goes on as a ring");
        }
    }

    #[test]
    fn a_damaged_window_is_no_reason_to_panic() {
        for (values, next) in [(vec![], 7), (vec![1.0, 2.0], 9), (vec![1.0; 30], 4_000_000_000)] {
            let mut past = zscore(json!({})).adopt(Window::damaged(values, next)).unwrap();
            observe_all(&zscore(json!({})), &mut past, &[1.0; 100]);
            assert_eq!(past.len(), 30);
        }
    }

    #[test]
    fn obeys_the_laws() {
        let stage = StageType::detector::<ZscoreOptions>();
        for own in [
            json!({"value": "value", "window": 7, "threshold": 2.0}),
            json!({"value": "value", "time": "timestamp", "expire_after": "5m", "max_series": 50, "include_anomalies": false}),
        ] {
            let evidence = obeys_laws(&stage, &own, &readings(3, 6_000));
            assert_eq!(evidence.rows_out, 6_000);
            assert!(50 < evidence.resumed_with_state && 50 < evidence.judged_again, "{evidence:?}");
        }
    }
}
