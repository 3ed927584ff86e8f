//! `file`: rows of a file, once or as they are appended.
//!
//! The byte at which a row starts is its offset (of the decompressed text), so a file is as replayable as a log, as
//! long as nothing but appending happens to it. A saved position knows how the file began and notices if it is another.

mod reader;
mod records;
mod stream;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pipeline_stage::{
    Assignment, ByteSize, ErrorKind, Framing, Partition, Position, Reader, Result, Source, SourceContext,
    SourceOptions, SourceOutput, StageContext, StageError, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

use reader::FileReader;

/// Reads a file: JSON lines, CSV or whatever its `format` cuts it into, plain or gzip-compressed.
///
/// Without `follow` the source ends where the file ends, whether or not the last line has a line feed. With `follow`
/// it waits for lines to be appended; one without a line feed is not finished yet. Empty lines are skipped.
///
/// After a restart reading goes on where it stopped. A file that was replaced or has become shorter since is an
/// error: its rows are not those that were read. Rotation is not followed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// Where the file is; a relative path starts at the folder of the pipeline file.
    pub path: String,
    /// Whether to wait for what is appended. A compressed file cannot be followed.
    #[serde(default)]
    pub follow: bool,
    /// How it is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The most bytes a line (or CSV record) may have, at most 1GiB. A longer one becomes a dead letter: it is cut
    /// off there, and the byte 0xFF is put behind it, which no format takes.
    #[serde(default = "default_max_line")]
    pub max_line: ByteSize,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As its name says: gzip if it ends in `.gz`, not at all if it does not.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
}

/// Far above any reading, and small enough that a file without line feeds does not fill the memory.
fn default_max_line() -> ByteSize {
    ByteSize(64 << 20)
}

/// The bytes of a batch, one line over the limit of a batch included, are counted by 31 bits.
const MOST_BYTES_OF_A_LINE: ByteSize = ByteSize(1 << 30);

impl StageOptions for FileOptions {
    const NAME: &'static str = "file";
    const EXAMPLE: &'static str = "
readings:
  type: file
  path: readings.jsonl.gz
  format: json
  schema: { sensor_id: string, metric_type: string, value: float, timestamp: timestamp }
";
}

impl SourceOptions for FileOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        if self.path.is_empty() {
            return wrong("path", "`path` is empty, it must name a file".into());
        }
        let is_gzip = match self.compression {
            Compression::Auto => {
                Path::new(&self.path).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"))
            }
            Compression::None => false,
            Compression::Gzip => true,
        };
        if self.follow && is_gzip {
            let message = format!("`{}` is compressed, only plain files can be followed", self.path);
            return wrong("follow", message);
        }
        if self.max_line < ByteSize(1) || MOST_BYTES_OF_A_LINE < self.max_line {
            let message = format!("`max_line` is {}, it must be 1B to {MOST_BYTES_OF_A_LINE}", self.max_line);
            return wrong("max_line", message);
        }
        let Some(framing) = context.framing else {
            return Err(StageError::config("it has no `format`; `json` or `csv` would do"));
        };
        let file = FileToRead {
            path: context.stage.directory.join(&self.path),
            name: self.path,
            is_gzip,
            framing,
            max_line: self.max_line.0 as usize,
        };
        let StageContext { once, cold_start, .. } = context.stage;
        Ok(Box::new(FileSource { file, follow: self.follow, once, cold_start, is_assigned: false }))
    }
}

/// Which file, and what is in it.
#[derive(Debug, Clone)]
struct FileToRead {
    path: PathBuf,
    /// As the user wrote it.
    name: String,
    is_gzip: bool,
    framing: Framing,
    max_line: usize,
}

struct FileSource {
    file: FileToRead,
    follow: bool,
    once: bool,
    cold_start: bool,
    is_assigned: bool,
}

#[async_trait]
impl Source for FileSource {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    async fn check(&mut self) -> Vec<StageError> {
        stream::check(&self.file).err().into_iter().collect()
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(Assignment::of_one_partition(&mut self.is_assigned))
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let open = |from| FileReader::open(&self.file, partition.number, from, self.follow, self.once);
        Ok(Box::new(match open(from).await {
            Err(error) if self.cold_start && from.is_some() && error.kind() == ErrorKind::Fatal => open(None).await?,
            opened => opened?,
        }))
    }
}
