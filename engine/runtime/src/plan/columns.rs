//! `format:`, `schema:`, `partitioned_by:` and `tasks:` of a source.

use pipeline_stage::{Column, ColumnFrom, ColumnType, Kind, Meta, OneOrMany};
use serde_json::{Map, Value};

use super::draft::Draft;
use super::report::{Findings, Owner};
use super::spec::{ColumnChoice, ColumnOptions, FormatChoice, SourceOptions};
use crate::diagnostics::{did_you_mean, list, nearest};
use crate::file::{Pointer, Rank};

/// What a source stage says about its rows.
pub(super) struct Declared {
    /// Name and options.
    pub format: Option<(String, Map<String, Value>)>,
    /// None when there is no `schema:`, or something is wrong with it.
    pub columns: Option<Vec<Column>>,
    /// Of `format:` and `schema:`, those that the file has.
    pub given: Vec<&'static str>,
    /// Of those, the ones that come from under another type: they are not missed by a source that needs none.
    pub inherited: Vec<&'static str>,
    pub partitioned_by: Vec<String>,
    pub tasks: u32,
}

impl Declared {
    /// Whether it is known how payloads are decoded.
    pub fn is_complete(&self) -> bool {
        self.format.is_some() && self.columns.is_some()
    }
}

/// Reads them.
pub(super) fn declared(findings: &mut Findings<'_>, draft: &Draft<'_>, options: SourceOptions) -> Declared {
    let at = |name: &str| draft.pointer.join(name);
    let type_rank = findings.file.rank(&draft.type_pointer()).unwrap_or(Rank::File);
    let rank_of = |findings: &Findings<'_>, name: &str| {
        let value = findings.file.value().pointer(&at(name).to_string());
        findings.file.rank(&at(name)).filter(|_| value.is_some_and(|value| !value.is_null()))
    };
    let names = ["format", "schema"];
    let given: Vec<&'static str> = names.into_iter().filter(|name| rank_of(findings, name).is_some()).collect();
    let is_inherited = |name: &&'static str| rank_of(findings, name).is_some_and(|rank| rank < type_rank);
    let inherited = given.iter().copied().filter(is_inherited).collect();
    let format = options.format.and_then(|choice| format(findings, choice, &at("format")));
    let columns = options.schema.and_then(|schema| columns(findings, &schema, &at("schema")));
    let partitioned_by = options.partitioned_by.as_ref().map(OneOrMany::as_slice).unwrap_or_default().to_vec();
    Declared { format, columns, given, inherited, partitioned_by, tasks: options.tasks.max(1) }
}

/// The name of a format and its checked options; none when it is not known or cannot be built.
fn format(
    findings: &mut Findings<'_>,
    choice: FormatChoice,
    pointer: &Pointer,
) -> Option<(String, Map<String, Value>)> {
    let (name, mut options, named_at) = match choice {
        FormatChoice::Name(name) => (name, Map::new(), pointer.clone()),
        FormatChoice::Options(mut options) => match options.shift_remove("type") {
            Some(Value::String(name)) => (name, options, pointer.join("type")),
            _ => {
                findings.error(pointer, "`format` needs a `type`", "", &["such as `format: json`".to_owned()]);
                return None;
            }
        },
    };
    let registry = findings.registry;
    let Some(format) = registry.find(Kind::Format, &name) else {
        if !findings.knows_all_types {
            return None;
        }
        let names = || registry.of_kind(Kind::Format).map(|format| format.name.as_str());
        let meant = did_you_mean(nearest(&name, names()));
        findings.error(
            &named_at,
            format!("no format is called `{name}`"),
            meant,
            &[format!("there is {}", list(names(), "and"))],
        );
        return None;
    };
    let owner = Owner { kind: Kind::Format, name: &name, named_at };
    let problems = findings.check(&mut options, format.schema.as_value(), pointer, Some(&owner), &[]);
    problems.is_empty().then_some((name, options))
}

fn columns(findings: &mut Findings<'_>, map: &Map<String, Value>, pointer: &Pointer) -> Option<Vec<Column>> {
    if map.is_empty() {
        findings.error(
            pointer,
            "`schema` names no column",
            "",
            &["such as `schema: { sensor_id: string, value: float }`".to_owned()],
        );
    }
    let columns: Vec<Option<Column>> =
        map.iter().map(|(name, value)| column(findings, name, value, &pointer.join(name))).collect();
    columns.into_iter().collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty())
}

fn column(findings: &mut Findings<'_>, name: &str, value: &Value, pointer: &Pointer) -> Option<Column> {
    let of_field = |name: &str| ColumnFrom::Field(vec![name.to_owned()]);
    let options = match serde_json::from_value(value.clone()).ok()? {
        ColumnChoice::Short(column_type) => {
            return Some(Column { name: name.into(), column_type, nullable: false, from: of_field(name) });
        }
        ColumnChoice::Long(options) => options,
    };
    let column_type = column_type(findings, &options, pointer)?;
    if options.meta.is_some() && options.from.is_some() {
        findings.error(
            &pointer.join("from"),
            "`from` and `meta` exclude each other",
            "",
            &["`meta` stands beside the payload, `from` in it".to_owned()],
        );
        return None;
    }
    check_part(findings, &options, pointer)?;
    // The source may not know these of every row.
    let may_lack = matches!(options.meta, Some(Meta::Key | Meta::Time));
    let from = match (options.meta, &options.from) {
        (Some(meta), _) if options.part.is_some() => ColumnFrom::Part(meta, options.part.map_or(1, usize::from)),
        (Some(meta), _) => ColumnFrom::Meta(meta),
        (None, Some(path)) => ColumnFrom::Field(path.split('.').map(str::to_owned).collect()),
        (None, None) => of_field(name),
    };
    Some(Column { name: name.into(), column_type, nullable: options.nullable.unwrap_or(may_lack), from })
}

/// None when there is a part of what has none.
fn check_part(findings: &mut Findings<'_>, options: &ColumnOptions, pointer: &Pointer) -> Option<()> {
    let is_of_text = matches!(options.meta, Some(Meta::Topic | Meta::Key));
    if options.part.is_none() || is_of_text {
        return Some(());
    }
    let note = "they have parts with slashes between them: `plant/hall-4/temperature` has three";
    findings.error(&pointer.join("part"), "`part` goes with `meta: topic` or `meta: key`", "", &[note.to_owned()]);
    None
}

fn column_type(findings: &mut Findings<'_>, options: &ColumnOptions, pointer: &Pointer) -> Option<ColumnType> {
    if options.part.is_some() {
        return Some(options.r#type.unwrap_or(ColumnType::String));
    }
    let of_meta = options.meta.map(|meta| match meta {
        Meta::Topic | Meta::Key => ColumnType::String,
        Meta::Partition | Meta::Offset => ColumnType::Integer,
        Meta::Time => ColumnType::Timestamp,
    });
    match (options.r#type, of_meta) {
        (Some(given), Some(right)) if given != right => {
            let message = format!("`type` is `{}`, it must be `{}` for this `meta`", given.name(), right.name());
            findings.error(&pointer.join("type"), message, "", &["it may be left out".to_owned()]);
            None
        }
        (Some(given), _) => Some(given),
        (None, Some(right)) => Some(right),
        (None, None) => {
            let place = findings.file.key_place(pointer);
            let message = format!("the column `{}` has no `type`", pointer.last());
            let types = "it is `string`, `integer`, `float`, `boolean` or `timestamp`";
            findings.push(crate::diagnostics::Diagnostic::error(message).at(place, "").note(types));
            None
        }
    }
}
