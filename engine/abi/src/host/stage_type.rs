//! A descriptor of a library, checked, as a stage type.

use std::ffi::c_char;
use std::sync::Arc;

use pipeline_stage::keyed::{Keyed, KeyedOptions};
use pipeline_stage::{Kind, Make, StageError, StageType, Transform, parse};
use serde_json::Value;

use super::read_text;
use super::series::LoadedDetector;
use super::sink::build_sink;
use super::source::build_source;
use super::transform::LoadedTransform;
use crate::memory::sized;
use crate::raw::{DETECTOR, RawStage, SINK, SOURCE, TRANSFORM};

/// A descriptor with the place where it stands, which `build` wants to see again.
#[derive(Clone, Copy)]
pub struct Descriptor {
    pub raw: RawStage,
    pub place: *const RawStage,
}

// SAFETY: what it points to stays as it is for the life of the process (rule 1), and its functions may be called from
// any thread (rule 4).
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

/// Reads a descriptor. The error completes the sentence "it has a stage that …".
pub fn read_stage(place: *const RawStage, library: &Arc<str>) -> Result<StageType, String> {
    if place.is_null() || !place.is_aligned() {
        return Err("is NULL".into());
    }
    // SAFETY: it is there, and begins with its size (rule 6).
    let struct_size = unsafe { (*place).struct_size };
    if (struct_size as usize) < std::mem::offset_of!(RawStage, tick) {
        return Err(format!("says that its descriptor has {struct_size} bytes, which is too few"));
    }
    // SAFETY: it has as many bytes as it says.
    let raw: RawStage = unsafe { sized(place, struct_size) };
    let name = read_text(raw.name, "name")?;
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_plain || name.is_empty() {
        return Err(format!("is called `{}`, a name is made of a-z, 0-9 and _", name.escape_debug()));
    }
    let named = |why: String| format!("is called `{name}` and {why}");
    let kind = match raw.kind {
        SOURCE => Kind::Source,
        TRANSFORM => Kind::Transform,
        DETECTOR => Kind::Detector,
        SINK => Kind::Sink,
        other => return Err(named(format!("is of kind {other}, which this engine does not know"))),
    };
    check_functions(kind, &raw).map_err(named)?;
    let example = read_text(raw.example, "example").map_err(named)?;
    let schema = read_schema(raw.schema).map_err(named)?;
    let is_of_one_series = is_of_one_series(kind, &raw);
    let statistic = match is_of_one_series {
        true => read_text(raw.statistic, "statistic").map_err(named)?,
        false => String::new(),
    };
    let make = make(kind, Descriptor { raw, place }, known_options(&schema), statistic);
    let mut stage = StageType { kind, name, example, schema, make, history: None, library: Some(library.clone()) };
    if is_of_one_series {
        KeyedOptions::extend(&mut stage.schema);
    }
    Ok(stage)
}

/// A detector of which the engine keeps the series.
fn is_of_one_series(kind: Kind, raw: &RawStage) -> bool {
    kind == Kind::Detector && (raw.observe.is_some() || raw.start.is_some())
}

/// What a stage of a kind cannot do without.
fn check_functions(kind: Kind, raw: &RawStage) -> Result<(), String> {
    let (has_all, needed) = match kind {
        Kind::Source => (raw.open.is_some() && raw.read.is_some(), "`open` and `read`"),
        Kind::Sink => {
            let takes_epochs = raw.claim.is_some() && raw.commit.is_some();
            (takes_epochs || raw.deliver.is_some(), "either `claim` and `commit`, or `deliver`")
        }
        Kind::Detector if is_of_one_series(kind, raw) => {
            let has_both = raw.start.is_some() && raw.observe.is_some();
            (has_both && raw.process.is_none(), "either `process`, or `start` and `observe`")
        }
        Kind::Detector => (raw.process.is_some(), "either `process`, or `start` and `observe`"),
        _ => (raw.process.is_some(), "`process`"),
    };
    match raw.build.is_some() && has_all {
        true => Ok(()),
        false => Err(format!("lacks functions: a {} needs `build`, and {needed}", kind.name())),
    }
}

/// How stages of a type are made.
fn make(kind: Kind, descriptor: Descriptor, known: Vec<String>, statistic: String) -> Make {
    match kind {
        Kind::Source => Make::Source(Arc::new(move |options, context| {
            refuse_unknown(&options, &known)?;
            build_source(descriptor, &options, &context)
        })),
        Kind::Sink => Make::Sink(Arc::new(move |options, context| {
            refuse_unknown(&options, &known)?;
            build_sink(descriptor, &options, &context)
        })),
        _ if is_of_one_series(kind, &descriptor.raw) => {
            Make::Transform(Arc::new(move |options, context, inputs, state| {
                let (shared, own) = KeyedOptions::split(options);
                refuse_unknown(&own, &known)?;
                let detector = LoadedDetector::build(descriptor, own, context, inputs, &statistic)?;
                let keyed: Box<dyn Transform> =
                    Box::new(Keyed::new(detector, parse::<KeyedOptions>(shared)?, context, inputs, state)?);
                Ok(keyed)
            }))
        }
        _ => Make::Transform(Arc::new(move |options, context, inputs, state| {
            refuse_unknown(&options, &known)?;
            let transform: Box<dyn Transform> =
                Box::new(LoadedTransform::build(descriptor, &options, context, inputs, &state)?);
            Ok(transform)
        })),
    }
}

fn known_options(schema: &schemars::Schema) -> Vec<String> {
    let options = schema.get("properties").and_then(Value::as_object);
    options.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// An option that the library does not know it would not look at either.
fn refuse_unknown(options: &Value, known: &[String]) -> Result<(), StageError> {
    let mut names = options.as_object().into_iter().flatten().map(|(name, _)| name);
    match names.find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("unknown option `{name}`, there is {}", known.join(", "));
            Err(StageError::config(message).at_option(name))
        }
    }
}

/// A JSON Schema of an object whose options are all known.
fn read_schema(from: *const c_char) -> Result<schemars::Schema, String> {
    let text = read_text(from, "schema")?;
    let mut value: Value =
        serde_json::from_str(&text).map_err(|error| format!("has a schema that is no JSON: {error}"))?;
    let Some(object) = value.as_object_mut() else { return Err("has a schema that is no JSON object".into()) };
    if object.get("type").is_some_and(|of| of != "object") {
        return Err("has a schema whose `type` is not `object`".into());
    }
    if object.get("properties").is_some_and(|options| !options.is_object()) {
        return Err("has a schema whose `properties` are no object".into());
    }
    object.entry("type").or_insert_with(|| "object".into());
    // An unknown option is an error in every stage, not a surprise.
    object.insert("additionalProperties".into(), false.into());
    value.try_into().map_err(|error| format!("has a schema that is none: {error}"))
}
