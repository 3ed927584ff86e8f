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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::plan::{LoadOptions, RunSettings, load_text, test_registry};
    use crate::run::SystemClock;
    use crate::store;

    const PIPELINE: &str = "
name: iot
sources:
  readings: { type: lines, topic: t, format: words, schema: { sensor_id: string, value: float } }
sinks:
  history: { type: table, inputs: readings, url: u, table: data }
";

    /// The name of a run on the state in a folder, when the file says where it is.
    async fn name_in(folder: &Path, state: &str) -> Option<String> {
        let options = LoadOptions { set: vec![format!("state={state}")], ..LoadOptions::default() };
        let plan = load_text("iot.yaml", PIPELINE, Path::new("."), &options, &test_registry());
        let (plan, _) = plan.unwrap_or_else(|report| panic!("{}", report.render(false)));
        let settings = RunSettings::default();
        let store = store::open(&folder.display().to_string(), "iot").await.unwrap();
        let run = Run::on(Arc::new(plan), settings, store, Arc::new(SystemClock)).await.unwrap();
        run.instance().await.unwrap()
    }

    #[tokio::test]
    async fn a_state_folder_keeps_its_name_and_no_other_has_it() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = name_in(one.path(), "a").await.unwrap();
        assert!(name.starts_with("iot-") && name.len() == 20, "{name}");
        assert_eq!(name_in(one.path(), "a").await, Some(name.clone()));
        assert_ne!(name_in(other.path(), "a").await, Some(name));
    }

    #[tokio::test]
    async fn who_shares_a_state_has_no_name_of_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(name_in(folder.path(), "postgres://localhost/iot").await, None);
    }
}
