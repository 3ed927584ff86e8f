//! The sink `console`: rows for a person, or for the next program in a shell pipe.

mod lines;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Console, Delivery, EpochRows, Owner, Result, Sink, SinkContext, SinkOptions, StageError,
    StageOptions, write_json_members,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::columns::choose;
pub use lines::Lines;

/// Prints rows on standard output, as readable lines or as JSON.
///
/// A line of text has the time first (the first timestamp column, in UTC), then the columns of the key, the others,
/// and the row's id last. What a detector has added is said in short: its statistic, `expected E ± B`, where a
/// reading further than B from E would be an anomaly, and ANOMALY if it is one. On a terminal a line of its own
/// tells the date when it changes; elsewhere every line has it. Control characters in text are spelled out
/// (`\u{1b}`) and text is cut after 64 characters: JSON has everything.
///
/// A restart may print the last rows again: at least once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleOptions {
    /// How a row is printed.
    #[serde(default)]
    pub format: ConsoleFormat,
    /// The columns to print, for `json` in this order. Default: all.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
}

/// How a row is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleFormat {
    /// One aligned line for each row.
    #[default]
    Text,
    /// One JSON object on each line: `id` (`row_id` if a column is called `id`), then the columns.
    Json,
}

impl StageOptions for ConsoleOptions {
    const NAME: &'static str = "console";
    const EXAMPLE: &'static str = "
screen:
  type: console
  inputs: [spikes]
  when: is_anomaly
";
}

impl SinkOptions for ConsoleOptions {
    fn build(self, context: SinkContext) -> Result<BuiltSink> {
        let chosen = choose(self.columns.as_deref(), &context.schema)?;
        let is_terminal = context.stage.console.is_terminal();
        let form = match self.format {
            ConsoleFormat::Text => Form::Text(Lines::new(&context.schema, &chosen, &context.stage.key, is_terminal)),
            ConsoleFormat::Json => Form::Json {
                id_name: if context.schema.index_of("id").is_ok() { "row_id" } else { "id" },
                chosen: self.columns.is_some().then_some(chosen),
            },
        };
        Ok(BuiltSink::Epochs(Box::new(ConsoleSink {
            form,
            pipeline: context.stage.pipeline,
            console: context.stage.console,
        })))
    }
}

struct ConsoleSink {
    form: Form,
    pipeline: String,
    console: Arc<dyn Console>,
}

enum Form {
    Text(Lines),
    Json { id_name: &'static str, chosen: Option<Vec<usize>> },
}

#[async_trait]
impl Sink for ConsoleSink {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        owner.stored_claim()
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let printed = self.print(epochs)?;
        if printed.is_empty() {
            return Ok(Commit::Done(Vec::new()));
        }
        match self.console.write(&printed) {
            Ok(()) => Ok(Commit::Done(Vec::new())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(StageError::fatal("standard output was closed").because(error))
            }
            Err(error) => Err(StageError::transient("standard output cannot be written").because(error)),
        }
    }
}

impl ConsoleSink {
    fn print(&mut self, epochs: &[EpochRows]) -> Result<Vec<u8>> {
        let mut printed = Vec::new();
        for (batch, origins) in epochs.iter().flat_map(EpochRows::batches) {
            match &mut self.form {
                Form::Text(lines) => {
                    for row in 0..batch.num_rows() {
                        lines.print(batch, row, &origins.row_id(&self.pipeline, row), &mut printed);
                    }
                }
                Form::Json { id_name, chosen } => {
                    let batch = match chosen {
                        Some(chosen) => &batch.project(chosen)?,
                        None => batch,
                    };
                    for row in 0..batch.num_rows() {
                        let id = origins.row_id(&self.pipeline, row);
                        printed.extend_from_slice(format!("{{\"{id_name}\":\"{id}\"").as_bytes());
                        if batch.num_columns() > 0 {
                            printed.push(b',');
                        }
                        write_json_members(batch, row, &mut printed);
                        printed.extend_from_slice(b"}\n");
                    }
                }
            }
        }
        Ok(printed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use arrow::array::RecordBatch;
    use pipeline_stage::ErrorKind;

    use super::*;
    use crate::sinks::fixtures::{Screen, built_in, context, epoch, readings, readings_of, scored};

    async fn printed(options: &str, rows: &RecordBatch, is_terminal: bool) -> String {
        let screen = Arc::new(Screen { is_terminal, ..Screen::default() });
        let mut sink = built_in::<ConsoleOptions>(options, context(rows, PathBuf::new(), screen.clone())).unwrap();
        assert!(matches!(sink.commit(&[epoch("0", 1, rows)]).await.unwrap(), Commit::Done(_)));
        screen.text()
    }

    fn spikes(prefix: &str) -> RecordBatch {
        let rows = [
            ("sensor-04", "temperature", 71.32),
            ("sensor-09", "pressure", 962.1),
            ("s", "humidity", 40.0),
            ("s", "humidity", 41.0),
        ];
        let scores = [
            [Some(3.8), Some(22.61), Some(9.8), Some(35.42), Some(11.403)],
            [Some(2.6333), Some(1010.21), Some(991.91), Some(1028.51), Some(7.9)],
            [None; 5],
            [Some(0.5), Some(40.0), None, Some(42.0), Some(1.5)],
        ];
        scored(&readings_of(&rows), &scores, prefix)
    }

    #[tokio::test]
    async fn rows_are_aligned_lines_with_their_id() {
        let expected = "\
2025-07-20 12:00:07.412  sensor-04  temperature  71.32  z 11.40  expected 22.61 ± 12.81  ANOMALY  4ea9-c192-2bff-8c1c
2025-07-20 12:00:08.412  sensor-09  pressure     962.1  z  7.90  expected 1010.2 ± 18.30  ANOMALY  1899-392e-1ad5-58a0
2025-07-20 12:00:09.412  s          humidity      40.0                                             4635-9c74-514c-75c7
2025-07-20 12:00:10.412  s          humidity      41.0  z  1.50  expected 40.00, at most 42.00           7e39-716b-b81a-1098
";
        assert_eq!(printed("{}", &spikes(""), false).await, expected);
        assert_eq!(printed("{}", &spikes("slow_"), false).await, expected);
    }

    #[tokio::test]
    async fn a_terminal_gets_the_date_once_and_colour() {
        let text = printed("{}", &spikes(""), true).await;
        assert_eq!(text.matches("2025-07-20").count(), 1, "{text}");
        assert!(text.starts_with("2025-07-20 UTC\n12:00:07.412  sensor-04  "), "{text}");
        assert_eq!(text.matches("\u{1b}[1;31mANOMALY\u{1b}[0m").count(), 2, "{text}");
    }

    #[tokio::test]
    async fn columns_that_are_not_alone_get_their_names() {
        let options = r#"{"columns": ["metric_type", "value", "z_score"]}"#;
        let text = printed(options, &spikes(""), false).await;
        assert!(text.starts_with("temperature  value 71.32  z_score 11.403"), "{text}");
    }

    #[tokio::test]
    async fn hostile_text_stays_in_its_line() {
        let hostile = format!("\u{1b}[2J\nfake  ANOMALY\u{202e}{}", "x".repeat(5_000_000));
        let rows = readings_of(&[(&hostile, "a\0b", f64::NAN), ("s", "", 1e300)]);
        let text = printed("{}", &rows, true).await;
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].contains(r"\u{1b}[2J\nfake  ANOMALY\u{202e}xxx"), "{text}");
        assert!(lines[1].contains(r"a\u{0}b") && lines[1].len() < 200, "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        assert!(lines[2].contains("1e300"), "{text}");
    }

    #[tokio::test]
    async fn json_is_one_object_a_line_with_the_id_first() {
        let text = printed(r#"{"format": "json", "columns": ["value", "sensor_id"]}"#, &readings(), true).await;
        let expected = r#"{"id":"4ea9-c192-2bff-8c1c","value":71.32,"sensor_id":"sensor-04"}"#;
        assert_eq!(text.lines().next(), Some(expected));
        assert_eq!(text.lines().count(), 2);
        let has_id = RecordBatch::try_from_iter([("id", readings().column(0).clone())]).unwrap();
        let text = printed(r#"{"format": "json"}"#, &has_id, false).await;
        assert_eq!(text.lines().next(), Some(r#"{"row_id":"4ea9-c192-2bff-8c1c","id":"sensor-04"}"#));
    }

    #[tokio::test]
    async fn a_closed_output_ends_the_run_and_a_full_one_is_tried_again() {
        for (fails_with, kind, message) in [
            (io::ErrorKind::BrokenPipe, ErrorKind::Fatal, "standard output was closed"),
            (io::ErrorKind::StorageFull, ErrorKind::Transient, "standard output cannot be written"),
        ] {
            let screen = Arc::new(Screen { fails_with: Some(fails_with), ..Screen::default() });
            let context = context(&readings(), PathBuf::new(), screen);
            let mut sink = built_in::<ConsoleOptions>("{}", context).unwrap();
            let error = sink.commit(&[epoch("0", 1, &readings())]).await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
    }

    #[test]
    fn refuses_columns_that_are_not_there() {
        let context = context(&readings(), PathBuf::new(), Arc::new(Screen::default()));
        let error = built_in::<ConsoleOptions>(r#"{"columns": ["valeu"]}"#, context).err().unwrap();
        assert_eq!((error.kind(), error.option()), (ErrorKind::Config, Some("columns.0")));
        assert!(error.to_string().contains("`valeu`"), "{error}");
    }
}
