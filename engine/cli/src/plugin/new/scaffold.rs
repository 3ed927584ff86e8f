//! The files of a scaffold. Templates are real code of a stage called `heartbeat`, whose name is replaced.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

use pipeline_stage::Kind;

use super::{Language, sdk};

const RUST_MANIFEST: &str = include_str!("rust/Cargo.toml.txt");
const C_MAKEFILE: &str = include_str!("c/Makefile.txt");
const README: &str = include_str!("README.md.txt");

/// The Python of a scaffold's own environment.
const PYTHON: &str = ".venv/bin/python";

/// The code of a stage in Rust.
fn in_rust(kind: Kind) -> &'static str {
    match kind {
        Kind::Source | Kind::Format => include_str!("rust/source.rs"),
        Kind::Transform => include_str!("rust/transform.rs"),
        Kind::Detector => include_str!("rust/detector.rs"),
        Kind::Sink => include_str!("rust/sink.rs"),
    }
}

/// The code of a stage in C, and its tests. The sink is the example of the repository, which is called `journal`.
fn in_c(kind: Kind) -> (String, &'static str) {
    match kind {
        Kind::Source | Kind::Format => (include_str!("c/source.c").into(), include_str!("c/test_source.c")),
        Kind::Transform => (include_str!("c/transform.c").into(), include_str!("c/test_transform.c")),
        Kind::Detector => (include_str!("c/detector.c").into(), include_str!("c/test_detector.c")),
        Kind::Sink => (example_sink(), include_str!("c/test_sink.c")),
    }
}

/// The code of a stage in Python, and its tests.
fn in_python(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Source | Kind::Format => (include_str!("python/source.py"), include_str!("python/test_source.py")),
        Kind::Transform => (include_str!("python/transform.py"), include_str!("python/test_transform.py")),
        Kind::Detector => (include_str!("python/detector.py"), include_str!("python/test_detector.py")),
        Kind::Sink => (include_str!("python/sink.py"), include_str!("python/test_sink.py")),
    }
}

fn example_sink() -> String {
    let example = include_str!("../../../../../plugins/example-c/journal.c");
    let command = example.lines().position(|line| line.trim_start_matches([' ', '*']).starts_with("cc "));
    let without_command = example.lines().enumerate().filter(|(number, _)| {
        // With the empty line before it.
        command.is_none_or(|command| *number != command && *number + 1 != command)
    });
    let lines: Vec<&str> = without_command.map(|(_, line)| line).collect();
    let named = lines.join("\n").replace("\"journal\"", "\"heartbeat\"").replace("type: journal", "type: heartbeat");
    named.replace("\"example-c\"", "\"heartbeat\"").replace("\"1.0.0\"", "\"0.1.0\"") + "\n"
}

/// What is written, but for the name.
pub struct Scaffold {
    name: String,
    kind: Kind,
    language: Language,
}

impl Scaffold {
    /// Of a stage.
    pub fn new(name: &str, kind: Kind, language: Language) -> Self {
        Scaffold { name: name.into(), kind, language }
    }

    /// From the first test to the running pipeline, as they stand in the README.
    pub fn commands(&self) -> Vec<String> {
        let library = self.library();
        let python = if self.language == Language::Python { format!(" --python {PYTHON}") } else { String::new() };
        let build: &[&str] = match self.language {
            Language::Rust => &["cargo test", "cargo build --release"],
            Language::C => &["make test", "make"],
            Language::Python => {
                &["python3 -m venv .venv", ".venv/bin/pip install ./sdk", ".venv/bin/python -m unittest"]
            }
        };
        let is_measured = matches!(self.kind, Kind::Transform | Kind::Detector);
        let kit = if is_measured { &["check", "test", "bench"][..] } else { &["check", "test"] };
        let kit = kit.iter().map(|command| format!("pipeline plugin {command} {library}{python}"));
        let build = build.iter().map(|command| (*command).to_owned());
        build.chain(kit).chain(["pipeline run demo.yaml".into()]).collect()
    }

    /// Paths below the folder, and texts.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = match self.language {
            Language::Rust => self.rust(),
            Language::C => self.c(),
            Language::Python => self.python(),
        };
        files.push(("README.md".into(), self.readme()));
        files.push(("demo.yaml".into(), self.demo()));
        files
    }

    fn rust(&self) -> Vec<(String, String)> {
        let of_kind: &[&str] = match self.kind {
            Kind::Source | Kind::Format => {
                &["arrow-array", "arrow-schema", "async-trait", "schemars", "serde", "tokio"]
            }
            Kind::Transform => &["arrow-array", "arrow-schema", "schemars", "serde"],
            Kind::Detector => &["schemars", "serde"],
            Kind::Sink => &["async-trait", "schemars", "serde"],
        };
        let in_tests: &[&str] = if self.kind == Kind::Sink { &["arrow-array", "arrow-schema", "tokio"] } else { &[] };
        let waits = matches!(self.kind, Kind::Source | Kind::Sink);
        let features = if waits { ", features = [\"io\"]" } else { "" };
        let mut dependencies = vec![
            format!("pipeline-abi = {{ path = \"sdk/pipeline-abi\"{features} }}"),
            "pipeline-stage = { path = \"sdk/pipeline-stage\" }".into(),
        ];
        dependencies.extend(of_kind.iter().map(|name| sdk::dependency(name)));
        if !in_tests.is_empty() {
            dependencies.push("\n[dev-dependencies]".into());
            dependencies.extend(in_tests.iter().map(|name| sdk::dependency(name)));
        }
        let manifest = self.named(RUST_MANIFEST).replace("@dependencies@", &dependencies.join("\n"));
        let mut files = vec![
            ("Cargo.toml".into(), manifest),
            ("Cargo.lock".into(), sdk::LOCK.into()),
            ("src/lib.rs".into(), self.named(in_rust(self.kind))),
            (".gitignore".into(), "/target\n/.pipeline\n".into()),
        ];
        files.extend(sdk::CRATES.iter().map(|(path, text)| (format!("sdk/{path}"), (*text).into())));
        files
    }

    fn c(&self) -> Vec<(String, String)> {
        let (code, test) = in_c(self.kind);
        let name = &self.name;
        vec![
            (format!("{name}.c"), self.named(&code)),
            (format!("test_{name}.c"), self.named(test)),
            ("pipeline_plugin.h".into(), pipeline_abi::HEADER.into()),
            ("Makefile".into(), self.named(C_MAKEFILE).replace(&format!("lib{name}.so"), &self.file_name())),
            (".gitignore".into(), format!("/{}\n/test_{name}\n/.pipeline\n", self.file_name())),
        ]
    }

    fn python(&self) -> Vec<(String, String)> {
        let (code, test) = in_python(self.kind);
        let mut files = vec![
            (format!("{}.py", self.name), self.named(code)),
            (format!("test_{}.py", self.name), self.named(test)),
            (".gitignore".into(), "/.venv\n/.pipeline\n__pycache__\n".into()),
        ];
        files.extend(pipeline_python::SDK.iter().map(|(path, text)| (format!("sdk/{path}"), (*text).into())));
        files
    }

    fn file_name(&self) -> String {
        format!("{DLL_PREFIX}{}{DLL_SUFFIX}", self.name)
    }

    /// The library, from the folder on.
    fn library(&self) -> String {
        match self.language {
            Language::Rust => format!("target/release/{}", self.file_name()),
            Language::C => format!("./{}", self.file_name()),
            Language::Python => format!("./{}.py", self.name),
        }
    }

    fn readme(&self) -> String {
        let code = match self.language {
            Language::Rust => "src/lib.rs".to_owned(),
            Language::C => format!("{}.c", self.name),
            Language::Python => format!("{}.py", self.name),
        };
        let (against, needs) = match self.language {
            Language::Rust => (
                "`sdk/`: the crates `pipeline-stage`, which is what stages are made of, and `pipeline-abi`, which makes a library of them",
                "cargo",
            ),
            Language::C => (
                "`pipeline_plugin.h`: what the engine calls, and the rules that both sides keep to",
                "a C compiler and make",
            ),
            Language::Python => (
                "`sdk/`: the package `pipeline_plugin`, from which stages are derived; it needs pyarrow alone",
                "Python 3.9 or newer",
            ),
        };
        let commands = self.commands().join("\n");
        let (first, variable) = match self.language {
            Language::Python => (
                "The first two commands make an environment with the package of `sdk/` in it, the third runs the tests of the code.",
                format!("PIPELINE_PYTHON={PYTHON} "),
            ),
            _ => ("The first command runs the tests of the code, the second builds the library.", String::new()),
        };
        let stages = format!("{variable}pipeline stages --plugins {}", self.library());
        README
            .replace("@name@", &self.name)
            .replace("@language@", self.language.name())
            .replace("@kind@", self.kind.name())
            .replace("@code@", &code)
            .replace("@against@", against)
            .replace("@needs@", needs)
            .replace("@commands@", &commands)
            .replace("@first@", first)
            .replace("@stages@", &stages)
    }

    fn demo(&self) -> String {
        let Scaffold { name, kind, .. } = self;
        let library = match self.language {
            Language::Rust => format!("./{}", self.library()),
            Language::C => self.library(),
            Language::Python => format!("{{ path: {}, python: {PYTHON} }}", self.library()),
        };
        let (what, key, source) = match kind {
            Kind::Source => ("Readings that are made up", "[machine]", name.as_str()),
            _ => ("Simulated sensors, one reading in twenty an outlier", "[sensor_id, metric_type]", "simulator"),
        };
        let head = format!(
            "# {what}. Ctrl-C stops it; the next run goes on where it was.\nname: {name}_demo\nkey: {key}\n\n\
             plugins:\n  - {library}\n\nsources:\n  readings: {{ type: {source} }}\n\n"
        );
        let stages = match kind {
            Kind::Detector => format!("detectors:\n  jumps: {{ type: {name}, inputs: [readings], value: value }}\n\n"),
            Kind::Transform => format!(
                "transforms:\n  converted: {{ type: {name}, inputs: [readings], column: value, factor: 1.8, offset: 32 }}\n\n\
                 detectors:\n  jumps: {{ type: zscore, inputs: [converted], value: value }}\n\n"
            ),
            _ => "detectors:\n  jumps: { type: zscore, inputs: [readings], value: value }\n\n".into(),
        };
        let archive = match kind {
            Kind::Sink => {
                format!("  archive: {{ type: {name}, inputs: [jumps], when: is_anomaly, path: anomalies }}\n")
            }
            _ => String::new(),
        };
        format!("{head}{stages}sinks:\n  screen: {{ type: console, inputs: [jumps], when: is_anomaly }}\n{archive}")
    }

    /// A template with the stage's name in the place of `heartbeat`.
    fn named(&self, template: &str) -> String {
        let upper_first = |word: &str| match word.split_at_checked(1) {
            Some((first, rest)) => first.to_uppercase() + rest,
            None => String::new(),
        };
        let in_camel_case: String = self.name.split('_').map(upper_first).collect();
        template
            .replace("HEARTBEAT", &self.name.to_uppercase())
            .replace("Heartbeat", &in_camel_case)
            .replace("heartbeat", &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Scaffold> {
        let of = |language, kinds: &[Kind]| {
            kinds.iter().map(|kind| Scaffold::new("night_shift", *kind, language)).collect::<Vec<_>>()
        };
        let kinds = [Kind::Transform, Kind::Detector, Kind::Source, Kind::Sink];
        [of(Language::Rust, &kinds), of(Language::C, &kinds), of(Language::Python, &kinds)]
            .into_iter()
            .flatten()
            .collect()
    }

    #[test]
    fn no_trace_of_the_template_is_left() {
        for scaffold in all() {
            for (path, text) in scaffold.files().iter().filter(|(path, _)| !path.starts_with("sdk/")) {
                let is_of_the_header = path.ends_with("pipeline_plugin.h");
                let rest = text.to_lowercase();
                assert!(is_of_the_header || !(rest.contains("heartbeat") || rest.contains("@name@")), "{path}: {text}");
                assert!(!text.lines().any(|line| line.contains("@kind@") || line.contains("@commands@")), "{path}");
            }
        }
    }

    #[test]
    fn the_readme_has_the_commands() {
        for scaffold in all() {
            let readme = scaffold.readme();
            assert!(scaffold.commands().iter().all(|command| readme.contains(command)), "{readme}");
        }
    }

    #[test]
    fn types_are_in_camel_case() {
        let scaffold = Scaffold::new("night_shift_2", Kind::Detector, Language::Rust);
        assert_eq!(
            scaffold.named("HeartbeatOptions heartbeat HEARTBEAT"),
            "NightShift2Options night_shift_2 NIGHT_SHIFT_2"
        );
    }
}
