//! The page itself, and what it is told once: what the pipeline consists of.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Json, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use pipeline_runtime::graph::summary::{promise, what, when};
use pipeline_runtime::plan::Plan;
use pipeline_stage::ColumnType;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::access::Role;
use crate::server::Shared;

/// The page.
pub async fn index() -> Html<&'static str> {
    Html(include_str!("assets/index.html"))
}

/// A file of the page, compressed: what does not change is asked for only once.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.get(name.as_str()) else { return StatusCode::NOT_FOUND.into_response() };
    let known = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    if known == Some(asset.tag.as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let head = [
        (CONTENT_TYPE, asset.content_type),
        (CONTENT_ENCODING, "gzip"),
        (ETAG, asset.tag.as_str()),
        (CACHE_CONTROL, "private, no-cache"),
    ];
    (head, asset.compressed.clone()).into_response()
}

struct Asset {
    content_type: &'static str,
    tag: String,
    compressed: Cow<'static, [u8]>,
}

/// Plotly.js, compressed when the binary was built.
const PLOTLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plotly.js.gz"));

static ASSETS: LazyLock<HashMap<&'static str, Asset>> = LazyLock::new(|| {
    HashMap::from([
        ("anomalies.js", Asset::of("text/javascript", include_str!("assets/anomalies.js"))),
        ("app.js", Asset::of("text/javascript", include_str!("assets/app.js"))),
        ("chart.js", Asset::of("text/javascript", include_str!("assets/chart.js"))),
        ("counts.js", Asset::of("text/javascript", include_str!("assets/counts.js"))),
        ("dom.js", Asset::of("text/javascript", include_str!("assets/dom.js"))),
        ("feed.js", Asset::of("text/javascript", include_str!("assets/feed.js"))),
        ("letters.js", Asset::of("text/javascript", include_str!("assets/letters.js"))),
        ("link.js", Asset::of("text/javascript", include_str!("assets/link.js"))),
        ("now.js", Asset::of("text/javascript", include_str!("assets/now.js"))),
        ("picture.js", Asset::of("text/javascript", include_str!("assets/picture.js"))),
        ("series.js", Asset::of("text/javascript", include_str!("assets/series.js"))),
        ("style.css", Asset::of("text/css", include_str!("assets/style.css"))),
        ("plotly.js", Asset::compressed("text/javascript", PLOTLY.into())),
    ])
});

impl Asset {
    fn of(content_type: &'static str, text: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let written = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        Asset::compressed(content_type, written.expect("writing to memory does not fail").into())
    }

    fn compressed(content_type: &'static str, compressed: Cow<'static, [u8]>) -> Self {
        let hash: String = Sha256::digest(&compressed).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Asset { content_type, tag: format!("\"{hash}\""), compressed }
    }
}

/// What a stage is, for the picture and the tables.
#[derive(Serialize)]
struct StageInfo<'a> {
    id: &'a str,
    kind: &'static str,
    what: String,
    inputs: &'a [usize],
    when: Option<String>,
    promise: Option<&'static str>,
    columns: Vec<Value>,
    /// Of a detector: the columns of its series' key, of its values and of its times, and that which says `anomaly`.
    key: Option<Vec<String>>,
    value: Option<&'a str>,
    time: Option<&'a str>,
    anomaly: Option<String>,
}

/// `/api/pipeline`.
pub async fn pipeline(State(shared): State<Shared>, headers: HeaderMap) -> Json<Value> {
    let plan = &shared.watched.plan;
    let stages: Vec<StageInfo<'_>> = (0..plan.stages.len()).map(|stage| info(plan, stage)).collect();
    Json(json!({
        "name": plan.settings.name,
        "version": shared.watched.version,
        "state": shared.watched.place,
        "stages": stages,
        "order": plan.order,
        "tables": shared.archive.tables(),
        "is_admin": shared.access.role(&headers) == Role::Admin,
        "has_admin": shared.access.has_admin(),
    }))
}

fn info(plan: &Arc<Plan>, number: usize) -> StageInfo<'_> {
    let stage = &plan.stages[number];
    let option = |name: &str| stage.options.get(name).and_then(Value::as_str);
    let columns = stage.schema.fields().iter().map(|field| {
        let column_type = ColumnType::of(field.data_type()).map(ColumnType::name);
        json!({ "name": field.name(), "type": column_type })
    });
    let key = plan.series_key(number).map(|key| key.into_iter().map(|(name, _)| name).collect());
    let anomaly = plan.anomaly_column(number).map(|column| stage.schema.field(column).name().clone());
    StageInfo {
        id: &stage.id,
        kind: stage.kind.name(),
        what: what(plan, stage),
        inputs: &stage.inputs,
        when: when(stage),
        promise: promise(stage),
        columns: columns.collect(),
        value: key.as_ref().and(option("value")),
        time: key.as_ref().and(option("time")),
        key,
        anomaly,
    }
}
