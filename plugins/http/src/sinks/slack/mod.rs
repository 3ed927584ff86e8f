//! The sink `slack`: posts each row as a message to a channel.

mod layout;
mod link;
mod text;

use async_trait::async_trait;
use pipeline_stage::{
    Alert, BuiltSink, OutboxSink, Pace, Rate, Result, Secret, SinkContext, SinkOptions, Span, StageError, StageOptions,
    WhenFull,
};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{default_max_pending, default_timeout, pace};
use crate::endpoint::Endpoint;
use crate::template::{Dialect, Names, Template};
use layout::{FieldOption, Layout};
use link::DashboardLink;

/// Posts each row as a message to a Slack channel, through an incoming webhook and from an outbox that is kept over
/// restarts.
///
/// A message has a header, up to ten fields, a divider and a line with the id of the alert. Without `fields` they are
/// Sensor ID, Metric, Anomalous Value, Z-Score and Timestamp (UTC), of the columns `sensor_id`, `metric_type`,
/// `value`, `z_score` and `timestamp`. When one of these is missing, the others of the row follow: first those of
/// the key, each under its own name.
///
/// Values are escaped as Slack demands, and what Slack would take for formatting is shown as code. While Slack says
/// 429 or 5xx or does not answer, alerts wait; while it says 403, 404 or 410 (the webhook was revoked, the channel
/// archived) they wait, too, and it is asked once a minute. A message that Slack does not understand (400) becomes a
/// dead letter. At least once: an answer that got lost means a second message with the same id.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackOptions {
    /// The URL of the incoming webhook, `https://hooks.slack.com/services/T…/B…/…`. It is a secret and never printed.
    /// Other services that take the same messages (Mattermost, Rocket.Chat) work, too.
    pub webhook_url: Secret,
    /// The fields of a message, instead of those above.
    #[serde(default)]
    pub fields: Option<Vec<FieldOption>>,
    /// The whole message instead, as Slack's Block Kit Builder shows it (its JSON can stand here). Each text in it is
    /// a minijinja template and may name `id`, `pipeline`, `sink`, `row` (with the columns, `row.value`) and
    /// `digest_of`, the number of rows of a summary. Values are escaped for Slack; the filter `utc` shows a time.
    #[serde(default)]
    pub template: Option<Value>,
    /// The address at which people reach the pipeline's dashboard, `https://pipeline.example.com`: each message then
    /// links to its series, as the detector sees it that the rows come through. A `template` has no such link.
    #[serde(default)]
    pub dashboard_url: Option<String>,
    /// The most messages in a time. Slack takes one each second, with short bursts above.
    #[serde(default = "default_rate")]
    pub rate: Rate,
    /// How long a request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How many alerts may wait.
    #[serde(default = "default_max_pending")]
    #[schemars(range(min = 1))]
    pub max_pending: u64,
    /// What happens to further ones: `digest` makes one counted summary of them, `wait` makes the pipeline wait.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// Slack's own limit for incoming webhooks.
fn default_rate() -> Rate {
    Rate { count: 1.0, per: std::time::Duration::from_secs(1) }
}

impl StageOptions for SlackOptions {
    const NAME: &'static str = "slack";
    const EXAMPLE: &'static str = "
alerts:
  type: slack
  inputs: [spikes]
  when: is_anomaly
  webhook_url: ${SLACK_WEBHOOK_URL}
";
}

impl SinkOptions for SlackOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        let names = Names { pipeline: context.stage.pipeline.clone(), sink: context.stage.id.clone() };
        let message = match (&self.template, &self.fields) {
            (Some(_), Some(_)) => {
                return Err(StageError::config(
                    "`fields` has no effect beside `template`: only one of them can be given",
                )
                .at_option("fields"));
            }
            (Some(template @ Value::Object(_)), None) => {
                Message::Template(Box::new(Template::new(template, Dialect::Slack, &context.schema, names)?))
            }
            (Some(_), None) => {
                let message = "`template` must be a message, `{ text: …, blocks: [ … ] }`";
                return Err(StageError::config(message).at_option("template"));
            }
            (None, fields) => {
                let (schema, key) = (&context.schema, &context.stage.key);
                let link = self.dashboard_url.as_deref().map(|url| DashboardLink::new(url, &context)).transpose()?;
                Message::Layout(Box::new(Layout::new(fields.as_deref(), schema, key, names)?.with_link(link)))
            }
        };
        let slack = Slack {
            endpoint: Endpoint::new("webhook_url", &self.webhook_url, self.timeout.0)?,
            message,
            pace: pace(self.rate, self.timeout, self.max_pending, self.when_full)?,
        };
        Ok(BuiltSink::Outbox(Box::new(slack)))
    }
}

struct Slack {
    endpoint: Endpoint,
    message: Message,
    pace: Pace,
}

enum Message {
    Layout(Box<Layout>),
    Template(Box<Template>),
}

#[async_trait]
impl OutboxSink for Slack {
    fn pace(&self) -> Pace {
        self.pace
    }

    async fn check(&mut self) -> Vec<StageError> {
        let url = self.endpoint.url();
        let is_slack = url.host_str() == Some("hooks.slack.com");
        let is_webhook =
            ["/services/T", "/workflows/T", "/triggers/"].iter().any(|start| url.path().starts_with(start))
                && 3 < url.path().split('/').filter(|part| !part.is_empty()).count();
        if !is_slack || (is_webhook && url.scheme() == "https") {
            return Vec::new();
        }
        let message = "`webhook_url` is not of Slack's form, `https://hooks.slack.com/services/T…/B…/…`";
        vec![StageError::config(message).at_option("webhook_url")]
    }

    async fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let message = match &self.message {
            Message::Layout(layout) => layout.message(alert),
            Message::Template(template) => template.render(alert)?,
        };
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))]);
        self.endpoint.send(&Method::POST, headers, message.to_string().into_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slack(url: &str) -> Slack {
        let timeout = default_timeout();
        let names = Names { pipeline: "iot".into(), sink: "alerts".into() };
        let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "value",
            arrow::datatypes::DataType::Float64,
            true,
        )]);
        Slack {
            endpoint: Endpoint::new("webhook_url", &Secret::new(url), timeout.0).unwrap(),
            message: Message::Layout(Box::new(Layout::new(None, &schema, &[], names).unwrap())),
            pace: pace(default_rate(), timeout, 1, WhenFull::Wait).unwrap(),
        }
    }

    #[tokio::test]
    async fn the_form_of_the_url_is_checked_for_slack_only() {
        for (url, n_problems) in [
            ("https://hooks.slack.com/services/T0/B0/hush", 0),
            ("https://hooks.slack.com/workflows/T0/A0/1/hush", 0),
            ("https://hooks.slack.com/triggers/T0/1/hush", 0),
            ("http://127.0.0.1:9/anything", 0),
            ("https://chat.example.com/hooks/x", 0),
            ("http://hooks.slack.com/services/T0/B0/hush", 1),
            ("https://hooks.slack.com/services/T0/hush", 1),
            ("https://hooks.slack.com/", 1),
        ] {
            let problems = slack(url).check().await;
            assert_eq!(problems.len(), n_problems, "{url}");
            assert!(problems.iter().all(|problem| !problem.chain().contains("hush")));
        }
    }
}
