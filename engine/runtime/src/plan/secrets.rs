//! Which values of a file are secrets: they are hidden wherever lines of it are shown.

use std::ops::Range;

use pipeline_stage::{Kind, Registry};
use serde_json::Value;

use super::draft::{engine_schema, kind_of};
use super::options::definition;
use crate::diagnostics::SourceText;
use crate::file::{Content, Node, PipelineFile, Rank};

/// Parts of names that tell a secret when no schema does (`client: { sasl.password: … }`).
const TELLING: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "apikey"];

/// Hides the secrets of all layers of the file, and of the profiles that are not used.
pub(super) fn hide(file: &mut PipelineFile, registry: &Registry) {
    let mut found: Vec<(usize, Range<usize>)> = Vec::new();
    let whole = file.root.clone();
    let profiles = whole.entry("profiles").map_or(&[][..], |entry| entry.node.entries());
    for node in profiles.iter().map(|profile| &profile.node).chain([&whole]) {
        in_layer(node, &|map, id| type_in(node, map, id).or_else(|| type_of(file, map, id)), registry, &mut |range| {
            found.push((0, range))
        });
    }
    for layer in file.layers.iter().filter(|layer| Rank::Profile < layer.rank) {
        in_layer(&layer.node, &|map, id| type_of(file, map, id), registry, &mut |range| {
            found.push((layer.source, range))
        });
    }
    for (source, range) in found {
        file.sources[source].hide([range]);
    }
    file.sources.iter_mut().for_each(hide_passwords);
}

/// Hides the secrets of a text that could not be read as YAML, by the names of options alone.
pub(super) fn hide_in_text(source: &mut SourceText, registry: &Registry) {
    let mut names: Vec<String> = TELLING.iter().map(|name| (*name).to_owned()).collect();
    for stage_type in registry.all() {
        let schema = stage_type.schema.as_value();
        let options = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|all| all.keys());
        names.extend(options.filter(|option| is_secret(schema, option)).cloned());
    }
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in source.text().split_inclusive('\n') {
        for name in &names {
            found.extend(values_in_line(line, name).map(|value| line_start + value.start..line_start + value.end));
        }
        line_start += line.len();
    }
    source.hide(found);
    hide_passwords(source);
}

/// Hides what stands between `://` and `@`, wherever it is written: in keys and comments too.
fn hide_passwords(source: &mut SourceText) {
    let mut found = Vec::new();
    for (at, sign) in source.text().match_indices("://") {
        let start = at + sign.len();
        let rest = &source.text()[start..];
        let word = &rest[..rest.find(|c: char| c.is_whitespace() || "\"',}]".contains(c)).unwrap_or(rest.len())];
        if let Some(end) = word.rfind('@').filter(|&end| word[..end].contains(':') && !word[..end].contains("${")) {
            found.push(start..start + end);
        }
    }
    source.hide(found);
}

/// What follows a key whose name ends so, up to the end of the value.
fn values_in_line<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    line.to_lowercase().match_indices(name).map(|(at, _)| at + name.len()).collect::<Vec<_>>().into_iter().filter_map(
        move |end| {
            let rest = line.get(end..)?;
            let colon = rest
                .find(':')
                .filter(|&colon| rest[..colon].chars().all(|c| c.is_alphanumeric() || "_\"' ".contains(c)))?;
            let start = end + colon + 1 + (rest[colon + 1..].len() - rest[colon + 1..].trim_start().len());
            let value = &line[start..];
            let length = match value.chars().next()? {
                quote @ ('"' | '\'') => value[1..].find(quote).map_or(value.trim_end().len(), |end| end + 2),
                _ if value.starts_with("${") => value.find('}').map_or(value.len(), |end| end + 1),
                _ => value.find([',', '}', '\n']).unwrap_or(value.len()),
            };
            (!is_reference(&value[..length])).then_some(start..start + length)
        },
    )
}

fn type_in(layer: &Node, map: &str, id: &str) -> Option<String> {
    layer.at([map, id, "type"])?.scalar().map(|scalar| scalar.text.clone())
}

fn type_of(file: &PipelineFile, map: &str, id: &str) -> Option<String> {
    file.value().get(map)?.get(id)?.get("type")?.as_str().map(str::to_owned)
}

fn in_layer(
    node: &Node,
    type_of: &dyn Fn(&str, &str) -> Option<String>,
    registry: &Registry,
    found: &mut dyn FnMut(Range<usize>),
) {
    for entry in node.entries().iter().filter(|entry| entry.key != "profiles") {
        let Some(kind) = kind_of(&entry.key) else {
            in_value(&entry.key, &entry.node, found);
            continue;
        };
        for stage in entry.node.entries() {
            let stage_type = type_of(&entry.key, &stage.key).and_then(|name| registry.find(kind, &name));
            for option in stage.node.entries() {
                let is_secret = match stage_type {
                    Some(stage_type) => may_be_secret(stage_type.schema.as_value(), kind, &option.key),
                    // The type is misspelled: what is a secret anywhere is treated as one.
                    None => is_secret_of_any(registry, kind, &option.key),
                };
                match is_secret {
                    true => all(&option.node, found),
                    false => in_value(&option.key, &option.node, found),
                }
            }
        }
    }
}

/// Whether an option is a secret, or may be one that is misspelled.
fn may_be_secret(schema: &Value, kind: Kind, option: &str) -> bool {
    let Some(options) = schema.get("properties").and_then(Value::as_object) else { return false };
    let is_known =
        options.contains_key(option) || option == "type" || engine_schema(kind)["properties"].get(option).is_some();
    is_secret(schema, option) || (!is_known && options.values().any(|known| is_one_secret(known, schema)))
}

/// Whether what a schema describes is itself a secret.
fn is_one_secret(schema: &Value, root: &Value) -> bool {
    let schema = definition(schema, root);
    let parts = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|name| schema.get(name)?.as_array()).flatten();
    schema.get("writeOnly") == Some(&Value::Bool(true)) || parts.into_iter().any(|part| is_one_secret(part, root))
}

/// Whether an option of a stage with this schema is a secret.
pub(super) fn is_secret(schema: &Value, option: &str) -> bool {
    schema.get("properties").and_then(|all| all.get(option)).is_some_and(|option| holds_secret(option, schema))
}

/// Whether what a schema describes is a secret, or a map or list of secrets (`headers:`): then whatever stands there is
/// hidden, also where it is no map at all.
pub(super) fn holds_secret(schema: &Value, root: &Value) -> bool {
    let inner = definition(schema, root);
    let inner = ["additionalProperties", "items"].into_iter().filter_map(|name| inner.get(name));
    is_one_secret(schema, root) || inner.into_iter().any(|part| holds_secret(part, root))
}

fn is_secret_of_any(registry: &Registry, kind: Kind, option: &str) -> bool {
    registry.of_kind(kind).any(|stage| is_secret(stage.schema.as_value(), option))
}

fn in_value(key: &str, node: &Node, found: &mut dyn FnMut(Range<usize>)) {
    let key = key.to_lowercase().replace('-', "_");
    if TELLING.iter().any(|telling| key.contains(telling)) {
        all(node, found);
        return;
    }
    match &node.content {
        Content::Scalar(scalar) => {
            if has_password(&scalar.text) {
                found(node.range.clone());
            }
        }
        Content::List(items) => items.iter().for_each(|item| in_value("", item, found)),
        Content::Map(entries) => entries.iter().for_each(|entry| in_value(&entry.key, &entry.node, found)),
    }
}

/// Hides every scalar that is not merely a reference to a variable.
fn all(node: &Node, found: &mut dyn FnMut(Range<usize>)) {
    match &node.content {
        Content::Scalar(scalar) if scalar.text.is_empty() || is_reference(&scalar.text) => {}
        Content::Scalar(_) => found(node.range.clone()),
        Content::List(items) => items.iter().for_each(|item| all(item, found)),
        Content::Map(entries) => entries.iter().for_each(|entry| all(&entry.node, found)),
    }
}

/// Whether a text is `${NAME}` and nothing else: the file shows no secret then.
pub(super) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(|text| text.strip_suffix('}'))
        .is_some_and(|name| !name.contains(['}', '$']) && !name.contains(":-"))
}

/// Whether a value is a secret by its name, by a name within, or because it is a URL with a password.
pub(super) fn is_telling(name: &str, value: &Value) -> bool {
    let lower = name.to_lowercase();
    TELLING.iter().any(|telling| lower.contains(telling))
        || match value {
            Value::Object(parts) => parts.iter().any(|(name, value)| is_telling(name, value)),
            Value::Array(items) => items.iter().any(|item| is_telling("", item)),
            Value::String(text) => has_password(text),
            _ => false,
        }
}

/// Whether a text is a URL with a password in it.
pub(super) fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, password)| !is_reference(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_text_that_is_no_yaml() {
        for (line, value) in [
            ("  url: postgres://h/d\n", "postgres://h/d"),
            ("x: { url: hush, table: x }", "hush"),
            ("x: { url: \"hush, table: x }", "\"hush, table: x }"),
            ("  \"url\": 'hush' # x", "'hush'"),
            ("  table: url", ""),
            ("  url: ${URL}", ""),
        ] {
            let found = values_in_line(line, "url").next().map(|range| line[range].to_owned()).unwrap_or_default();
            assert_eq!(found, value, "{line}");
        }
    }

    #[test]
    fn urls_with_a_password_are_known() {
        for (text, is_secret) in [
            ("postgres://u:pw@h/d", true),
            ("postgres://u@h/d", false),
            ("postgres://u:${PW}@h/d", false),
            ("http://h:80/a@b:c", false),
            ("value > 3", false),
        ] {
            assert_eq!(has_password(text), is_secret, "{text}");
        }
    }
}
