//! `pipeline bench`: what a row costs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pipeline_runtime::bench::{BenchSettings, Cost, StageCost, measure};
use pipeline_runtime::plan::Plan;
use pipeline_stage::{Framing, RawRows, Registry, Result, StageError};
use serde_json::json;

use crate::args::PipelineArgs;
use crate::books::grouped;
use crate::{complain, print};

/// Measure what a row costs
///
/// Runs the compute of a pipeline, from the decoding of payloads to the rows that its sinks would get, on one thread, with
/// rows made from each source's `schema`. No outside service is used: nothing is read from a source, written to a sink or
/// kept. All rows pass once before the clock runs, so that every series is known.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How many rows of each source pass in a round; above 2,097,152 the same ones again
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    rows: u64,
    /// How many series they are of
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    series: u64,
    /// Take payloads from this file, one on each line (for CSV with a header, after it; no record over several lines),
    /// instead of made ones
    #[arg(long, value_name = "PAYLOADS")]
    from: Option<PathBuf>,
    /// How often it is measured; the median is shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How it is shown
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One line with a JSON object
    Json,
}

/// Runs the command.
pub fn run(args: &BenchArgs, registry: &Arc<Registry>) -> ExitCode {
    args.pipeline.with_plan(registry, async |plan| {
        let payloads = args.from.as_deref().map(|path| read_payloads(path, plan)).transpose()?;
        let settings = BenchSettings { rows: args.rows, series: args.series, payloads };
        let mut costs = Vec::new();
        measure(plan, &settings, args.rounds, |cost| {
            if args.format == Format::Text && args.rounds > 1 {
                complain(&format!(
                    "round {} of {}: {:.1} ns a row",
                    costs.len() + 1,
                    args.rounds,
                    per_row(cost.took, cost.rows)
                ));
            }
            costs.push(cost);
        })?;
        costs.sort_by_key(|cost| cost.took);
        let spread =
            (per_row(costs[0].took, costs[0].rows), costs.last().map_or(0.0, |cost| per_row(cost.took, cost.rows)));
        let median = &costs[costs.len() / 2];
        print(&match args.format {
            Format::Text => text(args, median, spread),
            Format::Json => json(args, plan, median, spread).to_string(),
        });
        Ok(ExitCode::SUCCESS)
    })
}

fn read_payloads(path: &Path, plan: &Plan) -> Result<RawRows> {
    let problem = |words: String| StageError::config(format!("`{}` {words}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let mut lines: Vec<Vec<u8>> = BufReader::new(file)
        .split(b'\n')
        .collect::<std::io::Result<_>>()
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if i32::try_from(lines.iter().map(Vec::len).sum::<usize>()).is_err() {
        return Err(problem("has more than 2 GiB, a part of it is enough".into()));
    }
    if let Some(text) = lines.first_mut().and_then(|first| first.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec)) {
        lines[0] = text;
    }
    // A line may end in a carriage return, too.
    lines.iter_mut().for_each(|line| line.truncate(line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len)));
    let with_format = (0..plan.stages.len()).find_map(|stage| plan.build_format(stage).ok().flatten());
    let format = with_format.ok_or_else(|| problem("is of no use: no source of the pipeline takes payloads".into()))?;
    let has_header = matches!(format.framing(), Framing::Csv { has_header: true, .. });
    let header = (has_header && !lines.is_empty()).then(|| lines.remove(0).into());
    lines.retain(|line| !line.trim_ascii().is_empty());
    if lines.is_empty() {
        return Err(problem("has no payload, it must have one on each line".into()));
    }
    Ok(RawRows { header, ..RawRows::of_payloads(lines) })
}

/// Nanoseconds a row.
fn per_row(took: Duration, rows: u64) -> f64 {
    took.as_nanos() as f64 / rows.max(1) as f64
}

fn rate(took: Duration, rows: u64) -> u64 {
    (rows as f64 / took.as_secs_f64().max(1e-9)) as u64
}

fn text(args: &BenchArgs, cost: &Cost, (fastest, slowest): (f64, f64)) -> String {
    let mut lines = vec![format!(
        "{} rows, {} series, one thread; median of {} rounds ({fastest:.1} to {slowest:.1} ns a row)",
        grouped(cost.rows),
        grouped(args.series),
        args.rounds,
    )];
    let names = cost.sources.iter().chain(&cost.stages).map(|stage| stage.id.chars().count());
    let width = names.max().unwrap_or(0).max("everything else".len());
    let line = |name: &str, took: Duration, rows: u64, beside: String| {
        let (ns, rate) = (per_row(took, rows), grouped(rate(took, rows)));
        format!("  {name:<width$}  {ns:>8.1} ns/row  {rate:>12} rows/s{beside}")
    };
    for source in &cost.sources {
        lines.push(line(&source.id, source.took, source.rows, "  decoding".into()));
    }
    for stage in &cost.stages {
        let beside = match stage.series {
            Some(series) if 0 < series => format!(
                "  {} series, {} bytes of each in a checkpoint",
                grouped(series),
                grouped(stage.state_bytes / series)
            ),
            _ => String::new(),
        };
        lines.push(line(&stage.id, stage.took, stage.rows, beside));
    }
    lines.push(line("everything else", cost.rest, cost.rows, "  names of rows, `when`, books".into()));
    lines.push(line("together", cost.took, cost.rows, String::new()));
    if 0 < cost.dead {
        lines.push(format!("  {} rows became dead letters", grouped(cost.dead)));
    }
    lines.join("\n")
}

fn json(args: &BenchArgs, plan: &Plan, cost: &Cost, (fastest, slowest): (f64, f64)) -> serde_json::Value {
    let of = |stage: &StageCost| {
        json!({
            "id": stage.id,
            "rows": stage.rows,
            "ns_per_row": per_row(stage.took, stage.rows),
            "rows_per_s": rate(stage.took, stage.rows),
            "series": stage.series,
            "state_bytes_per_series": stage.series.filter(|series| 0 < *series).map(|series| stage.state_bytes / series),
        })
    };
    json!({
        "pipeline": plan.settings.name,
        "version": env!("CARGO_PKG_VERSION"),
        "rows": cost.rows,
        "series": args.series,
        "rounds": args.rounds,
        "dead": cost.dead,
        "ns_per_row": per_row(cost.took, cost.rows),
        "ns_per_row_fastest": fastest,
        "ns_per_row_slowest": slowest,
        "rows_per_s": rate(cost.took, cost.rows),
        "sources": cost.sources.iter().map(of).collect::<Vec<_>>(),
        "stages": cost.stages.iter().map(of).collect::<Vec<_>>(),
        "everything_else_ns_per_row": per_row(cost.rest, cost.rows),
    })
}
