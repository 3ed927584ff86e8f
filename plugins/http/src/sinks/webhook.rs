//! The sink `webhook`: posts each row to a URL.

use std::collections::BTreeMap;

use async_trait::async_trait;
use pipeline_stage::{
    Alert, BuiltSink, OutboxSink, Pace, Rate, Result, Secret, SinkContext, SinkOptions, Span, StageError, StageOptions,
    WhenFull,
};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{default_max_pending, default_timeout, pace};
use crate::endpoint::Endpoint;
use crate::headers::headers;
use crate::template::{Dialect, Names, Template};

/// Posts each row to a URL, from an outbox that is kept over restarts.
///
/// The body is JSON: `{"id": …, "pipeline": …, "sink": …, "row": {…}}`, with `digest_of` when it is a summary of so
/// many rows. The header `Idempotency-Key` has the id, too: a receiver that has seen it may drop the request, which
/// happens when an answer got lost.
///
/// An answer of 2xx means taken. 408, 425, 429 and 5xx are tried again, after `Retry-After` if it is there; so are
/// 3xx, 401, 403, 404, 405, 407 and 410, once a minute, for they mean that the URL is wrong for every row. After any
/// other answer the row becomes a dead letter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookOptions {
    /// Where to; it may hold a token, so it is never printed.
    pub url: Secret,
    /// The method of the request.
    #[serde(default)]
    pub method: WebhookMethod,
    /// Further headers, by name; their values are never printed.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Another body, in YAML: its texts are minijinja templates and may name `id`, `pipeline`, `sink`, `row` (with
    /// the columns, `row.value`) and `digest_of`. A text that is one `{{ … }}` becomes the value itself, so that
    /// numbers stay numbers. If the whole template is one text, the body is that text, not JSON.
    #[serde(default)]
    pub template: Option<Value>,
    /// The most requests in a time.
    #[serde(default = "default_rate")]
    pub rate: Rate,
    /// How long a request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How many rows may wait.
    #[serde(default = "default_max_pending")]
    #[schemars(range(min = 1))]
    pub max_pending: u64,
    /// What happens to further ones: `digest` makes one counted summary of them, `wait` makes the pipeline wait.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// Methods that carry a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WebhookMethod {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// More than any person reads, less than what a small service fears.
fn default_rate() -> Rate {
    Rate { count: 100.0, per: std::time::Duration::from_secs(1) }
}

impl StageOptions for WebhookOptions {
    const NAME: &'static str = "webhook";
    const EXAMPLE: &'static str = "
alerts:
  type: webhook
  inputs: [spikes]
  when: is_anomaly
  url: ${WEBHOOK_URL}
  headers: { X-Team: plant-2 }
  template:
    summary: '{{ row.sensor_id }} is at {{ row.value }}'
    value: '{{ row.value }}'
";
}

impl SinkOptions for WebhookOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        let names = Names { pipeline: context.stage.pipeline, sink: context.stage.id };
        let template = match &self.template {
            Some(template) => Some(Template::new(template, Dialect::Json, &context.schema, names.clone())?),
            None => None,
        };
        let is_text = matches!(self.template, Some(Value::String(_)));
        let content_type = if is_text { "text/plain; charset=utf-8" } else { "application/json" };
        let mut of_all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        of_all.extend(headers(&self.headers)?);
        let webhook = Webhook {
            endpoint: Endpoint::new("url", &self.url, self.timeout.0)?,
            method: match self.method {
                WebhookMethod::Post => Method::POST,
                WebhookMethod::Put => Method::PUT,
            },
            headers: of_all,
            template,
            is_text,
            names,
            pace: pace(self.rate, self.timeout, self.max_pending, self.when_full)?,
        };
        Ok(BuiltSink::Outbox(Box::new(webhook)))
    }
}

struct Webhook {
    endpoint: Endpoint,
    method: Method,
    headers: HeaderMap,
    template: Option<Template>,
    /// The template is one text, and so is the body.
    is_text: bool,
    names: Names,
    pace: Pace,
}

impl Webhook {
    fn body(&self, alert: &Alert) -> Result<Vec<u8>> {
        let body = match &self.template {
            Some(template) => template.render(alert)?,
            None => {
                let Names { pipeline, sink } = &self.names;
                let mut body = json!({ "id": alert.id, "pipeline": pipeline, "sink": sink, "row": alert.row });
                if let Some(count) = alert.digest_of {
                    body["digest_of"] = count.into();
                }
                body
            }
        };
        match body {
            Value::String(text) if self.is_text => Ok(text.into_bytes()),
            body => Ok(body.to_string().into_bytes()),
        }
    }
}

#[async_trait]
impl OutboxSink for Webhook {
    fn pace(&self) -> Pace {
        self.pace
    }

    async fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let mut headers = self.headers.clone();
        let key = HeaderValue::from_str(&alert.id)
            .map_err(|error| StageError::data("the id of the alert cannot stand in a header").because(error))?;
        headers.insert("idempotency-key", key);
        self.endpoint.send(&self.method, headers, self.body(alert)?).await
    }
}
