//! `pipeline plugin bench`: how fast the stages of a library are, and what the boundary costs.

mod measure;
mod rows;

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pipeline_abi::host::measure_calls;
use pipeline_stage::{Kind, Registry, Result, StageError, StageType};
use serde_json::json;

use super::library::{ChoiceArgs, Chosen, LibraryArg, name};
use crate::books::grouped;
use crate::{FAILED, WRONG, complain, print};
use measure::{Figures, measure};

/// The most that a hop may cost for a batch of 8,192 rows.
const MAX_HOP_NANOS: f64 = 6_000.0;

/// Measure how fast the stages of a library are
///
/// Transforms and detectors are given batches of 8,192 rows of 10 and of 10,000 series, in turn with the built-in
/// detector of the same name (or `zscore`); each figure is a median. The hop is what the engine does around the
/// library's own code for one batch: handing over the rows, checking and taking what comes back.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub library: LibraryArg,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// How the figures are written
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Human,
    /// One line of JSON
    Json,
}

/// A line of the table.
struct Measured {
    stage: String,
    series: usize,
    figures: Figures,
    /// The built-in stage beside it.
    beside: Option<(String, Figures)>,
}

/// Runs the command.
pub fn run(args: &BenchArgs, built_in: &Registry) -> ExitCode {
    let library = match args.library.load() {
        Ok(library) => library,
        Err(error) => return failed(&error, WRONG),
    };
    let chosen = match args.choice.of(&library) {
        Ok(chosen) => chosen,
        Err(error) => return failed(&error, WRONG),
    };
    let mut measured = Vec::new();
    measure_calls();
    for chosen in chosen.iter().filter(|chosen| matches!(chosen.stage.kind, Kind::Transform | Kind::Detector)) {
        for series in rows::SERIES {
            match of_stage(chosen, series, built_in) {
                Ok(line) => measured.push(line),
                Err(error) => return failed(&error.named(&name(&chosen.stage)), FAILED),
            }
        }
    }
    if measured.is_empty() {
        return failed(&StageError::config("the library has no transform or detector to measure"), WRONG);
    }
    print(&match args.format {
        Format::Human => table(&measured),
        Format::Json => as_json(&measured),
    });
    ExitCode::SUCCESS
}

fn failed(error: &StageError, code: u8) -> ExitCode {
    complain(&format!("error: {}", error.chain()));
    ExitCode::from(code)
}

fn of_stage(chosen: &Chosen, series: usize, built_in: &Registry) -> Result<Measured> {
    let Chosen { stage, options } = chosen;
    let other = beside(stage, built_in);
    let other_options = other.map(|other| match other.name == stage.name {
        true => Ok(options.clone()),
        false => pipeline_testkit::example_options(other).map(serde_json::Value::Object).map_err(StageError::config),
    });
    let other = match (other, other_options.transpose()?) {
        (Some(other), Some(options)) => Some((other, options)),
        _ => None,
    };
    let batches = rows::batches(series);
    let (figures, of_other) =
        measure((stage, options), other.as_ref().map(|(other, options)| (*other, options)), &batches)?;
    let beside = other.and_then(|(other, _)| Some((name(other), of_other?)));
    Ok(Measured { stage: name(stage), series, figures, beside })
}

/// What a detector is measured against; other transforms than a stage's own do other work.
fn beside<'a>(stage: &StageType, built_in: &'a Registry) -> Option<&'a StageType> {
    let same = built_in.find(stage.kind, &stage.name);
    same.or_else(|| built_in.find(Kind::Detector, "zscore").filter(|_| stage.kind == Kind::Detector))
}

fn table(measured: &[Measured]) -> String {
    let mut lines = vec![["stage", "series", "rows/s", "ns a row", "hop a batch", "against"].map(String::from)];
    for Measured { stage, series, figures, beside } in measured {
        let line = |stage: &str, figures: &Figures, hop: String, against: String| {
            [
                stage.into(),
                grouped(*series as u64),
                grouped(figures.rows_per_second()),
                format!("{:.1}", figures.nanos_per_row()),
                hop,
                against,
            ]
        };
        let hop = figures.hop_nanos.map_or("–".into(), |hop| format!("{:.1} µs", hop / 1_000.0));
        let against = beside.as_ref().map(|(_, other)| format!("{:+.1} %", 100.0 * figures.slower_than(other)));
        lines.push(line(stage, figures, hop, against.unwrap_or_default()));
        if let Some((other, figures)) = beside {
            lines.push(line(&format!("  {other}, built in"), figures, String::new(), String::new()));
        }
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|cell| lines.iter().map(|line| line[cell].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        text.push_str(&format!("{:<width$}", line[0], width = widths[0]));
        line[1..].iter().zip(&widths[1..]).for_each(|(cell, width)| text.push_str(&format!("  {cell:>width$}")));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.push_str(&notes(measured));
    text
}

fn notes(measured: &[Measured]) -> String {
    let mut text = format!(
        "\nmedians over {} batches of 8,192 rows, library and built-in stage in turn\n\
         hop: the time of a call without that inside of the library's own function; {} µs is what it may cost\n",
        rows::BATCHES - rows::WARM,
        MAX_HOP_NANOS / 1_000.0
    );
    if measured.iter().any(|line| line.figures.hop_nanos.is_none()) {
        text.push_str("–: the engine keeps the rows, and calls for single readings or another process\n");
    }
    if cfg!(debug_assertions) {
        text.push_str("this `pipeline` was built without optimisation: the figures mean little\n");
    }
    text
}

fn as_json(measured: &[Measured]) -> String {
    let figures = |figures: &Figures| {
        json!({
            "rows_per_second": figures.rows_per_second(),
            "ns_per_row": figures.nanos_per_row(),
            "hop_ns_per_batch": figures.hop_nanos,
        })
    };
    let lines = measured.iter().map(|line| {
        let beside = line.beside.as_ref();
        json!({
            "stage": line.stage,
            "series": line.series,
            "batch_rows": rows::ROWS,
            "figures": figures(&line.figures),
            "built_in": beside.map(|(name, of)| json!({"stage": name, "figures": figures(of)})),
            "slower_than_built_in": beside.map(|(_, other)| line.figures.slower_than(other)),
        })
    });
    json!({"is_optimised": !cfg!(debug_assertions), "measured": lines.collect::<Vec<_>>()}).to_string()
}
