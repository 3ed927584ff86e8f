//! Gathers what is wrong while a plan is made, each with its place in the file.

use std::ops::Range;

use pipeline_stage::{Kind, Registry, StageError};
use serde_json::{Map, Value};

use super::options::{Checker, Problem, ProblemKind, of_serde};
use super::secrets::has_password;
use crate::diagnostics::{Diagnostic, Place, did_you_mean, list};
use crate::file::{PipelineFile, Pointer};

/// The mistakes found so far.
pub(super) struct Findings<'a> {
    pub file: &'a PipelineFile,
    pub registry: &'a Registry,
    pub diagnostics: Vec<Diagnostic>,
    /// Something is wrong with stages or their edges: what seems to be missing may only be misspelled.
    pub is_doubtful: bool,
    /// Every library of the file was loaded; otherwise a type that is not known may stand in one that was not.
    pub knows_all_types: bool,
}

/// Whose options are checked: words for messages.
pub(super) struct Owner<'a> {
    /// `detector`
    pub kind: Kind,
    /// `zscore`
    pub name: &'a str,
    /// Where the owner is named: what is missing is said there.
    pub named_at: Pointer,
}

impl Findings<'_> {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds an error at a value.
    pub fn error(&mut self, pointer: &Pointer, message: impl Into<String>, label: impl Into<String>, notes: &[String]) {
        let mut diagnostic = Diagnostic::error(message).at(self.file.place(pointer), label);
        diagnostic.notes = notes.to_vec();
        self.push(self.with_variables(pointer, diagnostic));
    }

    /// Says which variable a value came from: its value does not stand in the file.
    fn with_variables(&self, pointer: &Pointer, diagnostic: Diagnostic) -> Diagnostic {
        match self.file.variables(pointer) {
            [] => diagnostic,
            names => diagnostic.note(format!("the value comes from {}", list(names.iter().map(String::as_str), "and"))),
        }
    }

    /// Checks options against a schema; gives back the mistakes, which are reported already.
    pub fn check(
        &mut self,
        options: &mut Map<String, Value>,
        schema: &Value,
        base: &Pointer,
        owner: Option<&Owner<'_>>,
        beside: &[&str],
    ) -> Vec<Problem> {
        let file = self.file;
        let pointer_of = |path: &[String]| base.join_all(path.iter().map(String::as_str));
        let text_of = |path: &[String]| file.text_of(&pointer_of(path)).map(str::to_owned);
        let is_unknown = |path: &[String]| file.is_unknown(&pointer_of(path));
        let problems = Checker::new(schema, &text_of, &is_unknown, beside).check(options);
        for problem in &problems {
            self.option(problem, base, owner);
        }
        problems
    }

    fn option(&mut self, problem: &Problem, base: &Pointer, owner: Option<&Owner<'_>>) {
        let pointer = base.join_all(problem.path.iter().map(String::as_str));
        let diagnostic = match &problem.kind {
            ProblemKind::Unknown { known, meant } => {
                let at = self.file.key_place(&pointer);
                unknown(&problem.path, known, owner).at(at, did_you_mean(meant.as_deref()))
            }
            ProblemKind::Missing { wanted, about } => {
                let missing = self.missing(&problem.path, &pointer, owner, wanted);
                if about.is_empty() { missing } else { missing.note(format!("`{}`: {about}", pointer.last())) }
            }
            ProblemKind::Wrong { message, meant } => {
                self.error(&pointer, message, did_you_mean(meant.as_deref()), &[]);
                return;
            }
        };
        // Parts of options belong to the engine as often as to the stage.
        let explained = owner.filter(|_| problem.path.len() == 1);
        let what = if matches!(problem.kind, ProblemKind::Unknown { .. }) { "them" } else { "it" };
        self.push(match explained {
            Some(owner) => {
                diagnostic.note(format!("`pipeline stages {}.{}` explains {what}", owner.kind.name(), owner.name))
            }
            None => diagnostic,
        });
    }

    fn missing(&self, path: &[String], pointer: &Pointer, owner: Option<&Owner<'_>>, wanted: &str) -> Diagnostic {
        let is_written = self.file.rank(pointer).is_some();
        let (at, label) = match (owner, path.len()) {
            // The key is there, with nothing behind it.
            _ if is_written => (self.file.key_place(pointer), String::new()),
            (Some(owner), 1) => {
                (self.file.place(&owner.named_at), format!("{} `{}` needs it", owner.kind.name(), owner.name))
            }
            (None, 1) => (self.file.key_place(&Pointer::default()), String::new()),
            _ => (self.file.key_place(&pointer.parent().unwrap_or_default()), String::new()),
        };
        let name = path.join(".");
        // What follows the semicolon is for a value that is there.
        let message = match wanted.split("; ").next().unwrap_or_default() {
            "" => format!("`{name}` is missing"),
            wanted => format!("`{name}` is missing, it must be {wanted}"),
        };
        Diagnostic::error(message).at(at, label)
    }

    /// Adds what a stage says of its options.
    pub fn stage_error(&mut self, error: &StageError, base: &Pointer, named_at: &Pointer) {
        let message = of_serde(&error.chain(), error.option());
        // `message; what would help` reads better on two lines.
        let (message, help) = match message.split_once("; ") {
            Some((message, help)) => (message.to_owned(), vec![help.to_owned()]),
            None => (message, Vec::new()),
        };
        let pointer = error.option().map(|option| base.join_all(option_path(option)));
        match pointer.filter(|pointer| self.file.rank(pointer).is_some()) {
            Some(pointer) => self.error(&pointer, message, "", &help),
            None => self.error(named_at, message, "", &help),
        }
    }

    /// The place of a part of a text value.
    pub fn inside(&self, pointer: &Pointer, part: Range<usize>) -> Place {
        self.file.place_inside(pointer, part)
    }
}

fn unknown(path: &[String], known: &[String], owner: Option<&Owner<'_>>) -> Diagnostic {
    let (name, around) = path.split_last().map(|(name, around)| (name.as_str(), around)).unwrap_or_default();
    // A blank before the colon makes a key of all of `url :"postgres://…"`.
    let name = if has_password(name) { "***" } else { name };
    // `0` says nothing without the name of its list.
    let name_at = around.iter().rposition(|part| !part.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or(0);
    let inside = around[name_at..].join(".");
    let message = match (owner, around.last().map(|_| inside)) {
        (_, Some(around)) => format!("unknown option `{name}` in `{around}`"),
        (Some(owner), None) => format!("unknown option `{name}` of {} `{}`", owner.kind.name(), owner.name),
        (None, None) => format!("unknown key `{name}`"),
    };
    let what = if owner.is_none() && around.is_empty() { "keys" } else { "options" };
    Diagnostic::error(message).note(match known {
        [] => "it has no options".into(),
        known => format!("{what} are: {}", known.join(", ")),
    })
}

/// The parts of an option's path, as stages (`columns.2`) and as serde (`columns[2].name`) write it.
pub(super) fn option_path(option: &str) -> impl Iterator<Item = &str> {
    option.split(['.', '[', ']']).filter(|part| !part.is_empty())
}
