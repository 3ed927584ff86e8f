//! Traces: spans of epochs, of what stages computed for them, and of their commits, sent by OTLP over HTTP.

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use pipeline_stage::{Result, StageError};
use tracing::warn;

/// Where spans go, until it is dropped, which sends those that wait.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To a collector at an address like `http://localhost:4318`. It need not be there yet: what cannot be sent is lost,
    /// and holds nothing up.
    ///
    /// # Errors
    /// `Config` when the address is none.
    pub fn to(collector: &str) -> Result<Self> {
        let endpoint = match collector.trim_end_matches('/') {
            whole if whole.ends_with("/v1/traces") => whole.to_owned(),
            base => format!("{base}/v1/traces"),
        };
        let wrong = |why: String| StageError::config(format!("`{collector}` is no address of a collector: {why}"));
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            return Err(wrong("it would be like `http://localhost:4318`".into()));
        }
        // An error means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The exporter sends from a thread of its own, which has no async runtime.
        let client = reqwest::blocking::Client::builder().build().map_err(|error| wrong(error.to_string()))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("pipeline").with_attribute(version).build();
        Ok(Traces(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// What turns spans into traces.
    pub fn tracer(&self) -> SdkTracer {
        self.0.tracer("pipeline")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            warn!("the last spans could not be sent: {error}");
        }
    }
}
