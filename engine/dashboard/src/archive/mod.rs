//! The past: what sinks have stored, asked for by pages.

mod csv;
mod points;
mod questions;
mod readings;
mod series;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use pipeline_runtime::plan::{Plan, RunSettings};
use pipeline_stage::{ColumnType, ErrorKind, History, Kind, StageError};
use serde::Serialize;
use tracing::warn;

pub use csv::csv;
pub use questions::{counts, rows, series_names};
pub use series::points;

/// The tables of a pipeline's sinks that can be read.
pub struct Archive {
    tables: Vec<Table>,
}

/// A table that can be read.
pub struct Table {
    /// The sink's stage.
    pub stage: usize,
    /// What a page needs to know of it.
    pub info: TableInfo,
    /// Reads it.
    pub history: Box<dyn History>,
}

/// What a page needs to know of a table.
#[derive(Debug, Clone, Serialize)]
pub struct TableInfo {
    /// The sink's id.
    pub sink: String,
    /// Its columns with their types.
    pub columns: Vec<(String, Option<&'static str>)>,
    /// The detector that its rows come through, if any.
    pub detector: Option<String>,
    /// Its rows are anomalies, all of them (`when:` says so), or those for which this column is true; none otherwise.
    pub anomalies: Anomalies,
    /// The columns of the series' key that it has all of, of the detector before or after it.
    pub key: Option<Vec<String>>,
    /// The column of values.
    pub value: Option<String>,
    /// The column of times: the detector's, or the first there is.
    pub time: Option<String>,
}

/// Which rows of a table are anomalies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomalies {
    /// None is known to be.
    None,
    /// All.
    All,
    /// Those for which this column is true.
    Column(String),
}

impl Archive {
    /// The tables of a plan's sinks; what cannot be read is logged and left out.
    pub fn of(plan: &Arc<Plan>) -> Self {
        let mut tables = Vec::new();
        for (stage, sink) in plan.stages.iter().enumerate().filter(|(_, stage)| stage.kind == Kind::Sink) {
            match plan.build_history(stage, &RunSettings::default()) {
                Ok(Some(history)) => {
                    let info = info(plan, stage, history.as_ref());
                    tables.push(Table { stage, info, history });
                }
                Ok(None) => {}
                Err(error) => warn!("{}: what it has stored cannot be shown: {}", sink.id, error.chain()),
            }
        }
        Archive { tables }
    }

    /// What a page needs to know of each.
    pub fn tables(&self) -> Vec<&TableInfo> {
        self.tables.iter().map(|table| &table.info).collect()
    }

    /// The table of a sink.
    ///
    /// # Errors
    /// When there is none, with those there are.
    pub fn table(&self, sink: &str) -> Result<&Table, Problem> {
        let found = self.tables.iter().find(|table| table.info.sink == sink);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.tables.iter().map(|table| table.info.sink.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Problem::missing(format!("`{sink}` is no sink whose table can be read; there is {known}"))
        })
    }
}

fn info(plan: &Plan, stage: usize, history: &dyn History) -> TableInfo {
    let schema = history.schema();
    let has = |name: &String| schema.column_with_name(name).is_some();
    let detector = detector_of(plan, stage);
    let option = |name: &str| {
        let option = plan.stages[detector?].options.get(name)?.as_str()?.to_owned();
        has(&option).then_some(option)
    };
    let key = detector.and_then(|detector| plan.series_key(detector));
    let key = key.map(|key| key.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    let first_time =
        schema.fields().iter().find(|field| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp));
    let is_behind =
        detector.is_some_and(|detector| plan.stages[stage].inputs.iter().all(|input| below(plan, *input, detector)));
    TableInfo {
        sink: plan.stages[stage].id.clone(),
        columns: schema
            .fields()
            .iter()
            .map(|field| (field.name().clone(), ColumnType::of(field.data_type()).map(ColumnType::name)))
            .collect(),
        detector: detector.map(|detector| plan.stages[detector].id.clone()),
        anomalies: if is_behind { anomalies(plan, stage, detector, &has) } else { Anomalies::None },
        key: key.filter(|key| key.iter().all(has)),
        value: option("value"),
        time: option("time").or_else(|| first_time.map(|field| field.name().clone())),
    }
}

/// The detector that a sink's rows come through; else one that reads what the sink stores.
fn detector_of(plan: &Plan, sink: usize) -> Option<usize> {
    let detectors = || (0..plan.stages.len()).filter(|stage| plan.stages[*stage].kind == Kind::Detector);
    let inputs = &plan.stages[sink].inputs;
    let last = || detectors().rfind(|detector| inputs.iter().any(|input| below(plan, *input, *detector)));
    plan.detector_above(sink)
        .or_else(last)
        .or_else(|| detectors().find(|detector| inputs.iter().any(|input| below(plan, *detector, *input))))
}

/// Whether a stage is another one, or gets its rows from it.
fn below(plan: &Plan, stage: usize, above: usize) -> bool {
    stage == above || plan.stages[stage].inputs.iter().any(|input| below(plan, *input, above))
}

fn anomalies(plan: &Plan, sink: usize, detector: Option<usize>, has: &dyn Fn(&String) -> bool) -> Anomalies {
    let column = detector.and_then(|detector| {
        let column = plan.anomaly_column(detector)?;
        Some(plan.stages[detector].schema.field(column).name().clone())
    });
    let Some(column) = column else { return Anomalies::None };
    let conditions = &plan.stages[sink].when;
    let is_condition = !conditions.is_empty() && conditions.iter().all(|when| when.columns().contains(&column));
    match (has(&column), is_condition) {
        (true, _) => Anomalies::Column(column),
        (false, true) => Anomalies::All,
        (false, false) => Anomalies::None,
    }
}

/// Why a question has no answer.
pub struct Problem(StatusCode, String);

impl Problem {
    /// The question cannot be asked.
    pub fn wrong(words: impl Into<String>) -> Self {
        Problem(StatusCode::BAD_REQUEST, words.into())
    }

    /// What it is about is not there.
    pub fn missing(words: impl Into<String>) -> Self {
        Problem(StatusCode::NOT_FOUND, words.into())
    }
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        let status = match error.kind() {
            ErrorKind::Config => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem(status, error.chain())
    }
}

impl From<arrow::error::ArrowError> for Problem {
    fn from(error: arrow::error::ArrowError) -> Self {
        Problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}
