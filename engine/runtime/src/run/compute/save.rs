//! The state of a task's stages, written part by part for a checkpoint.

use std::sync::Arc;

use pipeline_stage::{Result, StateWriter, Transform};

use super::Compute;
use crate::bugs::{Bug, is_there};
use crate::store::{Changes, PART_BYTES, StageChanges};

/// What of a stage is still to be saved.
pub(super) enum ToSave {
    /// Written when the save began, by a stage that writes all at once.
    Whole(Result<StageChanges>),
    /// The stage has more.
    Parts,
    /// The stage was not asked yet.
    Late,
}

/// A stage is asked for a part in steps of so many keys, which holds up the rows for some milliseconds. The simulation has few
/// keys, and wants more than one part.
const PART: Steps = if cfg!(feature = "deliberate-bugs") { Steps { n: 1, keys: 1 } } else { USUAL_PART };
const USUAL_PART: Steps = Steps { n: 32, keys: 128 };

struct Steps {
    n: usize,
    keys: usize,
}

/// A part with so many bytes is enough: one more may wait meanwhile, and one is being written.
const BYTES_IN_PART: usize = PART_BYTES / 2;

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
                    let mut part = NewPart::of(&stage.id);
                    if !save_steps(transform.as_mut(), &mut part, PART).map_err(|error| error.named(&stage.id))? {
                        stage.to_save = Some(ToSave::Parts);
                    }
                    return Ok(Some(part.0));
                }
            }
        }
        Ok(None)
    }
}

fn save_whole(id: &Arc<str>, transform: &mut Box<dyn Transform>) -> Result<StageChanges> {
    let mut all = NewPart::of(id);
    transform.save(&mut all).map_err(|error| error.named(id))?;
    Ok(all.0)
}

/// Writes a part of a save. True when it was the last one.
fn save_steps(transform: &mut dyn Transform, part: &mut NewPart, steps: Steps) -> Result<bool> {
    // What grows is copied again and again, and the last step is beyond a part.
    part.0.changes = Changes::with_room(BYTES_IN_PART + BYTES_IN_PART / 4);
    for _ in 0..steps.n {
        if transform.save_part(steps.keys, part)? {
            return Ok(true);
        }
        if BYTES_IN_PART <= part.0.changes.bytes() {
            break;
        }
    }
    Ok(false)
}

/// What a stage is writing.
struct NewPart(StageChanges);

impl NewPart {
    fn of(stage: &Arc<str>) -> Self {
        NewPart(StageChanges { stage: stage.to_string(), ..StageChanges::default() })
    }
}

impl StateWriter for NewPart {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.changes.push(key, Some(value));
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.changes.push(key, None);
    }
    fn is_whole(&mut self) {
        self.0.is_whole = true;
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::{Schema, SchemaRef};
    use pipeline_stage::{Output, StageError};

    use super::*;

    /// Some keys with values of one size; those that were written early give nothing when their turn comes.
    #[derive(Default)]
    struct Series {
        keys: usize,
        size: usize,
        n_early: usize,
        asked: Vec<usize>,
        breaks_at: Option<usize>,
    }

    impl Transform for Series {
        fn schema(&self) -> SchemaRef {
            Arc::new(Schema::empty())
        }
        fn process(&mut self, _: usize, _: &RecordBatch, _: &mut Output) -> Result<()> {
            Ok(())
        }
        fn save_part(&mut self, keys: usize, changes: &mut dyn StateWriter) -> Result<bool> {
            if self.asked.is_empty() {
                changes.is_whole();
                changes.delete(b"gone");
            }
            if self.breaks_at == Some(self.asked.len()) {
                return Err(StageError::fatal("broken"));
            }
            self.asked.push(keys);
            for _ in 0..keys.min(self.keys) {
                self.keys -= 1;
                if self.keys < self.n_early {
                    continue;
                }
                changes.put(&self.keys.to_le_bytes(), &vec![7; self.size]);
            }
            Ok(self.keys == 0)
        }
    }

    fn parts(series: &mut Series) -> Result<Vec<StageChanges>> {
        let mut parts = Vec::new();
        loop {
            let mut part = NewPart::of(&"spikes".into());
            let is_last = save_steps(series, &mut part, USUAL_PART)?;
            parts.push(part.0);
            if is_last {
                return Ok(parts);
            }
        }
    }

    #[test]
    fn a_part_has_several_steps_and_some_bytes() {
        let mut series = Series { keys: 10_000, size: 300, ..Series::default() };
        let parts = parts(&mut series).expect("parts");
        assert_eq!(parts.iter().map(|part| part.changes.len()).sum::<usize>(), 10_001);
        let (last, full) = parts.split_last().expect("parts");
        let most = BYTES_IN_PART + USUAL_PART.keys * 308;
        assert!(5 <= full.len() && last.changes.bytes() < most, "{}", full.len());
        assert!(full.iter().all(|part| (BYTES_IN_PART..most).contains(&part.changes.bytes())));
        assert_eq!(
            parts.iter().map(|part| part.is_whole).collect::<Vec<_>>(),
            [&[true][..], &vec![false; full.len()]].concat()
        );
        assert_eq!(parts[0].changes.iter().next(), Some((&b"gone"[..], None)), "before all puts");
    }

    #[test]
    fn a_part_looks_at_some_keys_only_also_when_they_give_nothing() {
        let mut series = Series { keys: 10_000, size: 300, n_early: 10_000, ..Series::default() };
        assert_eq!(parts(&mut series).expect("parts").len(), 10_000_usize.div_ceil(USUAL_PART.n * USUAL_PART.keys));
        assert!(series.asked.iter().all(|keys| *keys == USUAL_PART.keys));
    }

    #[test]
    fn a_part_that_breaks_off_is_none() {
        let mut series = Series { keys: 10_000, size: 1, breaks_at: Some(1), ..Series::default() };
        assert_eq!(parts(&mut series).expect_err("the second step").to_string(), "broken");
    }
}
