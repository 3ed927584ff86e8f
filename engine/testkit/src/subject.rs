//! A transform or detector under test: how it is built, and where its state is kept.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use pipeline_stage::{Make, Result, SavedState, StageType, StateWriter, Transform};
use serde_json::Value;

use crate::broken::{Broken, guarded};
use crate::readings::stage_context;

/// A transform or detector with its options.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What is tested.
    pub stage: &'a StageType,
    /// Its options.
    pub options: &'a Value,
}

impl<'a> Subject<'a> {
    /// The same stage with other options.
    pub fn with(&self, options: &'a Value) -> Self {
        Subject { stage: self.stage, options }
    }

    /// Builds it on these columns with the state of a store; its own refusal is the inner error.
    ///
    /// # Errors
    /// When it panics, or is neither a transform nor a detector.
    pub fn try_build(&self, columns: &SchemaRef, store: &Store) -> Result<Result<Box<dyn Transform>>, Broken> {
        let StageType { name, kind, make, .. } = self.stage;
        let Make::Transform(make) = make else {
            return Err(Broken::new(format!(
                "{name} is a {}, these laws are of transforms and detectors",
                kind.name()
            )));
        };
        guarded(|| make(self.options.clone(), &stage_context(), std::slice::from_ref(columns), store.saved()))
    }

    /// Builds it where nothing speaks against it.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn build(&self, columns: &SchemaRef, store: &Store) -> Result<Box<dyn Transform>, Broken> {
        let built = self.try_build(columns, store)?;
        built.map_err(|error| Broken::new(format!("{} cannot be built: {}", self.stage.name, error.chain())))
    }
}

/// What a stage has saved: the sum of its increments. Where a save is said to be of all there is, it may drop the ones
/// before: both are right.
#[derive(Debug, Clone, Default)]
pub struct Store {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    drops: bool,
}

impl Store {
    /// Of one series.
    pub fn of(key: Vec<u8>, series: Vec<u8>) -> Self {
        Store { entries: BTreeMap::from([(key, series)]), drops: false }
    }

    /// One that is empty, and drops what is replaced.
    pub fn that_drops() -> Self {
        Store { drops: true, ..Store::default() }
    }

    /// Adds what has changed in a stage since its last save.
    ///
    /// # Errors
    /// When the stage cannot save it.
    pub fn take(&mut self, transform: &mut dyn Transform) -> Result<(), Broken> {
        let saved = guarded(|| transform.save(self))?;
        saved.map_err(|error| Broken::new(format!("cannot be saved: {}", error.chain())))
    }

    /// Adds a part, of about `keys` keys, of what a stage saves in parts. True when it was the last one.
    ///
    /// # Errors
    /// When the stage cannot save it.
    pub fn take_part(&mut self, transform: &mut dyn Transform, keys: usize) -> Result<bool, Broken> {
        let saved = guarded(|| transform.save_part(keys, self))?;
        saved.map_err(|error| Broken::new(format!("cannot be saved in parts: {}", error.chain())))
    }

    /// True when a stage without state would be built from it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// As a stage is given it when it is built.
    pub fn saved(&self) -> SavedState {
        SavedState { entries: self.entries.clone().into_iter().collect() }
    }
}

impl StateWriter for Store {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.entries.insert(key.into(), value.into());
    }
    fn delete(&mut self, key: &[u8]) {
        self.entries.remove(key);
    }
    fn is_whole(&mut self) {
        if self.drops {
            self.entries.clear();
        }
    }
}
