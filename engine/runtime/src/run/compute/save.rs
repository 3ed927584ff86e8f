//! The state of a task's stages, written part by part for a checkpoint.

use std::sync::Arc;

use pipeline_stage::{Result, StateWriter, Transform};

use super::Compute;
use crate::bugs::{Bug, is_there};
use crate::store::StageChanges;

/// What of a stage is still to be saved.
pub(super) enum ToSave {
    /// Written when the save began, by a stage that writes all at once.
    Whole(Result<StageChanges>),
    /// The stage has more.
    Parts,
    /// The stage was not asked yet.
    Late,
}

/// How many keys a stage writes at once, which holds up the rows for some milliseconds. The simulation has few keys, and
/// wants more than one part.
const KEYS_IN_PART: usize = if cfg!(feature = "deliberate-bugs") { 1 } else { 4_096 };

impl Compute {
    /// Begins to save what has changed in each stage's state since the last save, as it is here: `save_part` gives it.
    pub fn begin_save(&mut self) {
        for stage in &mut self.stages {
            if is_there(Bug::LateSave) {
                stage.to_save = stage.transform.as_ref().map(|_| ToSave::Late);
                continue;
            }
            stage.to_save = stage.transform.as_mut().map(|transform| match transform.begin_save() {
                true => ToSave::Parts,
                false => ToSave::Whole(save_whole(&stage.id, transform)),
            });
        }
    }

    /// The next part of what is to be saved; none when there is no more.
    pub fn save_part(&mut self) -> Result<Option<StageChanges>> {
        for stage in &mut self.stages {
            let Some(transform) = stage.transform.as_mut() else { continue };
            match stage.to_save.take() {
                None => continue,
                Some(ToSave::Whole(changes)) => return changes.map(Some),
                Some(ToSave::Late) if !transform.begin_save() => return save_whole(&stage.id, transform).map(Some),
                Some(ToSave::Parts | ToSave::Late) => {
                    let mut changes = Changes::of(&stage.id);
                    let saved = transform.save_part(KEYS_IN_PART, &mut changes);
                    if !saved.map_err(|error| error.named(&stage.id))? {
                        stage.to_save = Some(ToSave::Parts);
                    }
                    return Ok(Some(changes.0));
                }
            }
        }
        Ok(None)
    }
}

fn save_whole(id: &Arc<str>, transform: &mut Box<dyn Transform>) -> Result<StageChanges> {
    let mut changes = Changes::of(id);
    transform.save(&mut changes).map_err(|error| error.named(id))?;
    Ok(changes.0)
}

impl Changes {
    fn of(stage: &Arc<str>) -> Self {
        Changes(StageChanges { stage: stage.to_string(), ..StageChanges::default() })
    }
}

struct Changes(StageChanges);

impl StateWriter for Changes {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.changes.push((key.to_vec(), Some(value.to_vec())));
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.changes.push((key.to_vec(), None));
    }
    fn is_whole(&mut self) {
        self.0.is_whole = true;
    }
}
