//! Builds every stage without I/O, to learn its columns and what it thinks of its options.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use pipeline_stage::keyed::find_column;
use pipeline_stage::{
    BuiltSink, ColumnType, Kind, Make, NoConsole, OneOrMany, Result, Role, SavedState, SinkContext, StageContext,
    StageError,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::draft::Draft;
use super::edges::Edges;
use super::report::{Findings, option_path};
use super::{Promise, Settings, SourceStage};
use crate::diagnostics::{Diagnostic, did_you_mean, nearest};
use crate::expression::Expression;
use crate::file::Pointer;

/// What is known of a stage that was built.
#[derive(Default)]
pub(super) struct Built {
    /// The columns it gives, or for a sink those that reach it; none when they are not known.
    pub schema: Option<SchemaRef>,
    pub when: Vec<Expression>,
    pub source: Option<SourceStage>,
    pub promise: Option<Promise>,
    pub bytes_per_series: Option<usize>,
}

/// Builds the stages in their order.
pub(super) fn build(
    findings: &mut Findings<'_>,
    settings: &Settings,
    drafts: &mut [Draft<'_>],
    edges: &Edges,
) -> Vec<Built> {
    let mut built: Vec<Built> = drafts.iter().map(|_| Built::default()).collect();
    let leader = drafts.iter().position(|draft| draft.kind == Kind::Source);
    for &stage in &edges.order {
        let inputs: Option<Vec<SchemaRef>> =
            edges.inputs[stage].iter().map(|&input| built[input].schema.clone()).collect();
        let inputs = inputs.filter(|_| edges.is_whole[stage]);
        let ids: Vec<&str> = drafts[stage].inputs.iter().map(|(id, _)| id.as_str()).collect();
        let from = Inputs { ids: ids.join("`, `"), schemas: inputs.unwrap_or_default() };
        let mut builder = Builder { findings, context: context(settings, &drafts[stage]), from };
        let draft = &mut drafts[stage];
        built[stage] = match draft.kind {
            Kind::Source => {
                let role = if leader == Some(stage) { Role::Leader } else { Role::Follower };
                builder.source(draft, settings, role)
            }
            Kind::Sink => builder.sink(draft),
            _ => builder.transform(draft),
        };
    }
    built
}

fn context(settings: &Settings, draft: &Draft<'_>) -> StageContext {
    StageContext {
        pipeline: settings.name.clone(),
        id: draft.id.clone(),
        directory: settings.directory.clone(),
        key: settings.key.clone(),
        once: false,
        cold_start: false,
        console: Arc::new(NoConsole),
    }
}

/// Where a stage's rows come from.
pub(super) struct Inputs {
    ids: String,
    /// Empty when one of them is not known.
    schemas: Vec<SchemaRef>,
}

/// Builds one stage.
pub(super) struct Builder<'a, 'b> {
    pub findings: &'a mut Findings<'b>,
    pub context: StageContext,
    from: Inputs,
}

impl Builder<'_, '_> {
    fn transform(&mut self, draft: &mut Draft<'_>) -> Built {
        if self.from.schemas.is_empty() {
            return Built::default();
        }
        if draft.kind == Kind::Detector {
            self.same_columns(draft);
            self.detector_columns(draft);
        }
        let inputs = self.from.schemas.clone();
        let when = inputs.iter().flat_map(|schema| self.when(draft, schema)).collect();
        let made = self.make(draft, |make, options, context| match make {
            Make::Transform(make) => make(options, context, &inputs, SavedState::default()),
            _ => Err(wrong_kind()),
        });
        let bytes_per_series = made.as_ref().and_then(|made| made.bytes_per_series());
        Built { schema: made.map(|made| made.schema()), when, bytes_per_series, ..Built::default() }
    }

    fn sink(&mut self, draft: &mut Draft<'_>) -> Built {
        let Some(schema) = self.from.schemas.first().cloned() else { return Built::default() };
        self.same_columns(draft);
        let inputs = self.from.schemas.clone();
        let when = inputs.iter().flat_map(|schema| self.when(draft, schema)).collect();
        let made = self.make(draft, |make, options, context| match make {
            // Which detector is above it is known once all stages are; no option depends on it.
            Make::Sink(make) => {
                make(options, SinkContext { stage: context.clone(), schema: schema.clone(), detector: None })
            }
            _ => Err(wrong_kind()),
        });
        let promise = made.map(|made| match made {
            BuiltSink::Epochs(sink) => Promise::Epochs(sink.delivery()),
            BuiltSink::Outbox(_) => Promise::Outbox,
        });
        Built { schema: Some(schema), when, promise, ..Built::default() }
    }

    /// Several inputs of a sink or detector are one stream: they must have the same columns.
    fn same_columns(&mut self, draft: &Draft<'_>) {
        let Some((first, others)) = self.from.schemas.split_first() else { return };
        for (i, other) in others.iter().enumerate().filter(|(_, other)| other.fields() != first.fields()) {
            let (id, pointer) = &draft.inputs[i + 1];
            let message = format!("`{id}` gives other columns than `{}`", draft.inputs[0].0);
            let notes = [gives(&draft.inputs[0].0, first), gives(id, other)];
            self.findings.error(pointer, message, "", &notes);
        }
    }

    /// The columns that every detector is told: all that are missing at once.
    fn detector_columns(&mut self, draft: &mut Draft<'_>) {
        let Some(schema) = self.from.schemas.first().cloned() else { return };
        for option in ["value", "time"] {
            let Some(name) = draft.options.get(option).and_then(Value::as_str).map(str::to_owned) else { continue };
            if schema.index_of(&name).is_err() {
                self.no_column(&draft.pointer.join(option), &name, draft, &schema);
                draft.reported.push(option.to_owned());
            }
        }
        let (key, base) = self.key(draft);
        for (name, pointer) in key.iter().filter(|(name, _)| schema.index_of(name).is_err()) {
            let pointer = if self.findings.file.rank(pointer).is_some() { pointer } else { &base };
            self.no_column(pointer, name, draft, &schema);
            draft.reported.push("key".to_owned());
        }
    }

    /// The columns of a detector's key with their places, and the place of the key as a whole.
    fn key(&self, draft: &Draft<'_>) -> (Vec<(String, Pointer)>, Pointer) {
        let (value, base) = match draft.options.get("key") {
            Some(own) => (Some(own), draft.pointer.join("key")),
            None => (self.findings.file.value().get("key"), Pointer::new(["key"])),
        };
        let names: Option<OneOrMany> = value.and_then(|value| OneOrMany::deserialize(value).ok());
        (super::draft::names(names.as_ref(), &base), base)
    }

    pub(super) fn no_column(&mut self, pointer: &Pointer, name: &str, draft: &Draft<'_>, schema: &SchemaRef) {
        let columns = schema.fields().iter().map(|field| field.name().as_str());
        let meant = did_you_mean(nearest(name, columns));
        let (message, from) = match draft.kind {
            Kind::Source => (format!("`{}` gives no column `{name}`", draft.id), draft.id.as_str()),
            _ => (format!("no column `{name}` reaches `{}`", draft.id), self.from.ids.as_str()),
        };
        let note = gives(from, schema);
        self.findings.error(pointer, message, meant, &[note]);
    }

    pub(super) fn when(&mut self, draft: &Draft<'_>, schema: &SchemaRef) -> Option<Expression> {
        let text = draft.when.as_ref()?;
        let pointer = draft.pointer.join("when");
        match Expression::compile_condition(text, schema) {
            Ok(expression) => Some(expression),
            Err(errors) => {
                for error in errors {
                    let place = self.findings.inside(&pointer, error.span);
                    let diagnostic = Diagnostic::error(error.message).at(place, error.help.unwrap_or_default());
                    self.findings.push(diagnostic);
                }
                None
            }
        }
    }

    /// Makes a stage; after a mistake in one option without it, to find the next.
    pub(super) fn make<T>(
        &mut self,
        draft: &mut Draft<'_>,
        make: impl Fn(&Make, Value, &StageContext) -> Result<T>,
    ) -> Option<T> {
        let stage_type = draft.stage_type?;
        let mut options = draft.options.clone();
        loop {
            let error = match make(&stage_type.make, Value::Object(options.clone()), &self.context) {
                Ok(made) => return Some(made),
                Err(error) => error,
            };
            let option = error.option().and_then(|option| option_path(option).next()).map(str::to_owned);
            if option.is_none() && lacks_required(&stage_type.schema, &options) {
                // serde says that something is missing: that has been said.
                return None;
            }
            if option.as_ref().is_none_or(|option| !draft.reported.contains(option)) {
                self.made_error(draft, &error);
            }
            let option = option?;
            draft.reported.push(option.clone());
            match option.as_str() {
                // The pipeline's key is no option of the stage: without a key the rest can still be looked at.
                "key" if draft.kind == Kind::Detector && options.get("key") != Some(&Value::Array(Vec::new())) => {
                    options.insert(option, Value::Array(Vec::new()));
                }
                _ => {
                    options.shift_remove(&option)?;
                }
            }
        }
    }

    /// Reports what a stage says; a column that is not there is said in the engine's own words.
    fn made_error(&mut self, draft: &Draft<'_>, error: &StageError) {
        let pointer = error.option().map(|option| draft.pointer.join_all(option_path(option)));
        let named =
            pointer.as_ref().and_then(|pointer| self.findings.file.value().pointer(&pointer.to_string())?.as_str());
        if let (Some(pointer), Some(name), Some(schema)) =
            (&pointer, named.map(str::to_owned), self.from.schemas.first().cloned())
        {
            let is_about_column =
                find_column(&schema, &name).err().is_some_and(|missing| missing.to_string() == error.to_string());
            if is_about_column {
                self.no_column(pointer, &name, draft, &schema);
                return;
            }
        }
        self.findings.stage_error(error, &draft.pointer, &draft.type_pointer());
    }
}

/// Whether an option is missing that the stage cannot be made without.
fn lacks_required(schema: &schemars::Schema, options: &Map<String, Value>) -> bool {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    required.into_iter().any(|name| !options.contains_key(name))
}

/// `` `readings` gives: sensor_id (string), value (float) ``
fn gives(id: &str, schema: &SchemaRef) -> String {
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{} ({})", field.name(), type_name(field.data_type(), field.is_nullable())))
        .collect();
    format!("`{id}` gives: {}", columns.join(", "))
}

fn type_name(data_type: &DataType, is_nullable: bool) -> String {
    let name = ColumnType::of(data_type).map_or_else(|| data_type.to_string(), |column_type| column_type.name().into());
    if is_nullable { format!("{name}, may be null") } else { name }
}

pub(super) fn wrong_kind() -> StageError {
    StageError::fatal("the stage is of another kind than its type says")
}
