//! Stages as the file describes them, before they are built: engine's options and own options apart, both checked.

use std::collections::BTreeMap;

use pipeline_stage::{Kind, OneOrMany, StageType};
use serde_json::{Map, Value};

use super::columns::{self, Declared};
use super::options::ProblemKind;
use super::report::{Findings, Owner};
use super::spec::{SourceOptions, StageOptions, schema_of};
use crate::diagnostics::{list, nearest};
use crate::file::{Pointer, STAGE_MAPS};

/// A stage of the file.
pub(super) struct Draft<'a> {
    pub id: String,
    pub kind: Kind,
    pub pointer: Pointer,
    pub type_name: String,
    /// None when no such type is known.
    pub stage_type: Option<&'a StageType>,
    /// Its own options, without those that are wrong.
    pub options: Map<String, Value>,
    /// The options about which something was said already.
    pub reported: Vec<String>,
    /// The ids of its inputs, each with its place.
    pub inputs: Vec<(String, Pointer)>,
    pub when: Option<String>,
    /// What only sources have.
    pub declared: Option<Declared>,
}

impl Draft<'_> {
    pub fn type_pointer(&self) -> Pointer {
        self.pointer.join("type")
    }
}

/// The kind of stage that a map of the file holds.
pub(crate) fn kind_of(map: &str) -> Option<Kind> {
    let kinds = [Kind::Source, Kind::Transform, Kind::Detector, Kind::Sink];
    STAGE_MAPS.iter().position(|name| *name == map).map(|at| kinds[at])
}

/// The engine's options of a stage of this kind, beside `type`.
pub(crate) fn engine_schema(kind: Kind) -> Value {
    match kind {
        Kind::Source => schema_of::<SourceOptions>(),
        _ => schema_of::<StageOptions>(),
    }
}

/// Reads all stages of the file, in its order; those that cannot be planned at all are left out.
pub(super) fn drafts<'a>(findings: &mut Findings<'a>, value: &Map<String, Value>) -> Vec<Draft<'a>> {
    let mut drafts = Vec::new();
    let mut seen: BTreeMap<String, Pointer> = BTreeMap::new();
    for (map, stages) in value {
        let Some(kind) = kind_of(map) else { continue };
        let base = Pointer::new([map.as_str()]);
        let Value::Object(stages) = stages else {
            if !stages.is_null() {
                let help = format!("each has an id, such as `my_{0}: {{ type: … }}`", kind.name());
                findings.error(&base, format!("`{map}` must be a map from ids to {}s", kind.name()), "", &[help]);
                findings.is_doubtful = true;
            }
            continue;
        };
        for (id, stage) in stages {
            let pointer = base.join(id);
            check_id(findings, id, &pointer);
            if let Some(first) = seen.insert(id.clone(), pointer.clone()) {
                two_of_one_id(findings, id, &pointer, &first);
            }
            drafts.extend(draft(findings, kind, pointer, stage));
        }
    }
    drafts
}

fn check_id(findings: &mut Findings<'_>, id: &str, pointer: &Pointer) {
    let is_snake_case = id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let why = match id {
        _ if !is_snake_case => "it must be lower-case letters, digits and `_`, a letter first",
        // Two underscores part the names in variables such as PIPELINE__SINKS__ALERTS__URL.
        _ if id.contains("__") || id.ends_with('_') => "it must not hold `__` nor end with `_`",
        _ if 63 < id.len() => "it must have at most 63 letters",
        _ => return,
    };
    let place = findings.file.key_place(pointer);
    let suggestion: String =
        id.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let label = match !is_snake_case && suggestion.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => format!("`{suggestion}` would be right"),
        false => String::new(),
    };
    findings.push(
        crate::diagnostics::Diagnostic::error(format!("`{id}` cannot be the id of a stage, {why}")).at(place, label),
    );
}

fn two_of_one_id(findings: &mut Findings<'_>, id: &str, second: &Pointer, first: &Pointer) {
    let diagnostic = crate::diagnostics::Diagnostic::error(format!("two stages are called `{id}`"));
    let diagnostic = diagnostic.at(findings.file.key_place(second), "the second one");
    let diagnostic = diagnostic.at(findings.file.key_place(first), "the first one");
    findings.push(diagnostic.note("`inputs` name stages by their ids, whatever map they stand in"));
}

fn draft<'a>(findings: &mut Findings<'a>, kind: Kind, pointer: Pointer, stage: &Value) -> Option<Draft<'a>> {
    let Value::Object(stage) = stage else {
        let message = match stage.is_null() {
            true => format!("the {} `{}` has nothing below it", kind.name(), pointer.last()),
            false => format!("the {} `{}` must be a map with its `type` and options", kind.name(), pointer.last()),
        };
        findings.error(&pointer, message, "", &[format!("it needs a `type:` at least: {}", types(findings, kind))]);
        findings.is_doubtful = true;
        return None;
    };
    let id = pointer.last().to_owned();
    let mut options = stage.clone();
    let type_value = options.shift_remove("type").filter(|value| !value.is_null());
    let mut common = take_engine_options(&mut options, kind);
    let stage_type = find_type(findings, kind, &pointer, type_value.as_ref());
    let type_name = type_value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut draft = Draft {
        id,
        kind,
        pointer,
        type_name,
        stage_type,
        options,
        reported: Vec::new(),
        inputs: Vec::new(),
        when: None,
        declared: None,
    };
    check_engine_options(findings, &mut draft, &mut common);
    check_own_options(findings, &mut draft);
    Some(draft)
}

fn take_engine_options(options: &mut Map<String, Value>, kind: Kind) -> Map<String, Value> {
    let schema = engine_schema(kind);
    let names = schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys());
    names.filter_map(|name| Some((name.clone(), options.shift_remove(name)?))).collect()
}

fn find_type<'a>(
    findings: &mut Findings<'a>,
    kind: Kind,
    pointer: &Pointer,
    value: Option<&Value>,
) -> Option<&'a StageType> {
    let type_pointer = pointer.join("type");
    let name = match value {
        _ if findings.file.is_unknown(&type_pointer) => return None,
        Some(Value::String(name)) => name,
        Some(other) => {
            let message = format!("`type` is {}, it must be text", super::options::described(other));
            findings.error(&type_pointer, message, "", &[types(findings, kind)]);
            return None;
        }
        None => {
            let place = findings.file.key_place(pointer);
            let message = format!("`type` is missing: what kind of {} `{}` is", kind.name(), pointer.last());
            findings.push(crate::diagnostics::Diagnostic::error(message).at(place, "").note(types(findings, kind)));
            return None;
        }
    };
    let registry = findings.registry;
    let found = registry.find(kind, name);
    if found.is_some() || !findings.knows_all_types {
        return found;
    }
    if let Some(whence) = registry.whence(kind, name) {
        let message = format!("the {} `{name}` is not built in", kind.name());
        findings.error(&type_pointer, message, "", &[whence.to_owned()]);
        return None;
    }
    let elsewhere = Kind::ALL.into_iter().find(|other| *other != Kind::Format && registry.find(*other, name).is_some());
    let meant = nearest(name, registry.of_kind(kind).map(|stage| stage.name.as_str()));
    let label = match (meant, elsewhere) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, Some(other)) => {
            format!("there is a {} of this name; it belongs under `{}s:`", other.name(), other.name())
        }
        (None, None) => String::new(),
    };
    let message = format!("no {} is called `{name}`", kind.name());
    findings.error(&type_pointer, message, label, &[types(findings, kind)]);
    None
}

fn types(findings: &Findings<'_>, kind: Kind) -> String {
    match list(findings.registry.of_kind(kind).map(|stage| stage.name.as_str()), "and") {
        names if names.is_empty() => format!("there are no {}s", kind.name()),
        names => format!("there is {names}"),
    }
}

fn check_engine_options(findings: &mut Findings<'_>, draft: &mut Draft<'_>, common: &mut Map<String, Value>) {
    let owner = Owner { kind: draft.kind, name: &draft.type_name, named_at: draft.type_pointer() };
    if draft.kind != Kind::Source && common.get("inputs").is_none_or(Value::is_null) {
        missing_inputs(findings, draft);
    }
    let problems = findings.check(common, &engine_schema(draft.kind), &draft.pointer, Some(&owner), &[]);
    for problem in &problems {
        common.shift_remove(&problem.path[0]);
    }
    // What has passed the check can be read; a variable that is missing leaves nothing to be read.
    let common = Value::Object(std::mem::take(common));
    if draft.kind == Kind::Source {
        let options: SourceOptions = serde_json::from_value(common).unwrap_or_default();
        draft.when = options.when.clone();
        draft.declared = Some(columns::declared(findings, draft, options));
        return;
    }
    let options: StageOptions = serde_json::from_value(common).unwrap_or_default();
    draft.inputs = names(options.inputs.as_ref(), &draft.pointer.join("inputs"));
    draft.when = options.when;
}

fn missing_inputs(findings: &mut Findings<'_>, draft: &Draft<'_>) {
    if findings.file.is_unknown(&draft.pointer.join("inputs")) {
        return;
    }
    findings.is_doubtful = true;
    let message = format!("`inputs` is missing: whose rows the {} `{}` takes", draft.kind.name(), draft.id);
    let place = findings.file.key_place(&draft.pointer);
    findings.push(crate::diagnostics::Diagnostic::error(message).at(place, "").note("such as `inputs: [readings]`"));
}

/// One name or several, each with its place.
pub(super) fn names(names: Option<&OneOrMany>, pointer: &Pointer) -> Vec<(String, Pointer)> {
    match names {
        None => Vec::new(),
        Some(OneOrMany::One(name)) => vec![(name.clone(), pointer.clone())],
        Some(OneOrMany::Many(names)) => {
            names.iter().enumerate().map(|(i, name)| (name.clone(), pointer.join(i))).collect()
        }
    }
}

fn check_own_options(findings: &mut Findings<'_>, draft: &mut Draft<'_>) {
    let Some(stage_type) = draft.stage_type else { return };
    if draft.kind == Kind::Source && draft.options.shift_remove("inputs").is_some() {
        let notes = ["remove `inputs`, or put the stage under `transforms:`, `detectors:` or `sinks:`".to_owned()];
        findings.error(&draft.pointer.join("inputs"), "a source takes no rows from other stages", "", &notes);
    }
    let engine = engine_schema(draft.kind);
    let beside: Vec<&str> =
        engine["properties"].as_object().into_iter().flat_map(|all| all.keys()).map(String::as_str).collect();
    let owner = Owner { kind: draft.kind, name: &draft.type_name, named_at: draft.type_pointer() };
    let schema = strict(stage_type.schema.as_value());
    let problems = findings.check(&mut draft.options, &schema, &draft.pointer, Some(&owner), &beside);
    for problem in problems {
        // A mistake inside an option takes the whole option out: the stage is built without it, to find more.
        draft.options.shift_remove(&problem.path[0]);
        if !matches!(problem.kind, ProblemKind::Unknown { .. }) || 1 < problem.path.len() {
            draft.reported.push(problem.path[0].clone());
        }
    }
    let unknown = draft.options.keys().filter(|name| findings.file.is_unknown(&draft.pointer.join(name))).cloned();
    for name in unknown.collect::<Vec<_>>() {
        draft.options.shift_remove(&name);
        draft.reported.push(name);
    }
}

/// Refuses unknown options even of a struct that forgot to.
fn strict(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.insert("additionalProperties".into(), false.into());
    }
    schema
}
