//! A law that a stage has broken, in words.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pipeline_stage::{Result, StageError};

/// Which law a stage has broken and where: the first difference, what was found and what it must be.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    /// In these words.
    pub fn new(words: impl Into<String>) -> Self {
        Broken(words.into())
    }

    /// The same with what it is about in front: `batching matters: …`.
    pub fn about(self, what: impl fmt::Display) -> Self {
        Broken(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As it is shown: tests unwrap.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

impl From<StageError> for Broken {
    fn from(error: StageError) -> Self {
        Broken(format!("failed: {}", error.chain()))
    }
}

/// Runs a call into a stage: a panic breaks a law, it does not end the kit.
///
/// # Errors
/// The outer one is the panic, in its words; the inner one is the stage's own.
pub fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<Result<T>, Broken> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| Broken(format!("it panicked: {}", words_of(&*panic))))
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

/// That an error says something: an empty one, or one that the boundary had to make up words for, helps nobody.
///
/// # Errors
/// When it does not.
pub fn says_why(error: &StageError) -> Result<(), Broken> {
    let words = error.chain();
    match words.trim().is_empty() || words.contains("without words") {
        true => Err(Broken(format!("it failed with an error of kind {:?} and no words", error.kind()))),
        false => Ok(()),
    }
}
