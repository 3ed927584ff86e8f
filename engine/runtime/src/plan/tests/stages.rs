//! Small stages for tests of the plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use pipeline_stage::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// All of them.
pub fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    for stage in [
        StageType::source::<Lines>(),
        StageType::source::<Numbers>(),
        StageType::format::<Words>(),
        StageType::detector::<JumpOptions>(),
        StageType::sink::<TableOptions>(),
        StageType::sink::<PostOptions>(),
    ] {
        registry.add(stage).unwrap();
    }
    Arc::new(registry)
}

/// Gives payloads.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Where they are.
    topic: String,
    /// Further settings.
    #[serde(default)]
    #[allow(dead_code)]
    client: std::collections::BTreeMap<String, String>,
    /// Who reads.
    #[serde(default)]
    #[schemars(extend("x-names-process" = true))]
    instance: Option<String>,
}

impl StageOptions for Lines {
    const NAME: &'static str = "lines";
    const EXAMPLE: &'static str = "readings:\n  type: lines\n";
}

impl SourceOptions for Lines {
    fn build(self, _: SourceContext) -> Result<Box<dyn Source>> {
        if self.topic.contains(' ') {
            return Err(StageError::config("a topic has no blanks").at_option("topic"));
        }
        if self.instance.is_some_and(|name| name.contains(' ')) {
            return Err(StageError::config("a name has no blanks").at_option("instance"));
        }
        Ok(Box::new(Output(SourceOutput::Raw)))
    }
}

/// Gives columns.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// How fast.
    #[serde(default)]
    #[allow(dead_code)]
    rate: Option<Rate>,
}

impl StageOptions for Numbers {
    const NAME: &'static str = "numbers";
    const EXAMPLE: &'static str = "readings:\n  type: numbers\n";
}

impl SourceOptions for Numbers {
    fn build(self, _: SourceContext) -> Result<Box<dyn Source>> {
        let schema = Schema::new(vec![
            Field::new("sensor_id", DataType::Utf8, false),
            Field::new("value", DataType::Float64, false),
        ]);
        Ok(Box::new(Output(SourceOutput::Columns(Arc::new(schema)))))
    }
}

struct Output(SourceOutput);

#[async_trait]
impl Source for Output {
    fn output(&self) -> SourceOutput {
        self.0.clone()
    }
    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(Assignment::Final)
    }
    async fn open(&mut self, _: &Partition, _: Option<&Position>) -> Result<Box<dyn Reader>> {
        Err(StageError::fatal("nothing is opened in a test of plans"))
    }
}

/// Decodes nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// What stands between them.
    #[serde(default)]
    #[allow(dead_code)]
    separator: Option<String>,
}

impl StageOptions for Words {
    const NAME: &'static str = "words";
    const EXAMPLE: &'static str = "words:\n  type: words\n";
}

impl FormatOptions for Words {
    fn build(self, _: FormatContext) -> Result<Box<dyn Format>> {
        Ok(Box::new(NoWords))
    }
}

struct NoWords;

impl Format for NoWords {
    fn framing(&self) -> Framing {
        Framing::Lines
    }
    fn decode(&mut self, _: &RawRows, _: &[u64]) -> Result<Decoded> {
        Err(StageError::fatal("nothing is decoded in a test of plans"))
    }
}

/// Which jumps count.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Up and down.
    Both,
    /// Up.
    Above,
    /// Down.
    Below,
}

/// Finds jumps.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JumpOptions {
    /// How many readings are remembered.
    #[serde(default = "thirty")]
    #[schemars(range(min = 2, max = 10_000))]
    window: u32,
    /// How far.
    #[serde(default)]
    threshold: f64,
    /// Which way.
    #[serde(default)]
    #[allow(dead_code)]
    direction: Option<Direction>,
    /// How long.
    #[serde(default)]
    #[allow(dead_code)]
    pause: Option<Span>,
}

fn thirty() -> u32 {
    30
}

impl StageOptions for JumpOptions {
    const NAME: &'static str = "jump";
    const EXAMPLE: &'static str = "jumps:\n  type: jump\n";
}

impl DetectorOptions for JumpOptions {
    type Detector = Jump;
    fn build(self) -> Result<Jump> {
        if self.window == 13 {
            return Err(StageError::config("`window` is 13, it must be lucky").at_option("window"));
        }
        if self.threshold < 0.0 {
            return Err(StageError::config("`threshold` is below 0").at_option("threshold"));
        }
        Ok(Jump)
    }
}

pub struct Jump;

impl Detector for Jump {
    const STATE_VERSION: u16 = 1;
    const STATISTIC: &'static str = "jump";
    type Series = u8;
    fn start(&self) -> u8 {
        0
    }
    fn score(&self, _: &u8, _: &Reading) -> Option<Score> {
        None
    }
    fn remember(&self, _: &mut u8, _: &Reading, _: Option<&Score>) {}
}

/// Writes into a table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// Where the database is.
    #[allow(dead_code)]
    url: Secret,
    /// Which table.
    #[allow(dead_code)]
    table: String,
    /// Which columns.
    #[serde(default)]
    columns: Vec<String>,
}

impl StageOptions for TableOptions {
    const NAME: &'static str = "table";
    const EXAMPLE: &'static str = "history:\n  type: table\n";
}

impl SinkOptions for TableOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        for (i, column) in self.columns.iter().enumerate() {
            keyed::find_column(&context.schema, column).map_err(|error| error.at_option(format!("columns.{i}")))?;
        }
        Ok(BuiltSink::Epochs(Box::new(NoTable)))
    }
}

struct NoTable;

#[async_trait]
impl Sink for NoTable {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }
    async fn claim(&mut self, _: &Owner) -> Result<Claim> {
        Ok(Claim::New)
    }
    async fn commit(&mut self, _: &[EpochRows]) -> Result<Commit> {
        Ok(Commit::Done(Vec::new()))
    }
}

/// Posts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostOptions {
    /// Where to.
    #[allow(dead_code)]
    url: Secret,
    /// Which port.
    #[serde(default)]
    #[allow(dead_code)]
    port: Option<u16>,
}

impl StageOptions for PostOptions {
    const NAME: &'static str = "post";
    const EXAMPLE: &'static str = "alerts:\n  type: post\n";
}

impl SinkOptions for PostOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Epochs(Box::new(NoTable)))
    }
}
