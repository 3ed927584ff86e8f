//! Values of series, and which of them are anomalies.
//!
//! A reading is an anomaly when its series had at least 2 readings before it and |value - mean| is above 3 standard
//! deviations of the up to 30 before it. Values are whole hundredths, so that is decided exactly, without fractions.
//! None lies on the limit itself, and no window has equal values only: how a program rounds makes no difference.

use std::collections::VecDeque;

use crate::random::Random;
use crate::series::Choice;
use crate::settings::Settings;

/// What is measured, by the number of the series.
pub const METRICS: [&str; 3] = ["temperature", "humidity", "pressure"];

/// In hundredths.
const USUAL: [i64; 3] = [2_200, 5_500, 101_300];
const NOISE: [f64; 3] = [80.0, 300.0, 900.0];
const WINDOW: usize = 30;

/// So many of a thousand are far off.
const SPIKES_IN_1000: usize = 8;

/// One reading.
pub struct Reading {
    /// Of which series.
    pub series: usize,
    /// Its value.
    pub hundredths: i64,
    /// Whether it must be found.
    pub is_anomaly: bool,
}

/// Readings without an end.
pub struct Readings {
    random: Random,
    choice: Choice,
    windows: Vec<Window>,
}

/// The last readings of one series.
#[derive(Clone, Default)]
struct Window {
    values: VecDeque<i64>,
    total: i64,
    squares: i64,
}

impl Readings {
    /// Of a topic.
    pub fn new(settings: &Settings) -> Self {
        Readings {
            random: Random(1),
            choice: Choice::new(settings.series, settings.weights),
            windows: vec![Window::default(); settings.series],
        }
    }

    /// The next one.
    pub fn next_reading(&mut self) -> Reading {
        let series = self.choice.choose(&mut self.random);
        let window = &mut self.windows[series];
        let (hundredths, is_anomaly) = match window.values.len() {
            // The first two lie on both sides of what is usual, so that two alone never make noise look unusual.
            0 => (USUAL[series % 3] - aside(series, &mut self.random), false),
            1 => (USUAL[series % 3] + aside(series, &mut self.random), false),
            _ => window.off_the_limit(any_value(series, &mut self.random)),
        };
        window.push(hundredths);
        Reading { series, hundredths, is_anomaly }
    }
}

fn aside(series: usize, random: &mut Random) -> i64 {
    (NOISE[series % 3] * (0.8 + 0.8 * random.fraction())) as i64
}

fn any_value(series: usize, random: &mut Random) -> i64 {
    let noise = NOISE[series % 3];
    let value = USUAL[series % 3] + (noise * random.normal()) as i64;
    if SPIKES_IN_1000 <= random.below(1_000) {
        return value;
    }
    let spike = (noise * (8.0 + 8.0 * random.fraction())) as i64;
    if random.below(2) == 0 { value + spike } else { value - spike }
}

impl Window {
    /// A value that does not lie on the limit, and whether it is beyond.
    fn off_the_limit(&self, mut value: i64) -> (i64, bool) {
        let n = self.values.len() as i64;
        // std = sqrt(spread) / n, and |value - mean| = |n * value - total| / n
        let spread = n * self.squares - self.total * self.total;
        while (n * value - self.total).pow(2) == 9 * spread {
            value += 1;
        }
        (value, 0 < spread && 9 * spread < (n * value - self.total).pow(2))
    }

    fn push(&mut self, value: i64) {
        if self.values.len() == WINDOW {
            let oldest = self.values.pop_front().expect("a window is not empty");
            self.total -= oldest;
            self.squares -= oldest * oldest;
        }
        self.values.push_back(value);
        self.total += value;
        self.squares += value * value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anomalies_are_those_that_fractions_find_too() {
        let settings = r#"{"rows": 0, "series": 20}"#;
        let mut readings = Readings::new(&serde_json::from_str(settings).unwrap());
        let mut past: Vec<Vec<f64>> = vec![Vec::new(); 20];
        let mut n_anomalies = 0;
        for _ in 0..20_000 {
            let reading = readings.next_reading();
            let (value, values) = (reading.hundredths as f64 / 100.0, &mut past[reading.series]);
            let window = &values[values.len().saturating_sub(30)..];
            let n = window.len() as f64;
            let mean = window.iter().sum::<f64>() / n;
            let deviation = (window.iter().map(|other| (other - mean).powi(2)).sum::<f64>() / n).sqrt();
            assert_eq!(reading.is_anomaly, 2 <= window.len() && 3.0 < (value - mean).abs() / deviation);
            n_anomalies += u32::from(reading.is_anomaly);
            values.push(value);
        }
        assert!((150..400).contains(&n_anomalies), "{n_anomalies}");
    }
}
