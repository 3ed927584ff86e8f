//! What leaves for a real HTTP server, and what its answers do to an alert.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_services::{HttpReceiver, Reply};
use pipeline_stage::{
    Alert, BuiltSink, ErrorKind, Make, NoConsole, OutboxSink, Result, SinkContext, StageContext, WhenFull,
    timestamp_type,
};
use serde_json::{Value, json};

/// In every URL of these tests; it must never be seen.
const HUSH: &str = "hush-4711";

fn schema() -> SchemaRef {
    let columns = [
        ("sensor_id", DataType::Utf8),
        ("metric_type", DataType::Utf8),
        ("value", DataType::Float64),
        ("timestamp", timestamp_type()),
        ("z_score", DataType::Float64),
    ];
    Arc::new(Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

fn sink(name: &str, options: Value) -> Result<Box<dyn OutboxSink>> {
    let stage = StageContext {
        pipeline: "iot".into(),
        id: "alerts".into(),
        directory: PathBuf::new(),
        key: vec!["sensor_id".into()],
        once: false,
        cold_start: false,
        console: Arc::new(NoConsole),
    };
    let stages = pipeline_http::stages();
    let stage_type = stages.iter().find(|stage_type| stage_type.name == name).expect("a stage of this crate");
    let Make::Sink(make) = &stage_type.make else { panic!("`{name}` is a sink") };
    match make(options, SinkContext { stage, schema: schema(), detector: None })? {
        BuiltSink::Outbox(sink) => Ok(sink),
        BuiltSink::Epochs(_) => panic!("`{name}` has an outbox"),
    }
}

fn alert() -> Alert {
    let row = json!({
        "sensor_id": "<!here> & co", "metric_type": "temperature", "value": 71.32,
        "timestamp": "2025-07-20T08:19:16Z", "z_score": 11.4032841
    });
    let Value::Object(row) = row else { panic!("an object") };
    Alert { id: "7f3a-0412-88d1-9e00".into(), row, digest_of: None }
}

/// A receiver and a Slack sink that posts to it.
async fn slack() -> (HttpReceiver, Box<dyn OutboxSink>) {
    let receiver = HttpReceiver::start().await;
    let url = format!("{}/services/T0/B0/{HUSH}", receiver.url());
    let sink = sink("slack", json!({ "webhook_url": url, "timeout": "5s" })).expect("good options");
    (receiver, sink)
}

#[tokio::test]
async fn slack_gets_a_message_of_blocks() {
    let (receiver, mut sink) = slack().await;
    sink.deliver(&alert()).await.unwrap();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/services/T0/B0/hush-4711"));
    assert_eq!(requests[0].headers["content-type"], "application/json; charset=utf-8");
    let message = requests[0].json();
    let types: Vec<_> = message["blocks"].as_array().unwrap().iter().map(|block| block["type"].clone()).collect();
    assert_eq!(types, ["header", "section", "divider", "context"]);
    assert_eq!(message["blocks"][1]["fields"][0]["text"], "*Sensor ID:*\n&lt;!here&gt; &amp; co");
    assert!(message["blocks"][3].to_string().contains("7f3a-0412-88d1-9e00"));
    assert!(message["text"].as_str().unwrap().contains("11.40"));
}

#[tokio::test]
async fn every_answer_does_what_it_should() {
    let (receiver, mut sink) = slack().await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let earlier = "Sun, 06 Nov 1994 08:49:30 GMT";
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (reply, kind, pause, words) in [
        (
            Reply::status(429).header("Retry-After", "7").body("rate_limited"),
            ErrorKind::Transient,
            seconds(7),
            "answered 429 Too Many Requests: `rate_limited`",
        ),
        (
            Reply::status(429).header("Retry-After", date).header("Date", earlier),
            ErrorKind::Transient,
            seconds(7),
            "answered 429",
        ),
        (Reply::status(429), ErrorKind::Transient, None, "answered 429"),
        (Reply::status(500), ErrorKind::Transient, None, "answered 500 Internal Server Error"),
        (Reply::status(503).header("Retry-After", "1"), ErrorKind::Transient, seconds(1), "answered 503"),
        (Reply::status(404).body("no_service"), ErrorKind::Transient, seconds(60), "`no_service`; alerts wait"),
        (Reply::status(410).body("channel_is_archived"), ErrorKind::Transient, seconds(60), "`channel_is_archived`"),
        (
            Reply::status(400).body("invalid_blocks"),
            ErrorKind::Data,
            None,
            "answered 400 Bad Request: `invalid_blocks`",
        ),
        (Reply::status(400).body(&"x".repeat(1_000_000)), ErrorKind::Data, None, "xxx…"),
        (Reply::close(), ErrorKind::Transient, None, "the connection to `127.0.0.1"),
    ] {
        receiver.set_behaviour([reply]);
        let error = sink.deliver(&alert()).await.unwrap_err();
        assert_eq!((error.kind(), error.pause()), (kind, pause), "{}", error.chain());
        assert!(error.chain().contains(words) && !error.chain().contains(HUSH), "{}", error.chain());
    }
    receiver.set_behaviour([Reply::ok()]);
    sink.deliver(&alert()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_repeats_the_url_does_not_give_it_away() {
    let (receiver, mut sink) = slack().await;
    receiver.set_behaviour([Reply::status(404).body(&format!("no route for /services/T0/B0/{HUSH}"))]);
    let error = sink.deliver(&alert()).await.unwrap_err();
    assert!(error.chain().contains("`no route for ***`"), "{}", error.chain());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (receiver, mut sink) = slack().await;
    let other = HttpReceiver::start().await;
    receiver.set_behaviour([Reply::status(302).header("Location", &other.url())]);
    let error = sink.deliver(&alert()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let receiver = HttpReceiver::start().await;
    receiver.set_behaviour([Reply::hang()]);
    let url = format!("{}/{HUSH}", receiver.url());
    let mut sink = sink("slack", json!({ "webhook_url": url, "timeout": "50ms" })).unwrap();
    let error = sink.deliver(&alert()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    let expected = format!("`{}` has not answered within 50ms", receiver.url().trim_start_matches("http://"));
    assert_eq!(error.chain(), expected);
}

#[tokio::test]
async fn a_delivery_that_the_engine_drops_does_not_block_the_next() {
    let (receiver, mut sink) = slack().await;
    receiver.set_behaviour([Reply::hang(), Reply::ok()]);
    let hanging = alert();
    tokio::select! {
        biased;
        delivered = sink.deliver(&hanging) => panic!("the receiver hangs, but {delivered:?}"),
        _ = receiver.wait_until(|requests| requests.len() == 1, Duration::from_secs(10)) => {}
    }
    sink.deliver(&alert()).await.unwrap();
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    // A port that is taken but not listened on, and TLS where nobody speaks it.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = silent.local_addr().unwrap();
    let receiver = HttpReceiver::start().await;
    for (url, words) in [
        (format!("http://{address}/{HUSH}"), "cannot be reached: Connection refused"),
        (receiver.url().replace("http:", "https:") + "/" + HUSH, "cannot be reached"),
    ] {
        let mut sink = sink("webhook", json!({ "url": url })).unwrap();
        let error = sink.deliver(&alert()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
        assert!(error.chain().contains(words) && !error.chain().contains(HUSH), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_webhook_gets_the_row_and_its_id() {
    let receiver = HttpReceiver::start().await;
    let options = json!({ "url": receiver.url() + "/a?b=c", "method": "PUT", "headers": { "X-Key": HUSH } });
    let mut sink = sink("webhook", options).unwrap();
    sink.deliver(&alert()).await.unwrap();
    sink.deliver(&Alert { digest_of: Some(3), ..alert() }).await.unwrap();
    let requests = receiver.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("PUT", "/a?b=c"));
    assert_eq!(requests[0].headers["idempotency-key"], "7f3a-0412-88d1-9e00");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].headers["x-key"], HUSH);
    let body = json!({ "id": "7f3a-0412-88d1-9e00", "pipeline": "iot", "sink": "alerts", "row": alert().row });
    assert_eq!(requests[0].json(), body);
    assert_eq!(requests[1].json()["digest_of"], 3);
}

#[tokio::test]
async fn a_template_makes_another_body() {
    let receiver = HttpReceiver::start().await;
    let structure = json!({ "summary": "{{ row.sensor_id }} is at {{ row.value }}", "value": "{{ row.value }}" });
    let text = json!("{\"v\": {{ row.value }}, \"id\": {{ row.sensor_id | tojson }}}");
    for template in [structure, text] {
        let mut sink = sink("webhook", json!({ "url": receiver.url(), "template": template })).unwrap();
        sink.deliver(&alert()).await.unwrap();
    }
    let blocks = json!([{ "type": "section", "text": { "type": "mrkdwn", "text": "{{ row.sensor_id }} {{ row.timestamp | utc }}" } }]);
    let options = json!({ "webhook_url": receiver.url(), "template": { "text": "{{ id }}", "blocks": blocks } });
    sink("slack", options).unwrap().deliver(&alert()).await.unwrap();
    let requests = receiver.requests();
    assert_eq!(requests[0].json(), json!({ "summary": "<!here> & co is at 71.32", "value": 71.32 }));
    assert_eq!(requests[1].headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(requests[1].json(), json!({ "v": 71.32, "id": "<!here> & co" }));
    assert_eq!(requests[2].json()["blocks"][0]["text"]["text"], "&lt;!here&gt; &amp; co 2025-07-20 08:19:16 UTC");
}

#[test]
fn wrong_options_are_refused_with_their_place() {
    let url = "https://example.com/hush-4711";
    for (name, options, option, message) in [
        (
            "slack",
            json!({ "webhook_url": HUSH }),
            "webhook_url",
            "`webhook_url` is no URL (relative URL without a base), it would be like `https://host/path`",
        ),
        ("slack", json!({ "webhook_url": url, "timeout": "0s" }), "timeout", "`timeout` is 0s, it must be above 0s"),
        (
            "slack",
            json!({ "webhook_url": url, "max_pending": 0 }),
            "max_pending",
            "`max_pending` is 0, it must be at least 1",
        ),
        (
            "slack",
            json!({ "webhook_url": url, "fields": [{ "column": "value" }], "template": {} }),
            "fields",
            "`fields` has no effect beside `template`: only one of them can be given",
        ),
        (
            "slack",
            json!({ "webhook_url": url, "template": "hello" }),
            "template",
            "`template` must be a message, `{ text: …, blocks: [ … ] }`",
        ),
        (
            "slack",
            json!({ "webhook_url": url, "template": { "text": "{{ row.valeu }}" } }),
            "template.text",
            "`template.text` uses column `valeu`; there is sensor_id, metric_type, value, timestamp, z_score",
        ),
        (
            "webhook",
            json!({ "url": url, "headers": { "a b": "x" } }),
            "headers.a b",
            "`a b` is not the name of a header, it would be like `X-Api-Key`",
        ),
        (
            "webhook",
            json!({ "url": url, "headers": { "a": "hush-4711\n" } }),
            "headers.a",
            "the value of header `a` has characters that no header can have",
        ),
    ] {
        let error = sink(name, options).err().expect("wrong options");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!((error.chain().as_str(), error.option()), (message, Some(option)));
    }
}

#[test]
fn the_pace_is_that_of_the_options() {
    let url = "https://example.com/";
    let slack = sink("slack", json!({ "webhook_url": url })).unwrap().pace();
    assert_eq!((slack.at_most_every, slack.timeout), (Duration::from_secs(1), Duration::from_secs(10)));
    assert_eq!((slack.max_pending, slack.when_full), (1_000, WhenFull::Digest));
    let options = json!({ "url": url, "rate": "6 per minute", "timeout": "1s", "max_pending": 5, "when_full": "wait" });
    let webhook = sink("webhook", options).unwrap().pace();
    assert_eq!((webhook.at_most_every, webhook.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
    assert_eq!((webhook.max_pending, webhook.when_full), (5, WhenFull::Wait));
}
