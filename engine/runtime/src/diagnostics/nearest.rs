//! Names that were probably meant.

/// What other systems call things, and what they are called here.
const SYNONYMS: [(&str, &str); 16] = [
    ("double", "float"),
    ("number", "float"),
    ("real", "float"),
    ("decimal", "float"),
    ("int", "integer"),
    ("int64", "integer"),
    ("long", "integer"),
    ("bigint", "integer"),
    ("bool", "boolean"),
    ("text", "string"),
    ("str", "string"),
    ("varchar", "string"),
    ("date", "timestamp"),
    ("datetime", "timestamp"),
    ("postgresql", "postgres"),
    ("stdout", "console"),
];

/// The name most like `word`, if one is so near that it is probably meant; capitals and dashes count little. Also the
/// only name that begins with the word, and what other systems call by it.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    // A third of the letters may be wrong, but one always: more would suggest unrelated short names.
    let most_edits = (wanted.chars().count() / 3).max(1);
    let names: Vec<&'a str> = names.into_iter().collect();
    let with_distance = names.iter().copied().map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name));
    let (distance, name) = with_distance.min_by_key(|(distance, _)| *distance)?;
    // A name of one letter is one edit away from every other.
    if distance <= most_edits && distance < wanted.chars().count().max(name.chars().count()) {
        return Some(name);
    }
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == wanted).map(|(_, name)| *name);
    let mut named = names.iter().copied().filter(|name| Some(*name) == synonym);
    // Three letters tell enough: `sensor` for `sensor_id`.
    let mut begun = names.iter().copied().filter(|name| 3 <= wanted.len() && plain(name).starts_with(&wanted));
    match (named.next(), begun.next(), begun.next()) {
        (Some(name), ..) | (None, Some(name), None) => Some(name),
        _ => None,
    }
}

/// What a label says of a name that was perhaps meant; empty when there is none.
pub fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("did you mean `{meant}`?")).unwrap_or_default()
}

/// `` `a`, `b` or `c` `` with the word given before the last.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.pop() {
        None => String::new(),
        Some(only) if names.is_empty() => only,
        Some(end) => format!("{} {last} {end}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["window", "value", "threshold", "min_samples", "float", "min_deviation"];
        for (word, meant) in [
            ("windw", Some("window")),
            ("Window", Some("window")),
            ("valeu", Some("value")),
            ("min-samples", Some("min_samples")),
            ("thresh", Some("threshold")),
            ("min", None),
            ("double", Some("float")),
            ("color", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(list(["a"], "or"), "`a`");
        assert_eq!(list(["a", "b"], "or"), "`a` or `b`");
        assert_eq!(list(["a", "b", "c"], "and"), "`a`, `b` and `c`");
    }
}
