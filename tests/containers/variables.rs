//! The variables of a compose file: `${NAME}`, `${NAME:-default}`, `${NAME:?why it is needed}`.

/// A variable, where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'t> {
    /// Its name.
    pub name: &'t str,
    /// What it is when it is empty or not set.
    pub default: Option<&'t str>,
}

/// The text with each variable replaced.
pub fn replaced<'t>(text: &'t str, mut value_of: impl FnMut(Variable<'t>) -> String) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, after) = part.split_once('}').unwrap_or_else(|| panic!("a brace is not closed in `{text}`"));
        let (name, rule) = inside.split_once(':').unwrap_or((inside, ""));
        result.push_str(&value_of(Variable { name, default: rule.strip_prefix('-') }));
        result.push_str(after);
    }
    result
}

#[test]
fn variables_have_defaults_or_none() {
    let mut seen = Vec::new();
    let text = replaced("a${A}:${B:-8-9}${C:?say it}z", |variable| {
        seen.push(variable.clone());
        variable.default.unwrap_or("?").to_owned()
    });
    assert_eq!(text, "a?:8-9?z");
    let names = [("A", None), ("B", Some("8-9")), ("C", None)];
    assert_eq!(seen, names.map(|(name, default)| Variable { name, default }));
}
