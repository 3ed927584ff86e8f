//! A name for the process that outlives it: by it a source's other side knows the next process for the same one.
//!
//! A state folder has one user at a time, so whoever uses it may use its name. Of the processes that share a state in
//! PostgreSQL each needs a name of its own, which only the user can give.

use std::hash::{BuildHasher, RandomState};

use pipeline_stage::Result;

use super::Run;
use super::retry::until_store_works;
use crate::store::is_postgres;

/// The setting of the state that holds the name.
const SETTING: &str = "instance";

impl Run {
    /// The name of whoever uses the state, made when a source first asks for it. None: no source does, or the state is
    /// shared.
    pub(super) async fn instance(&self) -> Result<Option<String>> {
        let is_asked_for = (0..self.plan.stages.len()).any(|stage| self.plan.unnamed_process(stage).is_some());
        if !is_asked_for || is_postgres(&self.plan.settings.state) {
            return Ok(None);
        }
        if let Some(name) = until_store_works(|| self.store.setting(SETTING)).await? {
            return Ok(Some(name));
        }
        // The standard library's hasher is seeded by the system's randomness.
        let name = format!("{}-{:016x}", self.plan.settings.name, RandomState::new().hash_one(SETTING));
        until_store_works(|| self.store.set_setting(SETTING, &name)).await?;
        Ok(Some(name))
    }
}
