//! `pipeline tap`: the rows that pass a stage of a pipeline that runs.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use clap::{Args, ValueEnum};
use pipeline_builtin::Lines;
use pipeline_runtime::plan::Plan;
use pipeline_runtime::run::rows_of_json;
use pipeline_stage::{ColumnType, ErrorKind, Registry, Result, StageError};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::args::PipelineArgs;
use crate::books::grouped;
use crate::complain;
use crate::remote::{ConnectArgs, Remote};

/// Show the rows that pass a stage of a running pipeline
///
/// What a source or detector gives, or a sink takes, as it comes; the pipeline does not wait for it. Rows may be seen
/// before they are committed. Ctrl-C ends it.
#[derive(Debug, Args)]
pub struct TapArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The stage
    stage: String,
    /// Only the rows of a series: `sensor_id=a,metric_type=b`
    #[arg(long, value_name = "COLUMN=VALUE,…")]
    series: Option<String>,
    /// Only the rows for which an expression is true, as in the file
    #[arg(long, value_name = "EXPR")]
    when: Option<String>,
    /// At most so many rows a second; 0 shows all
    #[arg(long, default_value_t = 100, value_name = "ROWS")]
    rate: u32,
    /// How rows look
    #[arg(long, value_enum, default_value = "text")]
    format: TapFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How rows look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TapFormat {
    /// Aligned columns, as the console sink prints them.
    Text,
    /// One JSON object a line.
    Json,
}

/// How long to wait before an engine that has gone is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Missed rows are told this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Runs the command.
pub fn run(args: &TapArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        tokio::select! {
            ended = follow(plan, args) => ended.map(|()| ExitCode::SUCCESS),
            told = tokio::signal::ctrl_c() => {
                told.map(|()| ExitCode::SUCCESS).map_err(|error| {
                    StageError::fatal("signals cannot be listened for").because(error)
                })
            }
        }
    })
}

/// Shows rows until standard output is closed; after the engine has gone, those of the next one.
async fn follow(plan: &Plan, args: &TapArgs) -> Result<()> {
    let mut remote = Remote::find(plan, &args.connect).await?;
    loop {
        match show(&remote, plan, args).await {
            Ok(Shown::All) => return Ok(()),
            Ok(Shown::UntilItEnded) => complain("the pipeline has ended; waiting for its next run"),
            Err(error) if error.kind() == ErrorKind::Transient => {
                complain(&format!("{}; waiting for its next run", error.chain()));
            }
            Err(error) => return Err(error),
        }
        remote = loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            // Until it runs again, its former address may be anybody's, or nobody's.
            if let Ok(found) = Remote::find(plan, &args.connect).await {
                break found;
            }
        };
        complain(&format!("the pipeline runs again, on {}", remote.url()));
    }
}

enum Shown {
    All,
    UntilItEnded,
}

async fn show(remote: &Remote, plan: &Plan, args: &TapArgs) -> Result<Shown> {
    let mut query = vec![("rate", args.rate.to_string())];
    query.extend(args.series.as_deref().map(series).transpose()?.map(|series| ("series", series)));
    query.extend(args.when.clone().map(|when| ("when", when)));
    let mut events = remote.events(&format!("api/tap/{}", args.stage), &query).await?;
    let mut printer = Printer::new(&remote.pipeline().await?, plan, args);
    let mut missed = Missed::default();
    while let Some(event) = events.next().await? {
        missed.add(&event.data);
        let rows = event.data["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        if printer.print(rows).is_err() {
            return Ok(Shown::All);
        }
        missed.tell();
    }
    Ok(Shown::UntilItEnded)
}

/// `sensor_id=a,metric_type=b` as a JSON object.
fn series(text: &str) -> Result<String> {
    let pairs = text.split(',').map(|pair| match pair.split_once('=') {
        Some((column, value)) if !column.trim().is_empty() => Ok((column.trim().to_owned(), Value::from(value))),
        _ => Err(StageError::config(format!("`--series`: `{pair}` would be like `sensor_id=a`"))),
    });
    Ok(Value::Object(pairs.collect::<Result<Map<String, Value>>>()?).to_string())
}

/// What was not shown.
#[derive(Default)]
struct Missed {
    wanted: u64,
    unseen: u64,
    told: Option<Instant>,
}

impl Missed {
    fn add(&mut self, event: &Value) {
        self.wanted += event["missed"].as_u64().unwrap_or_default();
        self.unseen += event["unseen"].as_u64().unwrap_or_default();
    }

    fn tell(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        if 0 < self.wanted {
            complain(&format!("  … {} more rows are not shown; `--rate` shows more", grouped(self.wanted)));
        }
        if 0 < self.unseen {
            complain(&format!("  … {} rows passed too fast to be looked at", grouped(self.unseen)));
        }
        if 0 < self.wanted + self.unseen {
            *self = Missed { told: Some(Instant::now()), ..Missed::default() };
        }
    }
}

/// Prints rows.
struct Printer {
    format: TapFormat,
    schema: Arc<Schema>,
    lines: Lines,
}

impl Printer {
    /// For a stage of the pipeline that runs, whose columns may be others than those of the file.
    fn new(pipeline: &Value, plan: &Plan, args: &TapArgs) -> Self {
        let stages = pipeline["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let stage = stages.iter().find(|stage| stage["id"] == args.stage.as_str()).unwrap_or(&Value::Null);
        let columns = stage["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fields: Vec<Field> = columns.iter().map(field).collect();
        let schema = Arc::new(Schema::new(fields));
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let is_terminal = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let lines = Lines::new(&schema, &all, &plan.settings.key, is_terminal);
        Printer { format: args.format, schema, lines }
    }

    fn print(&mut self, rows: &[Value]) -> io::Result<()> {
        let mut out = Vec::new();
        match self.format {
            TapFormat::Json => rows.iter().for_each(|row| out.extend_from_slice(format!("{row}\n").as_bytes())),
            TapFormat::Text => {
                for row in rows {
                    let batch = rows_of_json(&self.schema, row.to_string().as_bytes()).map_err(io::Error::other)?;
                    let mut line = Vec::new();
                    self.lines.print(&batch, 0, "", &mut line);
                    out.extend_from_slice(line.trim_ascii_end());
                    out.push(b'\n');
                }
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()
    }
}

/// A column of the stage; of types that no file declares, the text is shown.
fn field(column: &Value) -> Field {
    let name = column["name"].as_str().unwrap_or_default();
    let column_type: Option<ColumnType> = serde_json::from_value(column["type"].clone()).ok();
    Field::new(name, column_type.map_or(DataType::Utf8, ColumnType::arrow), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_columns_with_values() {
        assert_eq!(series("sensor_id=a,metric_type=b=c").unwrap(), r#"{"sensor_id":"a","metric_type":"b=c"}"#);
        let error = series("sensor_id").unwrap_err().to_string();
        assert_eq!(error, "`--series`: `sensor_id` would be like `sensor_id=a`");
    }
}
