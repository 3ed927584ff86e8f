//! The dashboard of a running pipeline, as a scraper and an operator ask it.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline_services::RunningPipeline;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;

/// What Prometheus says that it takes.
pub const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
/// The older format.
pub const TEXT: &str = "text/plain;version=0.0.4";

/// A dashboard.
#[derive(Clone)]
pub struct Dashboard {
    pub url: String,
    client: Client,
}

/// The figures of one scrape: `name{label="value"}` and the number.
pub type Figures = BTreeMap<String, f64>;

impl Dashboard {
    /// Of a run that was started with `--dashboard ADDRESS:0`, as its opening lines say.
    pub async fn of(run: &mut RunningPipeline) -> Self {
        let line = run.wait_for_line("dashboard  http://", Duration::from_secs(60)).await;
        let url = line.split("dashboard  ").nth(1).and_then(|rest| rest.split('"').next()).expect("a URL");
        // Nothing is asked by TLS, but the client wants a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        Dashboard { url: url.to_owned(), client }
    }

    /// A request to be added to.
    pub fn ask(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    /// The status and body of an answer.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.ask(path).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a body"))
    }

    /// The answer of `/ready`: whether it is, and why not.
    pub async fn ready(&self) -> (bool, String) {
        let (status, body) = self.get("/ready").await;
        let readiness: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status == StatusCode::OK, readiness["is_ready"] == true, "{status} {body}");
        assert!(status == StatusCode::OK || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
        (status == StatusCode::OK, readiness["reasons"].to_string())
    }

    /// The figures, in a format.
    pub async fn scrape(&self, accept: &str) -> Figures {
        let answer = self.ask("/metrics").header("accept", accept).send().await.expect("an answer");
        let is_open_metrics = accept == OPEN_METRICS;
        assert_type(&answer, if is_open_metrics { "application/openmetrics-text" } else { "text/plain" });
        let text = answer.text().await.expect("a body");
        assert_eq!(text.ends_with("# EOF\n"), is_open_metrics, "{text}");
        figures(&text)
    }
}

fn assert_type(answer: &Response, expected: &str) {
    let found = answer.headers()["content-type"].to_str().expect("text");
    assert!(answer.status() == StatusCode::OK && found.starts_with(expected), "{} {found}", answer.status());
}

/// Every line is a comment or a figure. Both formats in one form: labels sorted, and limits of histograms `60`, not `60.0`.
fn figures(text: &str) -> Figures {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no figure: {line}"));
        let number = number.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        (sorted(name), number)
    });
    pairs.collect()
}

fn sorted(name: &str) -> String {
    let Some((metric, labels)) = name.split_once('{') else { return name.to_owned() };
    let mut labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels do not end: {name}"));
    let mut found = Vec::new();
    while let Some((label, rest)) = labels.split_once("=\"") {
        let mut is_escaped = false;
        let end = rest.find(|letter| {
            let is_end = letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            is_end
        });
        let (value, after) = rest.split_at(end.unwrap_or_else(|| panic!("a label does not end: {name}")));
        let value = if label == "le" { value.trim_end_matches(".0") } else { value };
        found.push(format!("{label}=\"{value}\""));
        labels = after[1..].trim_start_matches(',');
    }
    assert!(labels.is_empty(), "{labels} in {name}");
    found.sort();
    format!("{metric}{{{}}}", found.join(","))
}

/// The sum over all labels.
pub fn sum(figures: &Figures, metric: &str) -> f64 {
    let of_metric = figures.iter().filter(|(name, _)| name.split('{').next() == Some(metric));
    of_metric.map(|(_, number)| number).sum()
}

/// The figure with these labels, in any order; 0 when there is none.
pub fn figure(figures: &Figures, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |name: &str| labels.iter().all(|(label, value)| name.contains(&format!("{label}=\"{value}\"")));
    let found = figures.iter().filter(|(name, _)| name.split('{').next() == Some(metric) && has(name));
    found.map(|(_, number)| number).sum()
}

/// Panics if a counter is smaller than it was, or gone.
pub fn assert_no_counter_fell(before: &Figures, after: &Figures) {
    for (name, earlier) in before {
        let metric = name.split('{').next().unwrap_or_default();
        let is_counter = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| metric.ends_with(end));
        let later = after.get(name);
        assert!(!is_counter || later.is_some_and(|later| earlier <= later), "{name} was {earlier}, is {later:?}");
    }
}
