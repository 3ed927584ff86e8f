//! From a file to a plan.

use std::path::Path;
use std::sync::Arc;

use pipeline_stage::{OneOrMany, Registry};
use serde_json::{Map, Value};

use super::build::{self, Built};
use super::draft::{self, Draft};
use super::edges::{self, Edges};
use super::options::{ProblemKind, of_serde};
use super::plugins::Plugins;
use super::report::{Findings, option_path};
use super::spec::{PipelineOptions, schema_of};
use super::{LoadOptions, Plan, Settings, Stage, definition, partitions, plugins, secrets};
use crate::diagnostics::{Diagnostic, Report};
use crate::file::{PipelineFile, Pointer, STAGE_MAPS};

/// Reads a pipeline file and plans it. What is worth knowing though nothing is wrong comes with the plan.
///
/// # Errors
/// With everything that is wrong with the file, at once.
pub fn load(path: &Path, options: &LoadOptions, registry: &Arc<Registry>) -> Result<(Plan, Report), Report> {
    plan(PipelineFile::read(path, options).map_err(|report| masked(report, registry))?, options, registry)
}

/// Plans the text of a pipeline file, which messages call `name`. Relative paths in it start at `directory`.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    name: &str,
    text: &str,
    directory: &Path,
    options: &LoadOptions,
    registry: &Arc<Registry>,
) -> Result<(Plan, Report), Report> {
    let file = PipelineFile::parse(name, text, directory, options).map_err(|report| masked(report, registry))?;
    plan(file, options, registry)
}

/// Plans a pipeline as it was stored with its state, see [`Plan::definition`]. `current` is the plan of the file as it
/// is now: its secrets and folder are used where the definition refers to them.
///
/// # Errors
/// As [`load`].
pub fn load_definition(text: &str, current: &Plan, environment: super::Environment) -> Result<Plan, Report> {
    let options =
        LoadOptions { environment, secrets: current.secrets.clone(), is_complete: true, ..LoadOptions::default() };
    let name = "the stored definition";
    load_text(name, text, &current.settings.directory, &options, &current.registry).map(|(plan, _)| plan)
}

/// Hides the secrets of a file that was not read to its end.
fn masked(mut report: Report, registry: &Registry) -> Report {
    if let Some(source) = report.sources.first_mut() {
        secrets::hide_in_text(source, registry);
    }
    report
}

fn plan(mut file: PipelineFile, options: &LoadOptions, built_in: &Arc<Registry>) -> Result<(Plan, Report), Report> {
    let Plugins { registry, errors, is_complete } = plugins::load(&file, options.plugins.as_deref(), built_in);
    secrets::hide(&mut file, &registry);
    let mut findings = Findings {
        file: &file,
        registry: &registry,
        diagnostics: file.problems(),
        is_doubtful: false,
        knows_all_types: is_complete,
    };
    findings.diagnostics.extend(file.warnings.iter().cloned());
    errors.iter().for_each(|(entry, error)| findings.stage_error(error, entry, entry));
    removed_for_nothing(&mut findings);
    let values = file.value().as_object().cloned().unwrap_or_default();
    let settings = settings(&mut findings, &values);
    let mut drafts = draft::drafts(&mut findings, &values);
    let edges = edges::connect(&mut findings, &drafts);
    no_stages(&mut findings, &values);
    let built = build::build(&mut findings, &settings, &mut drafts, &edges);
    partitions::agree(&mut findings, &drafts, &built);
    partitions::warn(&mut findings, &settings, &drafts, &built, &edges);
    let report = Report::new(file.sources.clone(), std::mem::take(&mut findings.diagnostics));
    if report.has_errors() {
        return Err(report);
    }
    let (definition, secrets) = definition::write(&file, &registry);
    let (stages, order) = in_order_of_flow(drafts, built, edges);
    Ok((Plan { settings, stages, order, definition, secrets, registry, file }, report))
}

fn no_stages(findings: &mut Findings<'_>, values: &Map<String, Value>) {
    let holds_nothing = |map: &&str| match values.get(*map) {
        None | Some(Value::Null) => true,
        Some(Value::Object(stages)) => stages.is_empty(),
        // It is told elsewhere that it must be a map.
        Some(_) => false,
    };
    if STAGE_MAPS.iter().all(holds_nothing) {
        let place = findings.file.key_place(&Pointer::default());
        findings.push(
            Diagnostic::error("the file has no stages").at(place, "").note("it needs `sources:` and `sinks:` at least"),
        );
    }
}

fn removed_for_nothing(findings: &mut Findings<'_>) {
    for (pointer, place) in findings.file.removed_for_nothing() {
        let message = format!("there is no stage `{}` to be removed", pointer.last());
        findings.push(Diagnostic::error(message).at(place, ""));
    }
}

/// Reads what the file says beside its stages; wrong values are reported and replaced by defaults.
fn settings(findings: &mut Findings<'_>, values: &Map<String, Value>) -> Settings {
    let mut options = values.clone();
    options.retain(|key, _| !STAGE_MAPS.contains(&key.as_str()) && key != "profiles");
    let beside: Vec<&str> = STAGE_MAPS.into_iter().chain(["profiles"]).collect();
    let schema = schema_of::<PipelineOptions>();
    for problem in findings.check(&mut options, &schema, &Pointer::default(), None, &beside) {
        options.shift_remove(&problem.path[0]);
        // `sink:` may be what the stages below it are missed in.
        findings.is_doubtful |= matches!(problem.kind, ProblemKind::Unknown { .. });
    }
    // The libraries are loaded already; what is wrong with their entries has been said.
    options.shift_remove("plugins");
    check_name(findings, &options);
    // A name is needed to go on; its absence has been reported.
    options.entry("name").or_insert_with(|| "pipeline".into());
    let options = read_settings(findings, options);
    Settings {
        state: options.state.unwrap_or_else(|| format!(".pipeline/{}", options.name)),
        key: options.key.as_ref().map(OneOrMany::as_slice).unwrap_or_default().to_vec(),
        commit_every: options.commit_every.0,
        checkpoint_every: options.checkpoint_every.0,
        zone: options.time_zone.0,
        directory: findings.file.directory.clone(),
        name: options.name,
    }
}

fn check_name(findings: &mut Findings<'_>, options: &Map<String, Value>) {
    let Some(name) = options.get("name").and_then(Value::as_str) else { return };
    let is_good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
        && name.len() <= 63;
    if !is_good {
        let message = format!("`name` is `{name}`, it must be lower-case letters, digits, `_` and `-`, a letter first");
        let help = "it names a folder and rows of tables".to_owned();
        findings.error(&Pointer::new(["name"]), message, "", &[help]);
    }
}

fn read_settings(findings: &mut Findings<'_>, mut options: Map<String, Value>) -> PipelineOptions {
    loop {
        let error = match serde_path_to_error::deserialize::<_, PipelineOptions>(Value::Object(options.clone())) {
            Ok(read) => {
                check_pauses(findings, &read);
                return read;
            }
            Err(error) => error,
        };
        let path = error.path().to_string();
        let pointer = Pointer::default().join_all(option_path(&path));
        findings.error(&pointer, of_serde(&error.into_inner().to_string(), Some(&path)), "", &[]);
        // Without the wrong value its default is read, which is right; without any there is only the name.
        if option_path(&path).next().is_none_or(|name| options.shift_remove(name).is_none() || name == "name") {
            options = Map::from_iter([("name".to_owned(), "pipeline".into())]);
        }
    }
}

fn check_pauses(findings: &mut Findings<'_>, options: &PipelineOptions) {
    for (name, span) in [("commit_every", options.commit_every), ("checkpoint_every", options.checkpoint_every)] {
        if span.0.is_zero() {
            findings.error(&Pointer::new([name]), format!("`{name}` is {span}, it must be above 0"), "", &[]);
        }
    }
    if options.checkpoint_every < options.commit_every {
        let (commits, checkpoints) = (options.commit_every, options.checkpoint_every);
        let pointer = Pointer::new(["checkpoint_every"]);
        match findings.file.rank(&pointer) {
            Some(_) => {
                let message = format!(
                    "`checkpoint_every` is {checkpoints}, it must be at least `commit_every`, which is {commits}"
                );
                findings.error(&pointer, message, "", &[]);
            }
            None => {
                let message = format!(
                    "`commit_every` is {commits}, it must be at most `checkpoint_every`, which is {checkpoints}"
                );
                findings.error(
                    &Pointer::new(["commit_every"]),
                    message,
                    "",
                    &["set `checkpoint_every` too".to_owned()],
                );
            }
        }
    }
}

/// The plan's stages; nothing was wrong, so all is known of each.
fn in_order_of_flow(drafts: Vec<Draft<'_>>, built: Vec<Built>, edges: Edges) -> (Vec<Stage>, Vec<usize>) {
    let stages = drafts.into_iter().zip(built).zip(edges.inputs).map(|((draft, built), inputs)| Stage {
        id: draft.id,
        kind: draft.kind,
        type_name: draft.type_name,
        options: Value::Object(draft.options),
        inputs,
        when: built.when,
        schema: built.schema.unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty())),
        source: built.source,
        promise: built.promise,
        bytes_per_series: built.bytes_per_series,
    });
    (stages.collect(), edges.order)
}
