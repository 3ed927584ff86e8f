//! `/metrics`: what Prometheus asks for.
//!
//! Nothing is counted here: every scrape looks at the books and at what can be seen of the run, so that the figures are
//! those of the ledger, whatever happened between two scrapes. The names are in [`table`], the figures in [`figures`].

mod figures;
mod table;

use std::collections::HashMap;
use std::fmt::Error;

use pipeline_runtime::run::view::{BUCKETS, Histogram};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::watched::Watched;
use figures::figures;
pub use table::{METRICS, Metric, Type, documentation};

/// A figure of a metric, with the values of its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The metric's name, as in [`METRICS`].
    pub name: &'static str,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// The figure.
    pub value: Value,
}

/// What a figure is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number that only rises.
    Count(u64),
    /// A number that only rises: seconds.
    Sum(f64),
    /// A number that rises and falls.
    Level(f64),
    /// Durations by size.
    Durations(Box<Histogram>),
}

/// The formats a scraper can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Exposition::OpenMetrics,
            false => Exposition::Prometheus,
        }
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics as they are now.
///
/// # Errors
/// Never for figures that fit their metrics.
pub fn exposed(watched: &Watched, exposition: Exposition) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(figures(watched))));
    let mut out = String::new();
    match exposition {
        Exposition::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        Exposition::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

#[derive(Debug)]
struct Figures(Vec<Figure>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut by_name: HashMap<&str, Vec<&Figure>> = HashMap::new();
        for figures in self.0.chunk_by(|one, next| one.name == next.name) {
            by_name.entry(figures[0].name).or_default().extend(figures);
        }
        for metric in METRICS {
            let Some(figures) = by_name.remove(metric.name) else { continue };
            let kind = match metric.kind {
                Type::Counter => MetricType::Counter,
                Type::Gauge => MetricType::Gauge,
                Type::Histogram => MetricType::Histogram,
            };
            // Counters get `_total` from the encoder.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for figure in figures {
                match figure.labels.is_empty() {
                    true => encode_value(&mut family, &figure.value)?,
                    false => encode_value(&mut family.encode_family(&figure.labels)?, &figure.value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder<'_>, value: &Value) -> Result<(), Error> {
    match value {
        Value::Count(count) => encoder.encode_counter::<NoLabelSet, _, f64>(count, None),
        Value::Sum(sum) => encoder.encode_counter::<NoLabelSet, _, f64>(sum, None),
        Value::Level(level) => encoder.encode_gauge(level),
        Value::Durations(durations) => {
            let above = durations.count - durations.counts.iter().sum::<u64>();
            let counts = durations.counts.iter().copied().chain([above]);
            let buckets: Vec<(f64, u64)> = BUCKETS.into_iter().chain([f64::INFINITY]).zip(counts).collect();
            encoder.encode_histogram::<NoLabelSet>(durations.sum, durations.count, &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text_of(figures: Vec<Figure>, exposition: Exposition) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Figures(figures)));
        let mut out = String::new();
        match exposition {
            Exposition::Prometheus => prometheus_text::encode(&mut out, &registry).unwrap(),
            Exposition::OpenMetrics => text::encode(&mut out, &registry).unwrap(),
        }
        out
    }

    fn anomalies(metric: &str) -> Figure {
        let labels = vec![("metric_type".to_owned(), metric.to_owned())];
        Figure { name: "anomalies_detected_total", labels, value: Value::Count(7) }
    }

    #[test]
    fn counters_are_called_what_the_table_says_in_both_formats() {
        for exposition in [Exposition::Prometheus, Exposition::OpenMetrics] {
            let text = text_of(vec![anomalies("temperature")], exposition);
            assert!(text.contains("\nanomalies_detected_total{metric_type=\"temperature\"} 7\n"), "{text}");
        }
        assert!(
            text_of(vec![anomalies("x")], Exposition::Prometheus).contains("# TYPE anomalies_detected_total counter")
        );
        assert!(text_of(vec![], Exposition::OpenMetrics).ends_with("# EOF\n"));
    }

    #[test]
    fn values_cannot_end_a_label() {
        let text = text_of(vec![anomalies("a\"} 1\nevil_total 9\\")], Exposition::Prometheus);
        assert!(text.contains(r#"{metric_type="a\"} 1\nevil_total 9\\"} 7"#), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }

    #[test]
    fn histograms_have_all_limits_and_add_up() {
        let mut durations = Histogram::default();
        durations.observe(Duration::from_millis(3), 10);
        durations.observe(Duration::from_secs(100), 2);
        let value = Value::Durations(Box::new(durations));
        let figure = Figure { name: "processing_latency_seconds", labels: Vec::new(), value };
        for (exposition, limit) in [(Exposition::Prometheus, "60"), (Exposition::OpenMetrics, "60.0")] {
            let text = text_of(vec![figure.clone()], exposition);
            let buckets = text.lines().filter(|line| line.contains("_bucket{")).count();
            assert_eq!(buckets, BUCKETS.len() + 1, "{text}");
            for line in [
                "processing_latency_seconds_bucket{le=\"0.005\"} 10".to_owned(),
                format!("processing_latency_seconds_bucket{{le=\"{limit}\"}} 10"),
                "processing_latency_seconds_bucket{le=\"+Inf\"} 12".into(),
                "processing_latency_seconds_count 12".into(),
            ] {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
        }
    }
}
