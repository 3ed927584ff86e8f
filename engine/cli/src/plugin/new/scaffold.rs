//! The files of a scaffold. Templates are real code of a stage called `heartbeat`, whose name is replaced.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

use pipeline_stage::Kind;

use super::{Language, sdk};

const RUST_DETECTOR: &str = include_str!("rust/detector.rs");
const RUST_TRANSFORM: &str = include_str!("rust/transform.rs");
const RUST_MANIFEST: &str = include_str!("rust/Cargo.toml.txt");
const C_DETECTOR: &str = include_str!("c/detector.c");
const C_TRANSFORM: &str = include_str!("c/transform.c");
const C_TEST_DETECTOR: &str = include_str!("c/test_detector.c");
const C_TEST_TRANSFORM: &str = include_str!("c/test_transform.c");
const C_MAKEFILE: &str = include_str!("c/Makefile.txt");
const README: &str = include_str!("README.md.txt");

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
        let build = match self.language {
            Language::Rust => ["cargo test", "cargo build --release"],
            Language::C => ["make test", "make"],
        };
        let kit = ["check", "test", "bench"].map(|command| format!("pipeline plugin {command} {library}"));
        let build = build.into_iter().map(String::from);
        build.chain(kit).chain(["pipeline run demo.yaml".into()]).collect()
    }

    /// Paths below the folder, and texts.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = match self.language {
            Language::Rust => self.rust(),
            Language::C => self.c(),
        };
        files.push(("README.md".into(), self.readme()));
        files.push(("demo.yaml".into(), self.demo()));
        files
    }

    fn rust(&self) -> Vec<(String, String)> {
        let code = if self.kind == Kind::Detector { RUST_DETECTOR } else { RUST_TRANSFORM };
        let arrow = ["arrow-array", "arrow-schema"].map(sdk::dependency);
        let arrow = if self.kind == Kind::Detector { String::new() } else { arrow.join("\n") + "\n" };
        let dependencies = format!(
            "pipeline-abi = {{ path = \"sdk/pipeline-abi\" }}\npipeline-stage = {{ path = \"sdk/pipeline-stage\" }}\n{arrow}{}\n{}",
            sdk::dependency("schemars"),
            sdk::dependency("serde")
        );
        let manifest = self.named(RUST_MANIFEST).replace("@dependencies@", &dependencies);
        let mut files = vec![
            ("Cargo.toml".into(), manifest),
            ("Cargo.lock".into(), sdk::LOCK.into()),
            ("src/lib.rs".into(), self.named(code)),
            (".gitignore".into(), "/target\n/.pipeline\n".into()),
        ];
        files.extend(sdk::CRATES.iter().map(|(path, text)| (format!("sdk/{path}"), (*text).into())));
        files
    }

    fn c(&self) -> Vec<(String, String)> {
        let (code, test) = match self.kind {
            Kind::Detector => (C_DETECTOR, C_TEST_DETECTOR),
            _ => (C_TRANSFORM, C_TEST_TRANSFORM),
        };
        let name = &self.name;
        vec![
            (format!("{name}.c"), self.named(code)),
            (format!("test_{name}.c"), self.named(test)),
            ("pipeline_plugin.h".into(), pipeline_abi::HEADER.into()),
            ("Makefile".into(), self.named(C_MAKEFILE).replace(&format!("lib{name}.so"), &self.file_name())),
            (".gitignore".into(), format!("/{}\n/test_{name}\n/.pipeline\n", self.file_name())),
        ]
    }

    fn file_name(&self) -> String {
        format!("{DLL_PREFIX}{}{DLL_SUFFIX}", self.name)
    }

    /// The library, from the folder on.
    fn library(&self) -> String {
        match self.language {
            Language::Rust => format!("target/release/{}", self.file_name()),
            Language::C => format!("./{}", self.file_name()),
        }
    }

    fn readme(&self) -> String {
        let code = match self.language {
            Language::Rust => "src/lib.rs".to_owned(),
            Language::C => format!("{}.c", self.name),
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
        };
        let commands = self.commands().join("\n");
        README
            .replace("@name@", &self.name)
            .replace("@language@", self.language.name())
            .replace("@kind@", self.kind.name())
            .replace("@code@", &code)
            .replace("@against@", against)
            .replace("@needs@", needs)
            .replace("@commands@", &commands)
            .replace("@library@", &self.library())
    }

    fn demo(&self) -> String {
        let Scaffold { name, kind, .. } = self;
        let head = format!(
            "# Simulated sensors, one reading in twenty an outlier. Ctrl-C stops it; the next run goes on where it was.\n\
             name: {name}_demo\nkey: [sensor_id, metric_type]\n\nplugins:\n  - {}\n\n\
             sources:\n  readings: {{ type: simulator }}\n\n",
            if self.language == Language::Rust { format!("./{}", self.library()) } else { self.library() }
        );
        let stages = match kind {
            Kind::Detector => format!("detectors:\n  jumps: {{ type: {name}, inputs: [readings], value: value }}\n\n"),
            _ => format!(
                "transforms:\n  converted: {{ type: {name}, inputs: [readings], column: value, factor: 1.8, offset: 32 }}\n\n\
                 detectors:\n  jumps: {{ type: zscore, inputs: [converted], value: value }}\n\n"
            ),
        };
        format!("{head}{stages}sinks:\n  screen: {{ type: console, inputs: [jumps], when: is_anomaly }}\n")
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
        let of = |kind| [Language::Rust, Language::C].map(|language| Scaffold::new("night_shift", kind, language));
        [Kind::Detector, Kind::Transform].into_iter().flat_map(of).collect()
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
