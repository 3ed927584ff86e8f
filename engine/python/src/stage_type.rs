//! What a plugin says about a stage, checked, as a stage type.

use std::sync::Arc;

use pipeline_stage::keyed::{KeyedBatch, KeyedOptions, Method};
use pipeline_stage::{Kind, Make, Result, StageContext, StageType, Transform, parse};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;

use crate::detector::PythonDetector;
use crate::frame::header;
use crate::plugin::Launch;
use crate::sink::build_sink;
use crate::source::build_source;
use crate::transform::PythonTransform;

/// What a plugin says about a stage.
#[derive(Debug, Clone, Deserialize)]
pub struct Description {
    kind: String,
    name: String,
    statistic: String,
    state_version: u16,
    example: String,
    schema: Value,
}

/// The stage type. The error completes the sentence "the plugin …".
pub fn stage_type(found: Description, launch: &Arc<Launch>, library: &Arc<str>) -> Result<StageType, String> {
    let Description { kind, name, statistic, state_version, example, schema } = found;
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_plain || name.is_empty() {
        return Err(format!("has a stage called `{}`, a name is made of a-z, 0-9 and _", name.escape_debug()));
    }
    let schema = schema.try_into().map_err(|error| format!("has a stage `{name}` whose schema is none: {error}"))?;
    let (launch, stage) = (launch.clone(), name.clone());
    let (kind, make) = match kind.as_str() {
        "detector" => (Kind::Detector, make_detector(launch, stage, Method { statistic, state_version })),
        "transform" => (Kind::Transform, make_transform(launch, stage, state_version)),
        "source" => {
            let make = move |options, context| build_source(&launch, &stage, options, &context);
            (Kind::Source, Make::Source(Arc::new(make)))
        }
        "sink" => {
            let make = move |options, context| build_sink(&launch, &stage, options, &context);
            (Kind::Sink, Make::Sink(Arc::new(make)))
        }
        other => return Err(format!("has a stage `{name}` of kind `{other}`, which this engine does not know")),
    };
    let mut stage = StageType { kind, name, example, schema, make, history: None, library: Some(library.clone()) };
    if kind == Kind::Detector {
        KeyedOptions::extend(&mut stage.schema);
    }
    Ok(stage)
}

fn make_detector(launch: Arc<Launch>, stage: String, method: Method) -> Make {
    Make::Transform(Arc::new(move |options, context, inputs, state| {
        let (shared, own) = KeyedOptions::split(options);
        let shared = parse::<KeyedOptions>(shared)?;
        let detector = PythonDetector::build(&launch, &stage, own, context)?;
        let keyed = KeyedBatch::new(detector, method.clone(), &shared, context, inputs, state)?;
        Ok(Box::new(keyed) as Box<dyn Transform>)
    }))
}

fn make_transform(launch: Arc<Launch>, stage: String, state_version: u16) -> Make {
    Make::Transform(Arc::new(move |options, context, inputs, state| {
        let process = launch.start(&context.id)?;
        let build = build_header("transform", &stage, options, context);
        let transform = PythonTransform::build(process, build, state_version, inputs, &state)?;
        Ok(Box::new(transform) as Box<dyn Transform>)
    }))
}

/// The question that makes a stage.
pub fn build_header(kind: &str, stage: &str, options: Value, context: &StageContext) -> Map<String, Value> {
    let context = json!({
        "pipeline": context.pipeline,
        "id": context.id,
        "directory": context.directory.display().to_string(),
        "key": context.key,
        "once": context.once,
    });
    // Warnings are wanted even where nothing is logged: they may be the last words.
    let level = LevelFilter::current().max(LevelFilter::WARN).to_string().to_lowercase();
    header("build", json!({"kind": kind, "stage": stage, "options": options, "context": context, "level": level}))
}
