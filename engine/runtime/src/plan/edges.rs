//! Which stage reads which: unknown inputs, cycles, stages that nobody reads, and an order to build them in.

use pipeline_stage::Kind;

use super::draft::Draft;
use super::report::Findings;
use crate::diagnostics::{Diagnostic, did_you_mean, list, nearest};
use crate::file::{Pointer, STAGE_MAPS};

/// The edges of a pipeline.
pub(super) struct Edges {
    /// For each stage the stages it reads, in the order of `inputs:`. Those that are not there are left out.
    pub inputs: Vec<Vec<usize>>,
    /// Each stage after its inputs. What lies on a cycle, or reads from one, is not in it.
    pub order: Vec<usize>,
    /// For each stage whether all its inputs are there.
    pub is_whole: Vec<bool>,
}

pub(super) fn connect(findings: &mut Findings<'_>, drafts: &[Draft<'_>]) -> Edges {
    let mut inputs = Vec::new();
    let mut is_whole = Vec::new();
    for draft in drafts {
        let found = inputs_of(findings, drafts, draft);
        is_whole.push(draft.kind == Kind::Source || (found.len() == draft.inputs.len() && !found.is_empty()));
        inputs.push(found);
    }
    let order = order(&inputs);
    cycles(findings, drafts, &inputs, &order);
    // An input that is misspelled or missing elsewhere is the likely reason.
    if !findings.is_doubtful {
        unread(findings, drafts, &inputs);
    }
    Edges { inputs, order, is_whole }
}

fn inputs_of(findings: &mut Findings<'_>, drafts: &[Draft<'_>], draft: &Draft<'_>) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    if draft.inputs.is_empty() && findings.file.rank(&draft.pointer.join("inputs")).is_some() {
        let names = findings.file.value().pointer(&draft.pointer.join("inputs").to_string());
        if names.is_some_and(|names| names.as_array().is_some_and(Vec::is_empty)) {
            let pointer = draft.pointer.join("inputs");
            findings.error(&pointer, format!("`{}` reads no stage", draft.id), "name at least one", &[]);
            findings.is_doubtful = true;
        }
    }
    for (name, pointer) in &draft.inputs {
        match drafts.iter().position(|other| other.id == *name) {
            Some(input) if drafts[input].kind == Kind::Sink => {
                findings.error(pointer, format!("`{name}` is a sink, it gives no rows"), "", &[]);
            }
            Some(input) if found.contains(&input) => {
                findings.error(pointer, format!("`{name}` is named twice, its rows would come twice"), "", &[]);
            }
            Some(input) => found.push(input),
            None => {
                unknown_input(findings, drafts, draft, name, pointer);
                findings.is_doubtful = true;
            }
        }
    }
    found
}

fn unknown_input(findings: &mut Findings<'_>, drafts: &[Draft<'_>], draft: &Draft<'_>, name: &str, pointer: &Pointer) {
    let places = STAGE_MAPS.map(|map| Pointer::new([map, name]));
    // A stage that is there but could not be read has been spoken of.
    if places.iter().any(|place| findings.file.rank(place).is_some() && findings.file.removed(place).is_none()) {
        return;
    }
    let maps = STAGE_MAPS.iter().filter_map(|map| findings.file.value().get(*map));
    if maps.into_iter().any(|map| !map.is_object() && !map.is_null()) {
        return;
    }
    let giving = || {
        drafts.iter().filter(|other| other.kind != Kind::Sink && other.id != draft.id).map(|other| other.id.as_str())
    };
    let meant = did_you_mean(nearest(name, giving()));
    let mut diagnostic =
        Diagnostic::error(format!("no stage is called `{name}`")).at(findings.file.place(pointer), meant);
    if let Some(removed) = places.iter().find_map(|place| findings.file.removed(place)) {
        diagnostic = diagnostic.at(removed, "it is removed here");
    }
    findings.push(match list(giving(), "and") {
        there if there.is_empty() => diagnostic.note("no stage gives rows: add one under `sources:`"),
        there => diagnostic.note(format!("stages that give rows are {there}")),
    });
}

/// Kahn's algorithm, the first in the file first.
fn order(inputs: &[Vec<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    loop {
        let is_ready =
            |stage: &usize| !order.contains(stage) && inputs[*stage].iter().all(|input| order.contains(input));
        match (0..inputs.len()).find(is_ready) {
            Some(stage) => order.push(stage),
            None => return order,
        }
    }
}

fn cycles(findings: &mut Findings<'_>, drafts: &[Draft<'_>], inputs: &[Vec<usize>], order: &[usize]) {
    let mut seen: Vec<usize> = Vec::new();
    for start in (0..drafts.len()).filter(|stage| !order.contains(stage)) {
        let Some(cycle) = cycle_from(start, inputs).filter(|cycle| cycle.iter().all(|stage| !seen.contains(stage)))
        else {
            continue;
        };
        // Inputs were followed; rows flow the other way.
        let flow: Vec<String> =
            cycle.iter().rev().chain(cycle.last()).map(|&stage| format!("`{}`", drafts[stage].id)).collect();
        let message = match cycle.as_slice() {
            [only] => format!("`{}` reads itself", drafts[*only].id),
            _ => format!("these stages read each other in a circle: {}", flow.join(" → ")),
        };
        let first = &drafts[cycle[0]];
        let read = &drafts[cycle.get(1).copied().unwrap_or(cycle[0])].id;
        let pointer = first.inputs.iter().find(|(name, _)| name == read).map(|(_, pointer)| pointer.clone());
        findings.is_doubtful = true;
        findings.error(
            &pointer.unwrap_or_else(|| first.pointer.clone()),
            message,
            "",
            &["rows flow one way, from sources to sinks".to_owned()],
        );
        seen.extend(cycle);
    }
}

/// Follows first inputs that are on a cycle, until a stage comes again.
fn cycle_from(start: usize, inputs: &[Vec<usize>]) -> Option<Vec<usize>> {
    fn walk(stage: usize, inputs: &[Vec<usize>], path: &mut Vec<usize>, done: &mut Vec<usize>) -> Option<usize> {
        if let Some(at) = path.iter().position(|&other| other == stage) {
            return Some(at);
        }
        if done.contains(&stage) {
            return None;
        }
        path.push(stage);
        for &input in &inputs[stage] {
            if let Some(at) = walk(input, inputs, path, done) {
                return Some(at);
            }
        }
        path.pop();
        done.push(stage);
        None
    }
    let mut path = Vec::new();
    let at = walk(start, inputs, &mut path, &mut Vec::new())?;
    Some(path.split_off(at))
}

fn unread(findings: &mut Findings<'_>, drafts: &[Draft<'_>], inputs: &[Vec<usize>]) {
    for (stage, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.kind != Kind::Sink) {
        let is_read = inputs.iter().any(|inputs| inputs.contains(&stage))
            || drafts.iter().any(|other| other.inputs.iter().any(|(name, _)| *name == draft.id));
        if !is_read {
            let place = findings.file.key_place(&draft.pointer);
            let message = format!("no stage reads the {} `{}`", draft.kind.name(), draft.id);
            let help =
                format!("name it in the `inputs` of another stage, such as `inputs: [{}]`, or delete it", draft.id);
            findings.push(Diagnostic::error(message).at(place, "").note(help));
        }
    }
}
