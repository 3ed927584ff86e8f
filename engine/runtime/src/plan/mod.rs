//! A pipeline as it will run: options parsed, columns known, nothing opened.

mod above;
mod build;
mod columns;
mod definition;
mod draft;
mod edges;
mod load;
mod options;
mod partitions;
mod plugins;
mod report;
mod secrets;
mod sources;
mod spec;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use pipeline_stage::{
    BuiltSink, Column, ColumnType, Console, Delivery, Format, FormatContext, History, Kind, Make, NAMES_PROCESS,
    NoConsole, OneOrMany, Registry, Result, Role, SavedState, SinkContext, Source, SourceContext, SourceOutput,
    StageContext, StageError, Transform, Zone,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::diagnostics::Diagnostic;
use crate::expression::Expression;
use crate::file::{PipelineFile, Pointer, STAGE_MAPS};
use crate::store::StageOf;

pub use crate::file::{Environment, LoadOptions};
pub(crate) use draft::engine_schema;
pub use load::{load, load_definition, load_text};
pub(crate) use options::{definition, grouped, type_in_words};
pub use plugins::{LoadPlugins, PluginRef};
pub(crate) use spec::{PipelineOptions, schema_of};
#[cfg(test)]
pub(crate) use tests::registry as test_registry;

/// A pipeline that is known to be right as far as that can be known without I/O.
pub struct Plan {
    /// What the file says beside its stages.
    pub settings: Settings,
    /// The stages in the order of the file. Indices into it are used everywhere.
    pub stages: Vec<Stage>,
    /// The stages in an order in which each comes after its inputs.
    pub order: Vec<usize>,
    /// The pipeline as it is stored with its state: all that decides what it computes, secrets as references.
    /// [`load_definition`] reads it.
    pub definition: String,
    /// The secrets that the file holds itself, by their places; `definition` refers to them. Never print them.
    pub secrets: BTreeMap<String, String>,
    /// The stage types the plan was made of: the built-in ones and those of the file's libraries.
    pub registry: Arc<Registry>,
    /// The file it was made of, for the places of what is found out later. Holds secrets.
    pub(crate) file: PipelineFile,
}

/// What a pipeline file says beside its stages.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `name:`.
    pub name: String,
    /// `key:`.
    pub key: Vec<String>,
    /// `state:`, a folder or a PostgreSQL URL (which may hold a password: never print it).
    pub state: String,
    /// `commit_every:`.
    pub commit_every: Duration,
    /// `checkpoint_every:`.
    pub checkpoint_every: Duration,
    /// `time_zone:`.
    pub zone: Zone,
    /// The folder of the pipeline file.
    pub directory: PathBuf,
}

/// One stage of a plan.
pub struct Stage {
    /// Its id in the file.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// `type:`.
    pub type_name: String,
    /// Its own options, variables resolved. Holds secrets: never print it.
    pub options: Value,
    /// The stages its rows come from, in the order of `inputs:`.
    pub inputs: Vec<usize>,
    /// `when:`, one for each input (for a source one, on what it gives); empty when there is none.
    pub when: Vec<Expression>,
    /// The columns it gives; for a sink those that reach it.
    pub schema: SchemaRef,
    /// What only sources have.
    pub source: Option<SourceStage>,
    /// What only sinks have.
    pub promise: Option<Promise>,
    /// Roughly what one series costs in memory, in bytes; none for stages that keep no series.
    pub bytes_per_series: Option<usize>,
}

/// What only source stages have.
pub struct SourceStage {
    /// What the source gives.
    pub output: SourceOutput,
    /// `format:`, name and options; none when the source gives columns.
    pub format: Option<(String, Value)>,
    /// `schema:`.
    pub columns: Vec<Column>,
    /// `tasks:`, for sources without partitions of their own; 1 for the others.
    pub tasks: u32,
    /// Whether its input is parted already.
    pub has_partitions: bool,
    /// Whether its rows can be read again; if not, the epoch log keeps them.
    pub is_replayable: bool,
    /// Leader or follower.
    pub role: Role,
    /// `partitioned_by:`; empty when the file does not say it.
    pub partitioned_by: Vec<String>,
}

/// What a sink stage promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// By its own means.
    Epochs(Delivery),
    /// At least once, by an outbox.
    Outbox,
}

/// What a run tells all its stages.
#[derive(Clone)]
pub struct RunSettings {
    /// `--once`.
    pub once: bool,
    /// `--cold-start`.
    pub cold_start: bool,
    /// `--rebuild`: stages whose state is computed again from the rows that are there.
    pub rebuild: Vec<String>,
    /// Only what is logged is computed again, up to a checkpoint; nothing new is read.
    pub catches_up: bool,
    /// Standard output.
    pub console: Arc<dyn Console>,
}

impl Default for RunSettings {
    /// An ordinary run that nobody looks at.
    fn default() -> Self {
        RunSettings {
            once: false,
            cold_start: false,
            rebuild: Vec::new(),
            catches_up: false,
            console: Arc::new(NoConsole),
        }
    }
}

impl Plan {
    /// Where the state is kept: a PostgreSQL URL (which may hold a password), or a folder. A relative folder starts at
    /// the pipeline file's.
    pub fn state_location(&self) -> String {
        match crate::store::is_postgres(&self.settings.state) {
            true => self.settings.state.clone(),
            false => self.settings.directory.join(&self.settings.state).display().to_string(),
        }
    }

    /// The stages that may have state.
    pub fn stages_with_state(&self) -> Vec<StageOf> {
        let stages = self.stages.iter().enumerate();
        let stages = stages.filter(|(_, stage)| matches!(stage.kind, Kind::Transform | Kind::Detector));
        stages.map(|(number, _)| self.stage_of(number)).collect()
    }

    /// What the state of a stage is of.
    pub fn stage_of(&self, number: usize) -> StageOf {
        let stage = &self.stages[number];
        let key = self.series_key(number);
        StageOf {
            id: stage.id.clone(),
            of: format!("{}.{}", stage.kind.name(), stage.type_name),
            key: key.map(|key| key.into_iter().map(|(name, _)| name).collect()),
            value: stage.options.get("value").and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// The source whose partitions make the tasks.
    pub fn leader(&self) -> Option<(usize, &SourceStage)> {
        let sources =
            self.stages.iter().enumerate().filter_map(|(number, stage)| Some((number, stage.source.as_ref()?)));
        sources.into_iter().find(|(_, source)| source.role == Role::Leader)
    }

    /// The columns that make a series of a detector, with their types; none for other stages.
    pub fn series_key(&self, stage: usize) -> Option<Vec<(String, ColumnType)>> {
        let detector = self.stages.get(stage).filter(|stage| stage.kind == Kind::Detector)?;
        let own = detector.options.get("key").and_then(|key| OneOrMany::deserialize(key).ok());
        let names = own.map_or_else(|| self.settings.key.clone(), |own| own.as_slice().to_vec());
        let schema = &self.stages[*detector.inputs.first()?].schema;
        let typed = names.into_iter().map(|name| {
            let column_type = ColumnType::of(schema.field_with_name(&name).ok()?.data_type())?;
            Some((name, column_type))
        });
        typed.collect()
    }

    /// Where a detector's rows say whether they are anomalies: the column it has added last that is called so, with whatever
    /// prefix; none for other stages.
    pub fn anomaly_column(&self, stage: usize) -> Option<usize> {
        let stage = self.stages.get(stage).filter(|stage| stage.kind == Kind::Detector)?;
        let fields = stage.schema.fields();
        (0..fields.len()).rev().find(|column| fields[*column].name().ends_with("is_anomaly"))
    }

    /// The column by which anomalies of a detector are counted: the last of its series' key, if that has several columns.
    /// In `[sensor_id, metric_type]` it is the metric.
    pub fn metric_column(&self, stage: usize) -> Option<usize> {
        let key = self.series_key(stage)?;
        let (name, _) = key.last().filter(|_| 1 < key.len())?;
        self.stages[stage].schema.index_of(name).ok()
    }

    /// What a stage is told when it is built.
    pub fn context(&self, stage: usize, run: &RunSettings) -> StageContext {
        StageContext {
            pipeline: self.settings.name.clone(),
            id: self.stages[stage].id.clone(),
            directory: self.settings.directory.clone(),
            key: self.settings.key.clone(),
            once: run.once,
            cold_start: run.cold_start,
            console: run.console.clone(),
        }
    }

    /// What a stage says of its options once it has looked at the world, with the option's place in the file. The
    /// sources of the report that came with the plan are those of the place.
    pub fn diagnose(&self, stage: usize, error: &StageError) -> Diagnostic {
        let stage = &self.stages[stage];
        let of_kind = STAGE_MAPS.iter().find(|map| draft::kind_of(map) == Some(stage.kind));
        let pointer = Pointer::new([of_kind.copied().unwrap_or_default(), &stage.id]);
        let mut findings = report::Findings {
            file: &self.file,
            registry: &self.registry,
            diagnostics: Vec::new(),
            is_doubtful: false,
            knows_all_types: true,
        };
        findings.stage_error(error, &pointer, &pointer.join("type"));
        findings.diagnostics.pop().unwrap_or_else(|| Diagnostic::error(error.chain()))
    }

    fn make(&self, stage: usize) -> Result<&Make> {
        let stage = &self.stages[stage];
        self.find(stage.kind, &stage.type_name)
    }

    fn find(&self, kind: Kind, name: &str) -> Result<&Make> {
        let found = self.registry.find(kind, name).map(|stage| &stage.make);
        found.ok_or_else(|| StageError::fatal(format!("no {} is called `{name}`", kind.name())))
    }

    /// Makes the source of a stage; no I/O. `instance` names the process, where the file does not.
    pub fn build_source(&self, stage: usize, run: &RunSettings, instance: Option<&str>) -> Result<Box<dyn Source>> {
        let Make::Source(make) = self.make(stage)? else { return Err(wrong_kind()) };
        let mut options = self.stages[stage].options.clone();
        if let (Some(option), Some(instance)) = (self.unnamed_process(stage), instance) {
            options[option] = instance.into();
        }
        let source = self.stages[stage].source.as_ref().ok_or_else(wrong_kind)?;
        let framing = self.build_format(stage)?.map(|format| format.framing());
        let context = SourceContext { stage: self.context(stage, run), framing, role: source.role };
        make(options, context)
    }

    /// The option by which a stage names the process to others, if it has one and the file leaves it out.
    pub fn unnamed_process(&self, stage: usize) -> Option<&str> {
        let stage = &self.stages[stage];
        let schema = self.registry.find(stage.kind, &stage.type_name)?.schema.as_value();
        let options = schema.get("properties")?.as_object()?;
        let (name, _) = options.iter().find(|(_, option)| option.get(NAMES_PROCESS) == Some(&Value::Bool(true)))?;
        stage.options.get(name).is_none_or(Value::is_null).then_some(name)
    }

    /// Makes the format of a source stage; none when the source gives columns.
    pub fn build_format(&self, stage: usize) -> Result<Option<Box<dyn Format>>> {
        let source = self.stages[stage].source.as_ref().ok_or_else(wrong_kind)?;
        let Some((name, options)) = &source.format else { return Ok(None) };
        let Make::Format(make) = self.find(Kind::Format, name)? else { return Err(wrong_kind()) };
        let context = FormatContext { columns: source.columns.clone(), zone: self.settings.zone };
        make(options.clone(), context).map(Some)
    }

    /// Makes a transform or detector with the state it had.
    pub fn build_transform(&self, stage: usize, run: &RunSettings, state: SavedState) -> Result<Box<dyn Transform>> {
        let Make::Transform(make) = self.make(stage)? else { return Err(wrong_kind()) };
        let inputs: Vec<SchemaRef> =
            self.stages[stage].inputs.iter().map(|&input| self.stages[input].schema.clone()).collect();
        make(self.stages[stage].options.clone(), &self.context(stage, run), &inputs, state)
    }

    /// Makes a detector that has seen nothing, for rows of other columns than those that reach it in the pipeline.
    pub fn build_detector_on(&self, stage: usize, run: &RunSettings, input: SchemaRef) -> Result<Box<dyn Transform>> {
        let Make::Transform(make) = self.make(stage)? else { return Err(wrong_kind()) };
        make(self.stages[stage].options.clone(), &self.context(stage, run), &[input], SavedState::default())
    }

    /// Makes a sink; no I/O.
    pub fn build_sink(&self, stage: usize, run: &RunSettings) -> Result<BuiltSink> {
        let Make::Sink(make) = self.make(stage)? else { return Err(wrong_kind()) };
        make(self.stages[stage].options.clone(), self.sink_context(stage, run))
    }

    /// Makes what reads back what a sink has written; none when its type has no such thing. No I/O.
    pub fn build_history(&self, stage: usize, run: &RunSettings) -> Result<Option<Box<dyn History>>> {
        let of = &self.stages[stage];
        let Some(make) = self.registry.find(of.kind, &of.type_name).and_then(|found| found.history.as_ref()) else {
            return Ok(None);
        };
        make(of.options.clone(), self.sink_context(stage, run))
    }

    fn sink_context(&self, stage: usize, run: &RunSettings) -> SinkContext {
        let detector = self.told_of_detector_above(stage);
        SinkContext { stage: self.context(stage, run), schema: self.stages[stage].schema.clone(), detector }
    }
}

fn wrong_kind() -> StageError {
    StageError::fatal("the stage is of another kind than the plan says")
}

/// Whether an option of a stage is a secret.
pub(crate) fn is_secret_option(plan: &Plan, stage: &Stage, option: &str) -> bool {
    let stage_type = plan.registry.find(stage.kind, &stage.type_name);
    stage_type.is_none_or(|stage_type| secrets::is_secret(stage_type.schema.as_value(), option))
}

/// The options of a stage without those that are or hold secrets, and the names of these.
pub(crate) fn public_options(plan: &Plan, stage: &Stage) -> (Map<String, Value>, Vec<String>) {
    let (mut options, mut hidden) = (Map::new(), Vec::new());
    for (name, value) in stage.options.as_object().into_iter().flatten() {
        let of_kind = STAGE_MAPS.iter().find(|map| draft::kind_of(map) == Some(stage.kind)).copied();
        let written =
            plan.file.unresolved().pointer(&Pointer::new([of_kind.unwrap_or_default(), &stage.id, name]).to_string());
        let is_secret = is_secret_option(plan, stage, name)
            || secrets::is_telling(name, value)
            || written.is_some_and(|written| written.to_string().contains("${file:"));
        match is_secret {
            true => hidden.push(name.clone()),
            false => drop(options.insert(name.clone(), value.clone())),
        }
    }
    (options, hidden)
}

/// The default of an option that a stage does not give.
pub(crate) fn option_default(plan: &Plan, stage: &Stage, option: &str) -> Option<Value> {
    let stage_type = plan.registry.find(stage.kind, &stage.type_name)?;
    stage_type.schema.get("properties")?.get(option)?.get("default").cloned()
}
