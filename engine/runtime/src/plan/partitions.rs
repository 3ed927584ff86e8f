//! How sources are spread over tasks: whether they agree, and whether a series stays in one of them.

use pipeline_stage::{Kind, OneOrMany};
use serde::Deserialize;

use super::build::Built;
use super::draft::Draft;
use super::edges::Edges;
use super::report::Findings;
use super::{Settings, SourceStage};
use crate::diagnostics::{Diagnostic, list};
use crate::file::Pointer;

/// All sources of a pipeline are read by the same tasks, so they must be parted alike.
pub(super) fn agree(findings: &mut Findings<'_>, drafts: &[Draft<'_>], built: &[Built]) {
    let sources = drafts.iter().zip(built).filter_map(|(draft, built)| Some((draft, built.source.as_ref()?)));
    let mut leader: Option<(&Draft<'_>, &SourceStage)> = None;
    for (draft, source) in sources {
        if source.has_partitions && 1 < source.tasks {
            let message =
                format!("`tasks` is {}, but `{}` has a task for each partition", source.tasks, draft.type_name);
            let help = "`tasks` spreads the rows of sources that have no partitions of their own";
            findings.error(&draft.pointer.join("tasks"), message, "", &[help.to_owned()]);
        }
        if !source.is_replayable && !source.has_partitions && 1 < source.tasks {
            let message =
                format!("`tasks` is {}, but what `{}` gives cannot be read by several", source.tasks, draft.type_name);
            let help = "`tasks` lets each task read everything, and this source gives each row once: leave it out";
            findings.error(&draft.pointer.join("tasks"), message, "", &[help.to_owned()]);
        }
        let Some((first, leading)) = leader else {
            leader = Some((draft, source));
            continue;
        };
        if source.has_partitions != leading.has_partitions {
            let (with, without) = if source.has_partitions { (draft, first) } else { (first, draft) };
            let message = format!("`{}` has partitions, `{}` has none", with.id, without.id);
            let help =
                "all sources of a pipeline are read by the same tasks; two pipelines can write into the same table";
            findings.error(&draft.type_pointer(), message, "", &[help.to_owned()]);
        } else if source.tasks != leading.tasks && !source.has_partitions {
            let message = format!("`{}` has {} tasks, `{}` has {}", draft.id, source.tasks, first.id, leading.tasks);
            let help = format!("all sources of a pipeline are read by the same tasks: `tasks: {}`", leading.tasks);
            findings.error(&draft.type_pointer(), message, "", &[help]);
        }
    }
}

/// Warns of series whose rows come from several partitions: each task would have a window of its own.
pub(super) fn warn(
    findings: &mut Findings<'_>,
    settings: &Settings,
    drafts: &[Draft<'_>],
    built: &[Built],
    edges: &Edges,
) {
    for (stage, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.kind == Kind::Detector) {
        let (key, pointer) = match draft.options.get("key") {
            Some(own) => (
                OneOrMany::deserialize(own).map(|key| key.as_slice().to_vec()).unwrap_or_default(),
                draft.pointer.join("key"),
            ),
            None => (settings.key.clone(), Pointer::new(["key"])),
        };
        for source in sources_of(stage, drafts, edges) {
            let Some(partitioned) = &built[source].source else { continue };
            // Rows of one task are spread by the pipeline's key.
            let by = match (partitioned.partitioned_by.as_slice(), partitioned.tasks) {
                ([], 2..) => &settings.key,
                (by, _) => by,
            };
            // A column that is not there has been spoken of.
            let is_there =
                |column: &String| built[source].schema.as_ref().is_some_and(|schema| schema.index_of(column).is_ok());
            if !by.iter().all(is_there) {
                continue;
            }
            let missing: Vec<&str> = by.iter().filter(|column| !key.contains(column)).map(String::as_str).collect();
            if !missing.is_empty() {
                warn_of_split(findings, &drafts[source].id, draft, (by, &missing), &pointer);
            }
        }
    }
}

fn warn_of_split(
    findings: &mut Findings<'_>,
    source: &str,
    detector: &Draft<'_>,
    (by, missing): (&[String], &[&str]),
    key: &Pointer,
) {
    let place = match findings.file.rank(key) {
        Some(_) => findings.file.place(key),
        None => findings.file.key_place(&detector.pointer),
    };
    let are = if missing.len() == 1 { "is" } else { "are" };
    let columns = list(by.iter().map(String::as_str), "and");
    let label = match missing.len() == by.len() {
        true => format!("`{source}` is partitioned by {columns}, which {are} not part of this key"),
        false => format!(
            "`{source}` is partitioned by {columns}; {} {are} not part of this key",
            list(missing.iter().copied(), "and")
        ),
    };
    let warning = Diagnostic::warning(format!("series of `{}` may be split over tasks", detector.id)).at(place, label);
    findings.push(warning.note("a series whose rows come from several partitions gets a separate window in each"));
}

fn sources_of(stage: usize, drafts: &[Draft<'_>], edges: &Edges) -> Vec<usize> {
    let mut found = Vec::new();
    let mut to_visit = vec![stage];
    let mut seen = vec![false; drafts.len()];
    while let Some(stage) = to_visit.pop() {
        if std::mem::replace(&mut seen[stage], true) {
            continue;
        }
        if drafts[stage].kind == Kind::Source {
            found.push(stage);
        }
        to_visit.extend(&edges.inputs[stage]);
    }
    found.sort_unstable();
    found
}
