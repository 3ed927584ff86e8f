//! Builds sources: with their format, their declared columns, or columns of their own.

use arrow::datatypes::SchemaRef;
use pipeline_stage::{
    FormatContext, Framing, Kind, Make, Result, Role, Source, SourceContext, SourceOutput, schema_of,
};
use serde_json::Value;

use super::build::{Builder, Built, wrong_kind};
use super::columns::Declared;
use super::draft::Draft;
use super::{Settings, SourceStage};
use crate::diagnostics::Diagnostic;

impl Builder<'_, '_> {
    pub(super) fn source(&mut self, draft: &mut Draft<'_>, settings: &Settings, role: Role) -> Built {
        let Some(mut declared) = draft.declared.take() else { return Built::default() };
        let framing = self.framing(&declared, settings, draft);
        let made = self.make(draft, |make, options, context| match make {
            Make::Source(make) => make(options, SourceContext { stage: context.clone(), framing: framing.ok(), role }),
            _ => Err(wrong_kind()),
        });
        let made =
            made.map(|source: Box<dyn Source>| (source.output(), source.has_partitions(), source.is_replayable()));
        let has_partitions = made.as_ref().is_some_and(|(_, has_partitions, _)| *has_partitions);
        let is_replayable = made.as_ref().is_none_or(|(_, _, is_replayable)| *is_replayable);
        let output = made.map(|(output, _, _)| output);
        let schema = match &output {
            Some(SourceOutput::Columns(schema)) => {
                self.refuse_declared(draft, &declared);
                (declared.format, declared.columns) = (None, None);
                Some(schema.clone())
            }
            Some(SourceOutput::Raw) => {
                self.missing_declared(draft, &declared.given);
                declared.columns.as_deref().map(schema_of)
            }
            None => declared.columns.as_deref().map(schema_of),
        };
        let when = schema.iter().flat_map(|schema| self.when(draft, schema)).collect();
        if let Some(schema) = &schema {
            self.partition_columns(draft, schema, &declared.partitioned_by, declared.tasks);
        }
        let source = output.map(|output| SourceStage {
            output,
            format: declared.format.map(|(name, options)| (name, Value::Object(options))),
            columns: declared.columns.unwrap_or_default(),
            tasks: declared.tasks,
            has_partitions,
            is_replayable,
            role,
            partitioned_by: declared.partitioned_by,
        });
        Built { schema, when, source, ..Built::default() }
    }

    /// How the source's format cuts files; an error has been reported.
    fn framing(&mut self, declared: &Declared, settings: &Settings, draft: &Draft<'_>) -> Result<Framing, ()> {
        let (Some((name, options)), true) = (&declared.format, declared.is_complete()) else { return Err(()) };
        let Some(Make::Format(make)) = self.findings.registry.find(Kind::Format, name).map(|format| &format.make)
        else {
            return Err(());
        };
        let context = FormatContext { columns: declared.columns.clone().unwrap_or_default(), zone: settings.zone };
        let pointer = draft.pointer.join("format");
        make(Value::Object(options.clone()), context)
            .map(|format| format.framing())
            .map_err(|error| self.findings.stage_error(&error, &pointer, &pointer))
    }

    fn refuse_declared(&mut self, draft: &Draft<'_>, declared: &Declared) {
        for name in declared.given.iter().filter(|name| !declared.inherited.contains(name)) {
            let message =
                format!("source `{}` gives columns of its own, `{name}` has no meaning for it", draft.type_name);
            let place = self.findings.file.key_place(&draft.pointer.join(name));
            self.findings.push(Diagnostic::error(message).at(place, "").note(format!("delete `{name}`")));
        }
    }

    fn missing_declared(&mut self, draft: &Draft<'_>, given: &[&str]) {
        for (name, what, example) in [
            ("format", "how its payloads are decoded", "`format: json`"),
            ("schema", "which columns its payloads hold", "`schema: { sensor_id: string, value: float }`"),
        ] {
            if !given.contains(&name) {
                let place = self.findings.file.place(&draft.type_pointer());
                let label = format!("source `{}` needs it", draft.type_name);
                let diagnostic = Diagnostic::error(format!("`{name}` is missing: {what}")).at(place, label);
                self.findings.push(diagnostic.note(format!("such as {example}")));
            }
        }
    }

    fn partition_columns(&mut self, draft: &Draft<'_>, schema: &SchemaRef, partitioned_by: &[String], tasks: u32) {
        let pointer = draft.pointer.join("partitioned_by");
        for (i, name) in partitioned_by.iter().enumerate().filter(|(_, name)| schema.index_of(name).is_err()) {
            let item = pointer.join(i);
            let pointer = if self.findings.file.rank(&item).is_some() { item } else { pointer.clone() };
            self.no_column(&pointer, name, draft, schema);
        }
        if 1 < tasks && self.context.key.is_empty() {
            let help = "without a key all rows are one series, which one task has to read";
            self.findings.error(
                &draft.pointer.join("tasks"),
                "several tasks need the pipeline's `key`",
                "",
                &[help.to_owned()],
            );
        }
    }
}
