//! Traces, as a collector gets them.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use pipeline_services::{HttpReceiver, eventually};
use prost::Message;

use crate::production::{pipeline, repository};

const LONG: Duration = Duration::from_secs(60);

/// The spans that a collector has got, by id.
fn spans(collector: &HttpReceiver) -> BTreeMap<Vec<u8>, Span> {
    let mut spans = BTreeMap::new();
    for request in collector.requests().iter().filter(|request| request.path == "/v1/traces") {
        let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).expect("it is OTLP");
        let scopes = sent.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.extend(scopes.flat_map(|scope| scope.spans).map(|span| (span.span_id.clone(), span)));
    }
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_spans_with_stage_calls_and_commits_below() {
    let collector = HttpReceiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut running = pipeline()
        .args(["run"])
        .args([repository().join("pipelines/iot.yaml")])
        .args(["--dashboard", "off", "--otlp", &collector.url()])
        .env("STATE", folder.path())
        .env("DATABASE", folder.path().join("iot.db"))
        .start();
    running.wait_for_line("ANOMALY", LONG).await;
    running.interrupt();
    running.wait().await.assert_code(0);
    eventually(LONG, "spans of epochs", async || spans(&collector).values().any(|span| span.name == "epoch")).await;

    let spans = spans(&collector);
    let parents = |name: &str| {
        let of_name = spans.values().filter(move |span| span.name == name);
        of_name.map(|span| spans.get(&span.parent_span_id).map(|parent| parent.name.as_str())).collect::<Vec<_>>()
    };
    for name in ["stage", "log", "commit"] {
        let parents = parents(name);
        assert!(!parents.is_empty(), "no span is called {name}");
        assert!(parents.iter().all(|parent| *parent == Some("epoch")), "{name} is below {parents:?}");
    }
    let attributes: Vec<&str> =
        spans.values().flat_map(|span| &span.attributes).map(|pair| pair.key.as_str()).collect();
    for key in ["task", "epoch", "rows", "id", "sink"] {
        assert!(attributes.contains(&key), "no span says its {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = pipeline()
        .args(["run"])
        .args([repository().join("pipelines/iot.yaml")])
        .args(["--dashboard", "off", "--otlp", "http://127.0.0.1:9"])
        .env("STATE", folder.path())
        .env("DATABASE", folder.path().join("iot.db"))
        .start();
    running.wait_for_line("ANOMALY", LONG).await;
    running.interrupt();
    let finished = running.wait().await;
    finished.assert_code(0);
    finished.assert_books_balance();
}
