//! What a stage is told when it is built, beside its options.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;

use crate::format::{Column, Framing};

/// What every stage is told.
#[derive(Clone)]
pub struct StageContext {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's id in the file.
    pub id: String,
    /// The folder of the pipeline file: relative paths in options start here.
    pub directory: PathBuf,
    /// The columns that make a series, as the pipeline or the stage says.
    pub key: Vec<String>,
    /// The run ends when what was there at its start is read (`--once`).
    pub once: bool,
    /// The user accepts that state is missing (`--cold-start`).
    pub cold_start: bool,
    /// Where data for people goes: the process' standard output.
    pub console: Arc<dyn Console>,
}

/// What a source is told.
#[derive(Clone)]
pub struct SourceContext {
    /// As for every stage.
    pub stage: StageContext,
    /// How the source's format cuts a stream of bytes; none when the source gives columns.
    pub framing: Option<Framing>,
    /// Whether this source's assignments make the tasks, or it is opened by the number of another one's partitions.
    pub role: Role,
}

/// Which source decides what a process owns, when there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its assignments make the tasks.
    Leader,
    /// It opens whatever partition number the leader owns.
    Follower,
}

/// What a format is told.
#[derive(Debug, Clone)]
pub struct FormatContext {
    /// The declared columns.
    pub columns: Vec<Column>,
    /// What a time without a zone means, in seconds east of Greenwich for a local time.
    pub zone: Zone,
}

/// The zone of times that are written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// UTC.
    #[default]
    Utc,
    /// A fixed number of seconds east of UTC.
    Fixed(i32),
}

/// What a sink is told.
#[derive(Clone)]
pub struct SinkContext {
    /// As for every stage.
    pub stage: StageContext,
    /// The columns that reach it, after `when:`. A sink has one input, or several of the same columns.
    pub schema: SchemaRef,
    /// The detector that its rows come through; none when there is none, or several and none of them is named in `when:`.
    pub detector: Option<DetectorAbove>,
}

/// The detector that the rows of a sink come through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorAbove {
    /// Its id in the file.
    pub id: String,
    /// The columns that make one of its series.
    pub key: Vec<String>,
    /// Its column of times, if it was given one.
    pub time: Option<String>,
}

/// Standard output, as one writer for all: progress lines and data do not mix.
pub trait Console: Send + Sync {
    /// Writes whole lines. An error of kind `BrokenPipe` ends the run quietly.
    fn write(&self, lines: &[u8]) -> io::Result<()>;
    /// Whether a person is looking: colour helps then.
    fn is_terminal(&self) -> bool;
}

/// A console that nobody sees.
#[derive(Debug, Default)]
pub struct NoConsole;

impl Console for NoConsole {
    fn write(&self, _lines: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn is_terminal(&self) -> bool {
        false
    }
}
