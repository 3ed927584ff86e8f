//! `pipeline plugin new`: a folder with a small stage that works, its tests, and what it is built against.

mod scaffold;
mod sdk;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pipeline_stage::{Kind, Registry, Result, StageError};

use crate::{FAILED, WRONG, complain, print};
use scaffold::Scaffold;

/// Write a folder with a small plugin that works
///
/// It has a stage, tests that pass, a README with the commands, a pipeline that runs it, and everything it is built
/// against: no other file of `pipeline` is needed.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The name of the stage and of the folder: a–z, 0–9 and _
    #[arg(value_name = "NAME")]
    name: String,
    /// What it does
    #[arg(long, value_enum)]
    kind: NewKind,
    /// What it is written in
    #[arg(long, value_enum)]
    language: Language,
}

/// The kinds there are scaffolds of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NewKind {
    /// Gives rows
    Source,
    /// Turns rows into rows
    Transform,
    /// Scores the readings of a series
    Detector,
    /// Takes rows
    Sink,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Needs cargo
    Rust,
    /// Needs a C compiler and make
    C,
    /// Needs Python 3.9 or newer
    Python,
}

impl Language {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Python => "Python",
        }
    }
}

impl From<NewKind> for Kind {
    fn from(kind: NewKind) -> Kind {
        match kind {
            NewKind::Source => Kind::Source,
            NewKind::Transform => Kind::Transform,
            NewKind::Detector => Kind::Detector,
            NewKind::Sink => Kind::Sink,
        }
    }
}

/// Runs the command.
pub fn run(args: &NewArgs, built_in: &Registry) -> ExitCode {
    let NewArgs { name, kind, language } = args;
    let kind = Kind::from(*kind);
    if let Err(error) = check_name(name, kind, built_in) {
        complain(&format!("error: {}", error.chain()));
        return ExitCode::from(WRONG);
    }
    let scaffold = Scaffold::new(name, kind, *language);
    if let Err(error) = write(Path::new(name), &scaffold) {
        complain(&format!("error: {}", error.chain()));
        return ExitCode::from(FAILED);
    }
    print(&format!("made {name}/ ({} {}, tests pass)\n  cd {name}", language.name(), kind.name()));
    scaffold.commands().iter().for_each(|command| print(&format!("  {command}")));
    ExitCode::SUCCESS
}

/// Words that cannot be the name of a crate, or would be taken for something else in the code.
const RESERVED: [&str; 89] = [
    "and",
    "assert",
    "class",
    "def",
    "del",
    "elif",
    "except",
    "finally",
    "from",
    "global",
    "import",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "abstract",
    "alloc",
    "as",
    "async",
    "auto",
    "await",
    "become",
    "box",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "core",
    "crate",
    "default",
    "do",
    "double",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "float",
    "fn",
    "for",
    "format",
    "gen",
    "goto",
    "if",
    "impl",
    "in",
    "int",
    "let",
    "long",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "pipeline_abi",
    "pipeline_stage",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "sdk",
    "short",
    "sink",
    "source",
    "stage",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "transform",
    "detector",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "use",
    "void",
    "while",
];

fn check_name(name: &str, kind: Kind, built_in: &Registry) -> Result<()> {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_plain || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('_') {
        let message =
            format!("`{name}` is no name for a stage: it is made of a–z, 0–9 and _, and begins with a letter");
        return Err(StageError::config(message));
    }
    if RESERVED.contains(&name) {
        return Err(StageError::config(format!(
            "`{name}` is a word that Rust, C or Python has a meaning for, choose another one"
        )));
    }
    match built_in.find(kind, name) {
        Some(_) => {
            Err(StageError::config(format!("there is a built-in {} `{name}`, choose another name", kind.name())))
        }
        None => Ok(()),
    }
}

fn write(folder: &Path, scaffold: &Scaffold) -> Result<()> {
    let failed = |path: &Path, error: std::io::Error| {
        let message = match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!("there is a `{}` already", path.display()),
            _ => format!("`{}` cannot be written: {error}", path.display()),
        };
        StageError::config(message)
    };
    std::fs::create_dir(folder).map_err(|error| failed(folder, error))?;
    for (path, text) in scaffold.files() {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused_in_words() {
        let built_in = crate::registry::slim();
        for (name, words) in [
            ("Heartbeat", "is no name for a stage"),
            ("../x", "is no name for a stage"),
            ("9lives", "is no name for a stage"),
            ("", "is no name for a stage"),
            ("core", "is a word that Rust, C or Python has a meaning for"),
            ("zscore", "there is a built-in detector `zscore`"),
        ] {
            let error = check_name(name, Kind::Detector, &built_in).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
        check_name("zscore", Kind::Transform, &built_in).unwrap();
        check_name("heart_beat_2", Kind::Detector, &built_in).unwrap();
    }
}
