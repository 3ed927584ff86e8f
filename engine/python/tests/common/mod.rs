//! What the tests of this crate share.

#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use pipeline_python::{Interpreter, Plugin};
use pipeline_stage::{Make, Output, Result, SavedState, StageError, StageType, StateWriter, Transform};
use pipeline_testkit::{python, stage_context};
use serde_json::Value;

/// The Python that has the package.
pub fn interpreter() -> Interpreter {
    Interpreter::find(Some(python().to_str().expect("a path in UTF-8")), Path::new(""))
}

/// A plugin of this text, in a folder of its own.
pub struct Written {
    _folder: tempfile::TempDir,
    /// Its file.
    pub path: PathBuf,
}

impl Written {
    /// Writes it; what every plugin imports stands before the text, on the first line.
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("plugin.py");
        std::fs::write(&path, format!("from pipeline_plugin import *\n{text}")).expect("it can be written");
        Written { _folder: folder, path }
    }

    /// What it describes.
    pub fn load(&self) -> Result<Vec<StageType>> {
        Plugin::load(&self.path, interpreter(), None).map(|plugin| plugin.stages)
    }

    /// Its only stage.
    pub fn stage(&self) -> StageType {
        let mut stages = self.load().unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(stages.len(), 1);
        stages.remove(0)
    }
}

/// Builds a stage.
pub fn try_build(
    stage: &StageType,
    options: Value,
    rows: &RecordBatch,
    state: SavedState,
) -> Result<Box<dyn Transform>> {
    let Make::Transform(make) = &stage.make else { panic!("not a transform") };
    make(options, &stage_context(), &[rows.schema()], state)
}

/// Builds a stage that can be built.
pub fn build(stage: &StageType, options: Value, rows: &RecordBatch) -> Box<dyn Transform> {
    try_build(stage, options, rows, SavedState::default()).unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// What comes of giving it these rows.
pub fn process(transform: &mut dyn Transform, rows: &RecordBatch) -> Result<Output, StageError> {
    let mut out = Output::default();
    transform.process(0, rows, &mut out).map(|()| out)
}

/// State as a store keeps it.
#[derive(Default)]
pub struct Store(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl StateWriter for Store {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

impl Store {
    /// For the next one to be built.
    pub fn saved(self) -> SavedState {
        SavedState { entries: self.0.into_iter().collect() }
    }
}
