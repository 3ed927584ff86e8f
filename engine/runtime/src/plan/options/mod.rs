//! Options against the JSON Schema of what takes them: every mistake at once, in the project's words.
//!
//! serde stops at the first mistake and speaks of its own types. The schema is made of the same structs, so what passes
//! here is read by them; texts with a pattern (durations, sizes) are left to them, they explain themselves better.

mod words;

use serde_json::{Map, Value};

use super::secrets::holds_secret;
use crate::diagnostics::nearest;
pub(crate) use words::{described, grouped, of_serde, type_in_words};

/// One option that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    /// Where it stands below the checked value; a missing one where it would stand.
    pub path: Vec<String>,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl Problem {
    /// Where the option would stand that was meant by an unknown one.
    fn meant_path(&self) -> Option<Vec<String>> {
        let ProblemKind::Unknown { meant: Some(meant), .. } = &self.kind else { return None };
        let (_, parent) = self.path.split_last()?;
        Some(parent.iter().chain([meant]).cloned().collect())
    }
}

/// What is wrong with an option.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ProblemKind {
    /// No such option; there are these, and perhaps one of them was meant.
    Unknown { known: Vec<String>, meant: Option<String> },
    /// It must be given.
    Missing { wanted: String, about: String },
    /// It has a wrong value: a whole sentence, and the allowed value that was perhaps meant.
    Wrong { message: String, meant: Option<String> },
}

/// Checks values against a schema.
pub(crate) struct Checker<'a> {
    /// The whole schema, for its `$defs`.
    root: &'a Value,
    /// What a value was as text before YAML made a number of it, if it came from outside the file.
    text_of: &'a dyn Fn(&[String]) -> Option<String>,
    /// Values of which something is known to be wrong already.
    is_unknown: &'a dyn Fn(&[String]) -> bool,
    /// Other names that may stand beside these options, for finding what was meant.
    beside: &'a [&'a str],
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    /// A checker for values of this schema.
    pub fn new(
        root: &'a Value,
        text_of: &'a dyn Fn(&[String]) -> Option<String>,
        is_unknown: &'a dyn Fn(&[String]) -> bool,
        beside: &'a [&'a str],
    ) -> Self {
        Checker { root, text_of, is_unknown, beside, problems: Vec::new() }
    }

    /// Checks a map of options. Texts from outside become texts again where text is wanted.
    pub fn check(mut self, options: &mut Map<String, Value>) -> Vec<Problem> {
        self.object(options, self.root, &mut Vec::new());
        // A misspelled option is told as such, not also as one that is missing.
        let meant: Vec<Vec<String>> = self.problems.iter().filter_map(Problem::meant_path).collect();
        self.problems
            .retain(|problem| !matches!(problem.kind, ProblemKind::Missing { .. }) || !meant.contains(&problem.path));
        self.problems
    }

    fn wrong(&mut self, path: &[String], message: String) {
        self.problems.push(Problem { path: path.to_vec(), kind: ProblemKind::Wrong { message, meant: None } });
    }

    fn object(&mut self, map: &mut Map<String, Value>, schema: &Value, path: &mut Vec<String>) {
        let no_properties = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_properties);
        self.drop_empty(map, properties, path);
        for (key, value) in map.iter_mut() {
            path.push(key.clone());
            match (properties.get(key), schema.get("additionalProperties")) {
                (Some(schema), _) => self.value(value, schema, path),
                (None, Some(Value::Bool(false))) => self.unknown(key, properties, path),
                (None, Some(schema @ Value::Object(_))) => self.value(value, schema, path),
                (None, _) => {}
            }
            path.pop();
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !map.contains_key(*name)) {
            path.push(name.to_owned());
            if !(self.is_unknown)(path) {
                let schema = properties.get(name).unwrap_or(&Value::Null);
                let wanted = type_in_words(schema, self.root);
                let about =
                    words::first_sentence(schema.get("description").and_then(Value::as_str).unwrap_or_default());
                self.problems.push(Problem { path: path.clone(), kind: ProblemKind::Missing { wanted, about } });
            }
            path.pop();
        }
    }

    /// An option that is null is as good as not given; one that is null because of a missing variable stays.
    fn drop_empty(&self, map: &mut Map<String, Value>, properties: &Map<String, Value>, path: &mut Vec<String>) {
        map.retain(|key, value| {
            path.push(key.clone());
            let is_kept = !value.is_null() || !properties.contains_key(key) || (self.is_unknown)(path);
            path.pop();
            is_kept
        });
    }

    fn unknown(&mut self, key: &str, properties: &Map<String, Value>, path: &[String]) {
        let beside: &[&str] = if path.len() == 1 { self.beside } else { &[] };
        let names = properties.keys().map(String::as_str).chain(beside.iter().copied());
        let known: Vec<String> = names.map(str::to_owned).collect();
        let meant = nearest(key, known.iter().map(String::as_str)).map(str::to_owned);
        self.problems.push(Problem { path: path.to_vec(), kind: ProblemKind::Unknown { known, meant } });
    }

    fn value(&mut self, value: &mut Value, schema: &Value, path: &mut Vec<String>) {
        if (self.is_unknown)(path) && !value.is_object() && !value.is_array() {
            return;
        }
        let schema = self.definition(schema);
        if let Some(choices) = choices(schema, self.root) {
            self.choice(value, &choices, schema, path);
            return;
        }
        if let Some(alternatives) = alternatives(schema) {
            let alternatives: Vec<&Value> = alternatives.iter().map(|schema| self.definition(schema)).collect();
            self.any_of(value, &alternatives, schema, path);
            return;
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.value(value, part, path);
        }
        let wants_text =
            takes(schema, "string") && !["number", "integer", "boolean"].into_iter().any(|other| takes(schema, other));
        let is_scalar = !value.is_object() && !value.is_array();
        if let Some(text) = (self.text_of)(path).filter(|_| wants_text && is_scalar) {
            *value = Value::String(text);
        }
        // Durations, sizes and rates: texts with a pattern and examples.
        let has_own_words = schema.get("pattern").is_some() && schema.get("examples").is_some();
        if has_own_words && is_scalar {
            return;
        }
        if !fits_type(value, schema) || !fits_range(value, schema) {
            let message = self.message(path, value, schema);
            self.wrong(path, message);
            return;
        }
        self.parts(value, schema, path);
    }

    fn parts(&mut self, value: &mut Value, schema: &Value, path: &mut Vec<String>) {
        match value {
            Value::Object(map) => self.object(map, schema, path),
            Value::Array(items) => {
                let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
                if (items.len() as u64) < least {
                    let name = path.join(".");
                    self.wrong(path, format!("`{name}` has {} items, it must have at least {least}", items.len()));
                }
                let Some(schema) = schema.get("items") else { return };
                for (i, item) in items.iter_mut().enumerate() {
                    path.push(i.to_string());
                    self.value(item, schema, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn choice(&mut self, value: &Value, choices: &[&str], schema: &Value, path: &[String]) {
        if value.as_str().is_some_and(|text| choices.contains(&text)) {
            return;
        }
        let meant = value.as_str().and_then(|text| nearest(text, choices.iter().copied())).map(str::to_owned);
        let message = self.message(path, value, schema);
        self.problems.push(Problem { path: path.to_vec(), kind: ProblemKind::Wrong { message, meant } });
    }

    /// The alternative of the value's own form says what is wrong with it; without one, all of them are named.
    fn any_of(&mut self, value: &mut Value, alternatives: &[&Value], schema: &Value, path: &mut Vec<String>) {
        let of_form: Vec<&Value> =
            alternatives.iter().copied().filter(|schema| is_of_form(value, schema, self.root)).collect();
        match of_form.as_slice() {
            [] => {
                let only = alternatives.iter().filter(|schema| !takes(schema, "null")).copied().collect::<Vec<_>>();
                match only.as_slice() {
                    // An option that may be left out: the alternative to null says it all.
                    [schema] => self.value(value, schema, path),
                    _ => {
                        let message = self.message(path, value, schema);
                        self.wrong(path, message);
                    }
                }
            }
            [schema] => self.value(value, schema, path),
            several => {
                let before = self.problems.len();
                for schema in several {
                    self.problems.truncate(before);
                    self.value(value, schema, path);
                    if self.problems.len() == before {
                        return;
                    }
                }
            }
        }
    }

    fn message(&self, path: &[String], value: &Value, schema: &Value) -> String {
        let found = if holds_secret(schema, self.root) { words::form(value).into() } else { described(value) };
        format!("`{}` is {found}, it must be {}", path.join("."), type_in_words(schema, self.root))
    }

    fn definition<'b>(&self, schema: &'b Value) -> &'b Value
    where
        'a: 'b,
    {
        definition(schema, self.root)
    }
}

/// Follows `$ref`.
pub(crate) fn definition<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|pointer| pointer.strip_prefix("#/"));
    match name.and_then(|path| path.split('/').try_fold(root, |value, part| value.get(part))) {
        Some(found) => definition(found, root),
        None => schema,
    }
}

fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)
}

/// The texts that are allowed, if nothing else is.
pub(crate) fn choices<'a>(schema: &'a Value, root: &'a Value) -> Option<Vec<&'a str>> {
    if let Some(only) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![only]);
    }
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return names.iter().filter(|name| !name.is_null()).map(Value::as_str).collect();
    }
    let choices: Option<Vec<Vec<&str>>> = alternatives(schema)?
        .iter()
        .map(|schema| definition(schema, root))
        .filter(|schema| !is_null(schema))
        .map(|schema| choices(schema, root))
        .collect();
    choices.map(|choices| choices.concat())
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Whether a schema takes values of a JSON type.
pub(crate) fn takes(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn is_of_form(value: &Value, schema: &Value, root: &Value) -> bool {
    match choices(schema, root) {
        Some(_) => value.is_string(),
        None => fits_type(value, schema),
    }
}

fn fits_type(value: &Value, schema: &Value) -> bool {
    if schema.get("type").is_none() {
        return true;
    }
    match value {
        Value::Null => takes(schema, "null"),
        Value::Bool(_) => takes(schema, "boolean"),
        Value::Number(number) => takes(schema, "number") || (takes(schema, "integer") && !number.is_f64()),
        Value::String(_) => takes(schema, "string"),
        Value::Array(_) => takes(schema, "array"),
        Value::Object(_) => takes(schema, "object"),
    }
}

fn fits_range(value: &Value, schema: &Value) -> bool {
    let Some(number) = value.as_f64().filter(|_| value.is_number()) else { return true };
    let (least, most) = words::bounds(schema);
    let above = |name| schema.get(name).and_then(Value::as_f64);
    least.is_none_or(|least| least <= number)
        && most.is_none_or(|most| number <= most)
        && above("exclusiveMinimum").is_none_or(|limit| limit < number)
        && above("exclusiveMaximum").is_none_or(|limit| number < limit)
}
