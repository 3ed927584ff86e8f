//! Places in a document: `main.temp`, `stations.*.readings.*.value`, `/main/temp`.

use std::fmt::{self, Write};

use serde_json::Value;

/// A way from the outside of a document to a value in it.
#[derive(Debug, Clone)]
pub(super) struct Path {
    steps: Vec<Step>,
    /// Not the value at the end is meant, but the name or number by which it was found.
    asks_key: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// A field of an object, or the number of an element of an array.
    Name(String),
    /// What the `*` of `each` stands for that comes as many stars after its first.
    Star(usize),
}

/// What a `*` stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key<'a> {
    /// A field of an object.
    Name(&'a str),
    /// An element of an array, from 0.
    Number(usize),
}

impl Path {
    /// Reads a path: names with dots between them, or a JSON Pointer (RFC 6901), which begins with `/`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescaped).collect::<Option<_>>().ok_or_else(|| {
                format!("`{text}` is no JSON Pointer: `~` must be written as `~0`, and `/` in a name as `~1`")
            })?,
            None => text.split('.').map(str::to_owned).collect(),
        };
        if !text.starts_with('/') && names.iter().any(String::is_empty) {
            return Err(format!("`{text}` is no path, it would be like `main.temp` or `/main/temp`"));
        }
        let mut path = Path { steps: Vec::with_capacity(names.len()), asks_key: false };
        let n_names = names.len();
        for (idx, name) in names.into_iter().enumerate() {
            let star = path.n_stars();
            match name.as_str() {
                "*" => path.steps.push(Step::Star(star)),
                "*#" if idx + 1 == n_names => {
                    path.steps.push(Step::Star(star));
                    path.asks_key = true;
                }
                "*#" => return Err(format!("`{text}` has `*#` before its end: a name or number has nothing in it")),
                _ => path.steps.push(Step::Name(name)),
            }
        }
        Ok(path)
    }

    /// The place of a field in what this path leads to.
    pub fn join(&self, name: &str) -> Self {
        let steps = self.steps.iter().cloned().chain([Step::Name(name.into())]).collect();
        Path { steps, asks_key: false }
    }

    /// The place of a field of the document.
    pub fn of_field(name: &str) -> Self {
        Path { steps: vec![Step::Name(name.into())], asks_key: false }
    }

    /// How many `*` it has.
    pub fn n_stars(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Star(_))).count()
    }

    /// Whether it leads to names or numbers, not to values.
    pub fn asks_key(&self) -> bool {
        self.asks_key
    }

    /// The name or number that it asks for; none when it asks for a value.
    pub fn key<'a>(&self, stars: &[Key<'a>]) -> Option<Key<'a>> {
        match (self.asks_key, self.steps.last()) {
            (true, Some(Step::Star(nth))) => stars.get(*nth).copied(),
            _ => None,
        }
    }

    /// The value at its end, where each `*` stands for its key; none when the document has no such place.
    pub fn find<'a>(&self, document: &'a Value, stars: &[Key<'_>]) -> Option<&'a Value> {
        self.steps.iter().try_fold(document, |value, step| match step {
            Step::Name(name) => named(value, name),
            Step::Star(nth) => match stars.get(*nth)? {
                Key::Name(name) => value.as_object()?.get(*name),
                Key::Number(number) => value.as_array()?.get(*number),
            },
        })
    }

    /// Calls `visit` for each place that it leads to, in the order of the document, with what its stars stand for.
    ///
    /// # Errors
    /// When something before or at a `*` is missing or neither an array nor an object; and those of `visit`.
    pub fn each<'a>(
        &self,
        document: &'a Value,
        visit: &mut dyn FnMut(&[Key<'a>]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.each_from(0, document, &mut Vec::with_capacity(self.n_stars()), visit)
    }

    fn each_from<'a>(
        &self,
        first: usize,
        value: &'a Value,
        stars: &mut Vec<Key<'a>>,
        visit: &mut dyn FnMut(&[Key<'a>]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut value = value;
        for (idx, step) in self.steps.iter().enumerate().skip(first) {
            match (step, value) {
                (Step::Name(name), _) => {
                    let end = idx + 1;
                    value = named(value, name).ok_or_else(|| format!("`{}` is missing", self.upto(end, stars)))?;
                }
                (Step::Star(_), Value::Array(elements)) => {
                    let keys = (0..elements.len()).map(Key::Number);
                    return self.each_of(idx, keys.zip(elements), stars, visit);
                }
                (Step::Star(_), Value::Object(fields)) => {
                    let fields = fields.iter().map(|(name, value)| (Key::Name(name), value));
                    return self.each_of(idx, fields, stars, visit);
                }
                (Step::Star(_), _) => {
                    let (place, found) = (self.upto(idx, stars), super::Found::from(value).words());
                    let subject = if idx == 0 { "it".into() } else { format!("`{place}`") };
                    return Err(format!("{subject} is {found}, it must be an array or an object"));
                }
            }
        }
        visit(stars)
    }

    fn each_of<'a>(
        &self,
        star: usize,
        inside: impl Iterator<Item = (Key<'a>, &'a Value)>,
        stars: &mut Vec<Key<'a>>,
        visit: &mut dyn FnMut(&[Key<'a>]) -> Result<(), String>,
    ) -> Result<(), String> {
        for (key, value) in inside {
            stars.push(key);
            self.each_from(star + 1, value, stars, visit)?;
            stars.pop();
        }
        Ok(())
    }

    /// Where it leads, in words: `stations.3.name`.
    pub fn words(&self, stars: &[Key<'_>]) -> String {
        self.upto(self.steps.len(), stars)
    }

    fn upto(&self, end: usize, stars: &[Key<'_>]) -> String {
        let mut words = String::new();
        for (idx, step) in self.steps.iter().take(end).enumerate() {
            if 0 < idx {
                words.push('.');
            }
            match step {
                Step::Name(name) => words.push_str(name),
                Step::Star(nth) => match stars.get(*nth) {
                    Some(key) => write!(words, "{key}").expect("memory takes it"),
                    None => words.push('*'),
                },
            }
        }
        pipeline_stage::printable(&words, SHOWN)
    }
}

/// How much of a place is shown, in characters: its names may come from the document.
const SHOWN: usize = 120;

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Name(name) => f.write_str(name),
            Key::Number(number) => write!(f, "{number}"),
        }
    }
}

fn named<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(name),
        // `01` is no number of an element, as RFC 6901 has it.
        Value::Array(_) if name.starts_with(['0', '+']) && name != "0" => None,
        Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A name of a JSON Pointer without its escapes.
fn unescaped(name: &str) -> Option<String> {
    let mut pieces = name.split('~');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        text.push(match piece.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        text.push_str(&piece[1..]);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str, document: &Value, stars: &[Key<'_>]) -> Option<Value> {
        Path::parse(path).unwrap().find(document, stars).cloned()
    }

    #[test]
    fn names_are_followed_from_the_outside_in() {
        let document = json!({"main": {"temp": 1, "a.b": 2, "a/b~": 3}, "list": [{"x": 4}, 5], "": 6, "*": {"~": 7}});
        for (path, expected) in [
            ("main.temp", Some(json!(1))),
            ("/main/temp", Some(json!(1))),
            ("/main/a.b", Some(json!(2))),
            ("/main/a~1b~0", Some(json!(3))),
            ("list.0.x", Some(json!(4))),
            ("/list/1", Some(json!(5))),
            ("/", Some(json!(6))),
            ("list.01", None),
            ("list.+1", None),
            ("list.2", None),
            ("list.-1", None),
            ("list.x", None),
            ("main.a.b", None),
            ("main.temp.x", None),
        ] {
            assert_eq!(find(path, &document, &[]), expected, "{path}");
        }
    }

    #[test]
    fn a_star_stands_for_where_each_is() {
        let document = json!({"a": [{"b": {"x": 1, "y": 2}}, {"b": {}}], "c": [10, 20], "d": {"x": 30}});
        let (mut places, mut values) = (Vec::new(), Vec::new());
        let each = Path::parse("a.*.b.*").unwrap();
        let visited = each.each(&document, &mut |stars| {
            places.push(each.words(stars));
            for path in ["a.*.b.*", "c.*", "/d/x"] {
                values.push(find(path, &document, stars));
            }
            Ok(())
        });
        assert_eq!((visited, places), (Ok(()), vec!["a.0.b.x".into(), "a.0.b.y".into()]));
        let expected = [1, 10, 30, 2, 10, 30].map(|number| Some(json!(number)));
        assert_eq!(values, expected);
    }

    #[test]
    fn the_key_of_a_star_can_be_asked_for() {
        let path = Path::parse("a.*.b.*#").unwrap();
        let stars = [Key::Number(3), Key::Name("x")];
        assert_eq!(path.key(&stars), Some(Key::Name("x")));
        assert_eq!(Path::parse("a.*#").unwrap().key(&stars), Some(Key::Number(3)));
        assert_eq!(Path::parse("a.*").unwrap().key(&stars), None);
    }

    #[test]
    fn says_where_there_is_nothing_to_go_through() {
        let each = Path::parse("a.*.b.*").unwrap();
        for (document, why) in [
            (json!({}), "`a` is missing"),
            (json!({"a": 5}), "`a` is the number `5`, it must be an array or an object"),
            (json!({"a": [{"b": []}, {}]}), "`a.1.b` is missing"),
            (json!({"a": {"\u{1b}": {"b": null}}}), r"`a.\u{1b}.b` is null, it must be an array or an object"),
        ] {
            assert_eq!(each.each(&document, &mut |_| Ok(())), Err(why.into()), "{document}");
        }
        let elements = Path::parse("*").unwrap();
        let why = "it is the text `x`, it must be an array or an object";
        assert_eq!(elements.each(&json!("x"), &mut |_| Ok(())), Err(why.into()));
    }

    #[test]
    fn refuses_what_is_no_path() {
        for (path, why) in [
            ("", "`` is no path, it would be like `main.temp` or `/main/temp`"),
            ("a..b", "`a..b` is no path, it would be like `main.temp` or `/main/temp`"),
            ("/a~2", "`/a~2` is no JSON Pointer: `~` must be written as `~0`, and `/` in a name as `~1`"),
            ("/a~", "`/a~` is no JSON Pointer: `~` must be written as `~0`, and `/` in a name as `~1`"),
            ("a.*#.b", "`a.*#.b` has `*#` before its end: a name or number has nothing in it"),
        ] {
            assert_eq!(Path::parse(path).err().as_deref(), Some(why), "{path}");
        }
    }
}
