//! An alert and its reasons, for people.

use pipeline_runtime::explain::Again;
use pipeline_runtime::store::{Evidence, EvidenceLine};
use pipeline_stage::keyed::SCORE_COLUMNS;
use pipeline_stage::printable;
use serde_json::{Map, Value};

use super::deliveries::Delivery;
use super::find::time_of;
use crate::books::grouped;

/// All there is to say of an alert.
pub struct Explained {
    pub line: EvidenceLine,
    pub evidence: Evidence,
    /// What came of computing it again, or why that cannot be done.
    pub again: Result<Again, String>,
    pub deliveries: Vec<Delivery>,
}

/// What a window amounts to.
pub(super) struct Figures {
    pub count: usize,
    pub mean: f64,
    pub deviation: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Figures {
    pub fn of(window: &[f64]) -> Option<Self> {
        let count = window.len() as f64;
        let mean = window.iter().map(|value| value / count).sum::<f64>();
        let squares = window.iter().map(|value| (value - mean) * (value - mean) / count).sum::<f64>();
        (!window.is_empty()).then(|| Figures {
            count: window.len(),
            mean,
            deviation: squares.sqrt(),
            least: window.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: window.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// The numbers of an alert as it was given.
pub(super) struct Alert {
    pub row: Map<String, Value>,
    prefix: String,
    /// The name of the method's own figure.
    statistic: Option<String>,
}

impl Alert {
    pub fn number(&self, name: &str) -> Option<f64> {
        self.row.get(&format!("{}{name}", self.prefix))?.as_f64()
    }

    /// Of the window: by a z-score it is the one that was expected, whose last digit may differ from that of a plain sum.
    pub fn mean(&self, figures: &Figures) -> f64 {
        let is_expected = self.statistic.as_ref().is_some_and(|name| name.ends_with("z_score"));
        self.number("expected").filter(|_| is_expected).unwrap_or(figures.mean)
    }

    fn statistic(&self) -> Option<f64> {
        self.row.get(self.statistic.as_ref()?)?.as_f64()
    }
}

impl Explained {
    fn option(&self, name: &str) -> Option<&Value> {
        self.evidence.judge.options.get(name)
    }

    pub fn alert(&self) -> Alert {
        let row: Map<String, Value> = serde_json::from_slice(&self.evidence.judged.row).unwrap_or_default();
        let prefix = self.option("prefix").and_then(Value::as_str).unwrap_or_default().to_owned();
        let statistic = row.keys().next_back().filter(|name| !name.ends_with(SCORE_COLUMNS[4])).cloned();
        Alert { row, prefix, statistic }
    }

    pub fn window(&self) -> Option<&[f64]> {
        self.again.as_ref().ok()?.window.as_deref()
    }

    /// One screen.
    pub fn as_text(&self) -> String {
        let alert = self.alert();
        let mut lines = vec![self.headline(&alert)];
        let mut say = |name: &str, words: String| lines.push(format!("  {name:<9} {words}"));
        if let Some(figures) = self.window().and_then(Figures::of) {
            say("window", window_in_words(&figures, &alert));
        }
        if let Some(band) = band(&alert) {
            say("band", band);
        }
        say("rule", self.rule());
        self.changed().into_iter().for_each(|words| say("", words));
        say("from", self.from());
        let deliveries: Vec<String> =
            self.deliveries.iter().map(|delivery| format!("{}: {}", delivery.sink, delivery.words)).collect();
        if !deliveries.is_empty() {
            say("delivered", deliveries.join(" · "));
        }
        lines.push(format!("  {}", self.verdict(&alert)));
        lines.join("\n")
    }

    /// `sensor-04 temperature 71.32 at 2025-07-20T08:19:16Z is 11.4 standard deviations above 22.6`.
    fn headline(&self, alert: &Alert) -> String {
        let series: Vec<String> = self.line.series.iter().map(|(_, value)| printable(value, 60)).collect();
        let column = self.option("value").and_then(Value::as_str).unwrap_or("value");
        let value = alert.row.get(column).and_then(Value::as_f64);
        let subject = match series.is_empty() {
            true => column.to_owned(),
            false => series.join(" "),
        };
        let mut words = format!("{subject} {} at {}", exact(value), time_of(&self.line));
        let expected = alert.number("expected");
        let side = if expected < value { "above" } else { "below" };
        match (alert.statistic.as_deref(), alert.statistic(), expected) {
            (Some(name), Some(z), Some(expected)) if name.ends_with("z_score") => {
                words.push_str(&format!(" is {} standard deviations {side} {}", short(z), short(expected)));
            }
            (name, statistic, expected) => {
                let name = printable(name.unwrap_or("score"), 60);
                let figure = statistic.or_else(|| alert.number("score"));
                words.push_str(&format!(" is an anomaly: {name} {}", number_or_dash(figure)));
                words.push_str(&expected.map(|expected| format!(", expected {}", short(expected))).unwrap_or_default());
            }
        }
        words
    }

    /// `` zscore `spikes` of `value`: window 30, threshold 3.0 ``; what is left out has its default.
    fn rule(&self) -> String {
        let judge = &self.evidence.judge;
        let type_name = judge.of.split_once('.').map_or(judge.of.as_str(), |(_, name)| name);
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let column = self.option("value").and_then(Value::as_str).unwrap_or_default();
        let of = format!("{type_name} `{}` of `{}`", self.line.stage, printable(column, 60));
        let told = judge.options.iter().filter(|(name, _)| !["value", "time", "prefix"].contains(&name.as_str()));
        let mut options: Vec<String> =
            told.map(|(name, value)| format!("{name} {}", printable(&plain(value), 60))).collect();
        options.extend(judge.secrets.iter().map(|name| format!("{name} ***")));
        match options.is_empty() {
            true => of,
            false => format!("{of}: {}", options.join(", ")),
        }
    }

    /// What the file says otherwise now.
    fn changed(&self) -> Option<String> {
        let again = self.again.as_ref().ok().filter(|again| !again.changed.is_empty())?;
        let none = || "its default".to_owned();
        let words = again.changed.iter().map(|(name, _, now)| {
            let now = now.as_ref().map_or_else(none, |now| printable(&now.to_string(), 60));
            format!("`{name}` is {now}")
        });
        Some(format!(
            "in the file now {}; the stored options count, they made the alert",
            words.collect::<Vec<_>>().join(", ")
        ))
    }

    /// `readings, iot-data-stream/3, offset 104,233; epoch 12 of task iot-data-stream/3, committed 2025-07-20T08:19:17Z`.
    fn from(&self) -> String {
        let judged = &self.evidence.judged;
        let (source, partition) = judged.place.split_once('/').unwrap_or((judged.place.as_str(), ""));
        let place = match partition.rsplit_once('/') {
            Some((topic, partition)) => format!("{source}: {topic}, partition {partition}"),
            None => format!("{source}: partition {partition}"),
        };
        format!(
            "{}, offset {}; epoch {} of {}",
            printable(&place, 200),
            grouped(judged.offset),
            grouped(self.line.epoch),
            self.line.at
        )
    }

    fn verdict(&self, alert: &Alert) -> String {
        let again = match &self.again {
            Err(why) => return format!("not computed again: {}", printable(why, usize::MAX)),
            Ok(again) => again,
        };
        let name = alert.statistic.as_deref().unwrap_or("score");
        let now = again.row.get(name).and_then(Value::as_f64);
        let what = if again.window.is_some() { "window" } else { "series" };
        if again.is_same {
            return format!("computed again from the stored {what}: {} {}, the same", printable(name, 60), exact(now));
        }
        let differing: Vec<String> = alert
            .row
            .iter()
            .filter(|(name, was)| again.row.get(*name) != Some(*was))
            .map(|(name, was)| {
                let now = again.row.get(name).unwrap_or(&Value::Null);
                format!("{} was {was} and is {now}", printable(name, 60))
            })
            .collect();
        let versions = match self.evidence.judge.version == env!("CARGO_PKG_VERSION") {
            true => "by the same version of this program: the detector is not what it was".to_owned(),
            false => format!(
                "the alert is of version {} of this program, this is {}",
                self.evidence.judge.version,
                env!("CARGO_PKG_VERSION")
            ),
        };
        format!("computed again from the stored {what}, NOT the same: {}; {versions}", differing.join(", "))
    }
}

fn window_in_words(figures: &Figures, alert: &Alert) -> String {
    format!(
        "{} readings before it: mean {}, deviation {}, min {}, max {}",
        grouped(figures.count as u64),
        short(alert.mean(figures)),
        short(figures.deviation),
        short(figures.least),
        short(figures.greatest)
    )
}

fn band(alert: &Alert) -> Option<String> {
    match (alert.number("lower"), alert.number("upper")) {
        (Some(lower), Some(upper)) => Some(format!("{} … {} is usual", short(lower), short(upper))),
        (Some(lower), None) => Some(format!("at least {} is usual", short(lower))),
        (None, Some(upper)) => Some(format!("at most {} is usual", short(upper))),
        (None, None) => None,
    }
}

/// Four digits that matter, more of large numbers: enough for a sentence.
fn short(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e15).contains(&magnitude) {
        return format!("{number:.3e}");
    }
    let digits = if magnitude == 0.0 { 0 } else { magnitude.log10().floor() as i32 };
    let decimals = (3 - digits).clamp(0, 8) as usize;
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn number_or_dash(number: Option<f64>) -> String {
    number.map_or_else(|| "–".into(), short)
}

/// All digits.
fn exact(number: Option<f64>) -> String {
    number.map_or_else(|| "null".into(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_enough_for_a_sentence() {
        for (number, text) in [
            (71.32, "71.32"),
            (11.403_284_1, "11.4"),
            (22.61, "22.61"),
            (1013.25, "1013"),
            (104_233.7, "104234"),
            (0.0, "0"),
            (-0.012_34, "-0.01234"),
            (3.0, "3"),
            (1e-9, "1.000e-9"),
            (1.5e300, "1.500e300"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
