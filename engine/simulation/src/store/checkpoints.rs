//! What stands in the store's checkpoint file.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_runtime::store::{Checkpoint, StageChanges};

/// The checkpoint file.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    /// By task, with the state id it belongs to.
    pub newest: BTreeMap<String, (String, Checkpoint)>,
    /// By task, stage, epoch and part.
    pub changes: BTreeMap<(String, String, u64, u64), Arc<StageChanges>>,
}

impl Checkpoints {
    /// Writes a part.
    pub fn put(&mut self, task: &str, epoch: u64, part: u64, changes: &Arc<StageChanges>) {
        self.changes.insert((task.into(), changes.stage.clone(), epoch, part), changes.clone());
    }

    /// Gives a stage other state.
    pub fn replace(&mut self, task: &str, epoch: u64, changes: &Arc<StageChanges>) {
        self.changes.retain(|(of, stage, _, _), _| of != task || *stage != changes.stage);
        self.put(task, epoch, 0, changes);
    }

    /// Drops the parts above an epoch; all when there is none.
    pub fn drop_unpublished(&mut self, task: &str, epoch: Option<u64>) {
        self.changes.retain(|(of, _, number, _), _| of != task || Some(*number) <= epoch);
    }

    /// A stage that is not in the pipeline any more has no state.
    pub fn drop_removed_stages(&mut self, task: &str, checkpoint: &Checkpoint) {
        let is_there = |stage: &str| checkpoint.stages.iter().any(|known| known.id == stage);
        self.changes.retain(|(of, stage, number, _), _| of != task || checkpoint.epoch < *number || is_there(stage));
    }

    /// The checkpoint of this epoch has all state of these stages: what was written before it goes.
    pub fn drop_replaced(&mut self, task: &str, epoch: u64, stages: &[String]) {
        self.changes.retain(|(of, stage, number, _), _| of != task || epoch <= *number || !stages.contains(stage));
    }

    /// The state of a stage as of the newest checkpoint: of each key the last value.
    pub fn load(&self, task: &str, stage: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut state = BTreeMap::new();
        let newest = self.newest.get(task).map(|(_, checkpoint)| checkpoint.epoch);
        for ((of, name, epoch, _), part) in &self.changes {
            if of != task || name != stage || newest < Some(*epoch) {
                continue;
            }
            for (key, value) in part.changes.iter() {
                match value {
                    Some(value) => drop(state.insert(key.to_vec(), value.to_vec())),
                    None => drop(state.remove(key)),
                }
            }
        }
        state.into_iter().collect()
    }
}
