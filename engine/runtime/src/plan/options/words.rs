//! Values and types as people say them.

use serde_json::Value;

use super::{alternatives, choices, definition, is_null, takes};
use crate::diagnostics::list;

/// Longer texts are cut: the file shows them in full.
const MAX_SHOWN: usize = 60;

/// A value as a sentence names it: ``the text `x` ``, `7`, `a list`.
pub(crate) fn described(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "an empty text".into(),
        Value::String(text) => match text.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("the text `{}…`", &text[..end]),
            None => format!("the text `{text}`"),
        },
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a map".into(),
    }
}

/// The form of a value that must not be shown.
pub(super) fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// What a schema takes: `a whole number of at least 2`, `text`, `a list of texts`.
pub(crate) fn type_in_words(schema: &Value, root: &Value) -> String {
    let schema = definition(schema, root);
    if let Some(choices) = choices(schema, root) {
        return list(choices, "or");
    }
    if let Some(alternatives) = alternatives(schema) {
        let all = alternatives.iter().map(|schema| definition(schema, root)).filter(|schema| !is_null(schema));
        return all.map(|schema| type_in_words(schema, root)).collect::<Vec<_>>().join(" or ");
    }
    if let Some(Value::Array(types)) = schema.get("type") {
        let names = types.iter().filter(|name| *name != "null");
        let of_one = names.map(|name| {
            let mut one = schema.clone();
            one["type"] = name.clone();
            if let Some(one) = one.as_object_mut() {
                // The advice about quotes is for what must be text.
                one.remove("writeOnly");
            }
            type_in_words(&one, root)
        });
        return of_one.collect::<Vec<_>>().join(" or ");
    }
    let form =
        ["integer", "number", "boolean", "string", "array", "object"].into_iter().find(|name| takes(schema, name));
    match form {
        Some("integer") => format!("a whole number{}", range(schema)),
        Some("number") => format!("a number{}", range(schema)),
        Some("boolean") => "true or false".into(),
        Some("string") => text_in_words(schema),
        Some("array") => list_in_words(schema, root),
        Some(_) => "a map".into(),
        None => String::new(),
    }
}

fn text_in_words(schema: &Value) -> String {
    let example = schema.get("examples").and_then(|examples| examples.get(0)).and_then(Value::as_str);
    match (example, schema.get("writeOnly")) {
        (Some(example), _) => format!("text such as `{example}`"),
        (None, Some(_)) => "text; put it into quotes".into(),
        (None, None) => "text".into(),
    }
}

fn list_in_words(schema: &Value, root: &Value) -> String {
    match schema.get("items").map(|items| type_in_words(items, root)) {
        Some(items) if items == "text" => "a list of texts".into(),
        Some(items) if !items.is_empty() => format!("a list of {}", items.strip_prefix("a ").unwrap_or(&items)),
        _ => "a list".into(),
    }
}

/// The first sentence of a description, without its full stop.
pub(super) fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

/// The least and the greatest number that a schema takes; those of Rust's integers count too.
pub(super) fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let number = |name| schema.get(name).and_then(Value::as_f64);
    let of_format = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some(f64::from(u8::MAX)),
        Some("uint16") => Some(f64::from(u16::MAX)),
        Some("uint32") => Some(f64::from(u32::MAX)),
        Some("int32") => Some(f64::from(i32::MAX)),
        _ => None,
    };
    (number("minimum"), number("maximum").or(of_format))
}

fn range(schema: &Value) -> String {
    if let Some(limit) = schema.get("exclusiveMinimum") {
        return format!(" above {limit}");
    }
    match (bounds(schema), schema.get("maximum")) {
        ((Some(least), Some(most)), Some(_)) => format!(" from {} to {}", grouped(least), grouped(most)),
        ((Some(least), _), _) => format!(" of at least {}", grouped(least)),
        ((None, Some(most)), _) => format!(" of at most {}", grouped(most)),
        _ => String::new(),
    }
}

/// `1,000,000`
pub(crate) fn grouped(number: f64) -> String {
    let text = number.to_string();
    let (whole, rest) = text.find('.').map_or((text.as_str(), ""), |dot| text.split_at(dot));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// serde's sentences in the project's words; others are passed on as they are.
pub(crate) fn of_serde(message: &str, option: Option<&str>) -> String {
    let name = option.map_or_else(|| "it".into(), |option| format!("`{option}`"));
    // `… at line 1 column 2` belongs to JSON text that no user has seen.
    let message = message.split(" at line ").next().unwrap_or(message);
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|rest| rest.split_once(", expected ")) {
            let found = found
                .replace("string \"", "the text `")
                .replace('"', "`")
                .replace("integer ", "")
                .replace("floating point ", "");
            return format!("{name} is {}, it must be {}", found, expected_in_words(expected));
        }
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    if let Some((found, expected)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{name} is {found}, it must be {}", expected.trim_start_matches("one of "));
    }
    message.to_owned()
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_is_translated() {
        for (message, words) in [
            (
                "invalid type: string \"x\", expected u32",
                "`window` is the text `x`, it must be a whole number of at least 0",
            ),
            ("invalid type: integer `3`, expected a string", "`window` is `3`, it must be text"),
            ("missing field `url`", "`url` is missing"),
            ("unknown variant `up`, expected `above` or `below`", "`window` is `up`, it must be `above` or `below`"),
            ("`50` is not a duration", "`50` is not a duration"),
        ] {
            assert_eq!(of_serde(message, Some("window")), words);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(100_000_000.0), "100,000,000");
        assert_eq!(grouped(-1_234.5), "-1,234.5");
        assert_eq!(grouped(12.0), "12");
    }
}
