//! All stages there are: what each is called, takes and makes.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use schemars::Schema;
use serde_json::Value;

use crate::context::{FormatContext, SinkContext, SourceContext, StageContext};
use crate::detector::DetectorOptions;
use crate::error::{Result, StageError};
use crate::format::Format;
use crate::history::History;
use crate::keyed::{Keyed, KeyedOptions};
use crate::options::StageOptions;
use crate::sink::BuiltSink;
use crate::source::Source;
use crate::state::SavedState;
use crate::transform::Transform;

/// Options that make a source.
pub trait SourceOptions: StageOptions {
    /// Checks the options and makes the source; no I/O.
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>>;
}

/// Options that make a transform.
pub trait TransformOptions: StageOptions {
    /// Checks the options against the columns of each input and makes the transform, with the state it had.
    fn build(self, context: &StageContext, inputs: &[SchemaRef], state: SavedState) -> Result<Box<dyn Transform>>;
}

/// Options that make a sink.
pub trait SinkOptions: StageOptions {
    /// Checks the options against the columns that reach it and makes the sink; no I/O.
    fn build(self, context: SinkContext) -> Result<BuiltSink>;

    /// What reads back what the sink writes; none when nothing can. No I/O.
    fn history(self, _context: SinkContext) -> Result<Option<Box<dyn History>>> {
        Ok(None)
    }
}

/// Options that make a format.
pub trait FormatOptions: StageOptions {
    /// Checks the options against the declared columns and makes the format.
    fn build(self, context: FormatContext) -> Result<Box<dyn Format>>;
}

/// The kinds of stages, and formats, which are parts of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Gives rows.
    Source,
    /// Turns rows into rows.
    Transform,
    /// Turns rows into rows with scores.
    Detector,
    /// Takes rows.
    Sink,
    /// Decodes a source's payloads.
    Format,
}

impl Kind {
    /// All of them, in the order of the data's flow.
    pub const ALL: [Kind; 5] = [Kind::Source, Kind::Format, Kind::Transform, Kind::Detector, Kind::Sink];

    /// As users write it: `source`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Transform => "transform",
            Kind::Detector => "detector",
            Kind::Sink => "sink",
            Kind::Format => "format",
        }
    }
}

/// Makes a source of its options as JSON.
pub type MakeSource = dyn Fn(Value, SourceContext) -> Result<Box<dyn Source>> + Send + Sync;
/// Makes a transform or detector of its options as JSON. For a detector the second value holds the options that all
/// detectors share.
pub type MakeTransform =
    dyn Fn(Value, &StageContext, &[SchemaRef], SavedState) -> Result<Box<dyn Transform>> + Send + Sync;
/// Makes a sink of its options as JSON.
pub type MakeSink = dyn Fn(Value, SinkContext) -> Result<BuiltSink> + Send + Sync;
/// Makes what reads back what a sink writes, of the sink's options as JSON.
pub type MakeHistory = dyn Fn(Value, SinkContext) -> Result<Option<Box<dyn History>>> + Send + Sync;
/// Makes a format of its options as JSON.
pub type MakeFormat = dyn Fn(Value, FormatContext) -> Result<Box<dyn Format>> + Send + Sync;

/// How a stage is made.
#[derive(Clone)]
pub enum Make {
    /// A source.
    Source(Arc<MakeSource>),
    /// A transform, or a detector.
    Transform(Arc<MakeTransform>),
    /// A sink.
    Sink(Arc<MakeSink>),
    /// A format.
    Format(Arc<MakeFormat>),
}

/// One stage that a pipeline file can name.
#[derive(Clone)]
pub struct StageType {
    /// Which map of the file it stands in.
    pub kind: Kind,
    /// `type:` in the file.
    pub name: String,
    /// A YAML stage that works.
    pub example: String,
    /// The JSON Schema of its options; its description is the documentation.
    pub schema: Schema,
    /// Makes it.
    pub make: Make,
    /// Of a sink: makes what reads back what it writes; none when it is known that nothing can.
    pub history: Option<Arc<MakeHistory>>,
    /// The path of the shared library it was loaded from; none when it is built in.
    pub library: Option<Arc<str>>,
}

impl StageType {
    fn of<O: StageOptions>(kind: Kind, make: Make) -> Self {
        let schema = schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<O>();
        let (name, example) = (O::NAME.into(), O::EXAMPLE.trim_start_matches('\n').into());
        StageType { kind, name, example, schema, make, history: None, library: None }
    }

    /// The stage type that a source's options make.
    pub fn source<O: SourceOptions>() -> Self {
        Self::of::<O>(Kind::Source, Make::Source(Arc::new(|options, context| parse::<O>(options)?.build(context))))
    }

    /// The stage type that a transform's options make.
    pub fn transform<O: TransformOptions>() -> Self {
        let make = |options: Value, context: &StageContext, inputs: &[SchemaRef], state| {
            parse::<O>(options)?.build(context, inputs, state)
        };
        Self::of::<O>(Kind::Transform, Make::Transform(Arc::new(make)))
    }

    /// The stage type that a detector's options make, with those that all detectors share.
    pub fn detector<O: DetectorOptions>() -> Self {
        let make = |options: Value, context: &StageContext, inputs: &[SchemaRef], state| {
            let (shared, own) = KeyedOptions::split(options);
            let detector = parse::<O>(own)?.build()?;
            let keyed: Box<dyn Transform> =
                Box::new(Keyed::new(detector, parse::<KeyedOptions>(shared)?, context, inputs, state)?);
            Ok(keyed)
        };
        let mut stage = Self::of::<O>(Kind::Detector, Make::Transform(Arc::new(make)));
        KeyedOptions::extend(&mut stage.schema);
        stage
    }

    /// The stage type that a sink's options make.
    pub fn sink<O: SinkOptions>() -> Self {
        let stage =
            Self::of::<O>(Kind::Sink, Make::Sink(Arc::new(|options, context| parse::<O>(options)?.build(context))));
        StageType { history: Some(Arc::new(|options, context| parse::<O>(options)?.history(context))), ..stage }
    }

    /// The stage type that a format's options make.
    pub fn format<O: FormatOptions>() -> Self {
        Self::of::<O>(Kind::Format, Make::Format(Arc::new(|options, context| parse::<O>(options)?.build(context))))
    }

    /// The first paragraph of the documentation, on one line.
    pub fn summary(&self) -> String {
        let text = self.documentation();
        text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
    }

    /// Where it comes from, in words: `built in`, or the library.
    fn origin(&self) -> String {
        match &self.library {
            None => "built in".into(),
            Some(library) => format!("in `{library}`"),
        }
    }

    /// The documentation, in Markdown.
    pub fn documentation(&self) -> &str {
        self.schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads options; the error names the option.
pub fn parse<O: serde::de::DeserializeOwned>(options: Value) -> Result<O> {
    serde_path_to_error::deserialize(options).map_err(|error| {
        let path = error.path().to_string();
        let error = StageError::config(error.into_inner().to_string());
        if path == "." { error } else { error.at_option(path) }
    })
}

/// All stages that a pipeline file can name.
#[derive(Clone, Default)]
pub struct Registry {
    stages: Vec<StageType>,
    /// Stages that are known but not there, with where they would come from, in words.
    absent: Vec<(Kind, String, String)>,
}

impl Registry {
    /// Adds a stage.
    ///
    /// # Errors
    /// When there is one of the same kind and name; the error says where both come from.
    pub fn add(&mut self, stage: StageType) -> Result<()> {
        if let Some(other) = self.find(stage.kind, &stage.name) {
            return Err(StageError::config(format!(
                "there are two {}s called `{}`: one is {}, one is {}",
                stage.kind.name(),
                stage.name,
                other.origin(),
                stage.origin()
            )));
        }
        self.stages.push(stage);
        Ok(())
    }

    /// Puts a stage in the place of the one of the same kind and name; adds it when there is none.
    pub fn replace(&mut self, stage: StageType) {
        match self.stages.iter_mut().find(|other| other.kind == stage.kind && other.name == stage.name) {
            Some(place) => *place = stage,
            None => self.stages.push(stage),
        }
    }

    /// Notes that a stage is not there, and where it would come from, in words: who asks for it is told.
    pub fn note_absent(&mut self, kind: Kind, name: &str, whence: &str) {
        self.absent.push((kind, name.into(), whence.into()));
    }

    /// Where a stage that is not there would come from; none when nobody knows it.
    pub fn whence(&self, kind: Kind, name: &str) -> Option<&str> {
        let mut absent = self.absent.iter();
        absent.find(|(of, known, _)| *of == kind && known == name).map(|(_, _, whence)| whence.as_str())
    }

    /// Looks one up.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&StageType> {
        self.stages.iter().find(|stage| stage.kind == kind && stage.name == name)
    }

    /// All of a kind, in the order they were added.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &StageType> {
        self.stages.iter().filter(move |stage| stage.kind == kind)
    }

    /// All of them, by kind and then in the order they were added.
    pub fn all(&self) -> impl Iterator<Item = &StageType> {
        Kind::ALL.into_iter().flat_map(|kind| self.of_kind(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(library: Option<&str>) -> StageType {
        let make: Arc<MakeFormat> = Arc::new(|_, _| Err(StageError::config("never made")));
        StageType {
            kind: Kind::Format,
            name: "words".into(),
            example: String::new(),
            schema: Schema::default(),
            make: Make::Format(make),
            history: None,
            library: library.map(Into::into),
        }
    }

    fn libraries(registry: &Registry) -> Vec<Option<&str>> {
        registry.all().map(|stage| stage.library.as_deref()).collect()
    }

    #[test]
    fn two_stages_of_one_name_are_both_named() {
        let clash = |one, other| {
            let mut registry = Registry::default();
            registry.add(stage(one)).unwrap();
            registry.add(stage(other)).unwrap_err().to_string()
        };
        assert_eq!(
            clash(None, Some("/x/libz.so")),
            "there are two formats called `words`: one is built in, one is in `/x/libz.so`"
        );
        assert_eq!(
            clash(Some("/x/liba.so"), Some("/x/libz.so")),
            "there are two formats called `words`: one is in `/x/liba.so`, one is in `/x/libz.so`"
        );
    }

    #[test]
    fn a_stage_takes_the_place_of_another_in_a_copy_alone() {
        let mut registry = Registry::default();
        registry.add(stage(None)).unwrap();
        let mut copy = registry.clone();
        copy.replace(stage(Some("/x/libz.so")));
        assert_eq!(libraries(&copy), [Some("/x/libz.so")]);
        assert_eq!(libraries(&registry), [None]);
        let mut empty = Registry::default();
        empty.replace(stage(None));
        assert_eq!(libraries(&empty), [None]);
    }
}
