//! Marks, kept as the metadata of an offset that is committed in the same transaction as the rows.
//!
//! Each task has a group of its own, `PIPELINE.SINK.TASK.marks`, with one offset (the epoch) for partition 0 of the
//! sink's topic. It stands or falls with the transaction, and a broker knows nothing of it but the text.

use std::time::Instant;

use pipeline_stage::{Claim, Mark, Owner, Result, StageError};
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::connection::setting_error;
use crate::consumer::{ConsumerNotes, KafkaConsumer, serve_callbacks};
use crate::health::CALL_TIMEOUT;
use crate::sinks::producer::ProducerSettings;

/// Brokers take 4,096 bytes of metadata by default (`offset.metadata.max.bytes`).
const MAX_BYTES: usize = 4_096;

/// The group of a task's mark.
pub(crate) fn group(owner: &Owner) -> String {
    format!("{}.{}.{}.marks", owner.pipeline, owner.sink, owner.task)
}

/// A mark as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMark {
    #[serde(flatten)]
    pub(crate) mark: Mark,
    /// A claim has written it and no epoch was committed yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_new: bool,
}

impl StoredMark {
    /// What the metadata says. Positions are for people: when there is no room for them they are cut.
    fn to_text(&self) -> Result<String> {
        let mut stored = self.clone();
        loop {
            let text = serde_json::to_string(&stored);
            let text = text.map_err(|error| StageError::fatal("a mark cannot be written").because(error))?;
            if text.len() <= MAX_BYTES {
                return Ok(text);
            }
            let positions = &mut stored.mark.positions;
            if positions.is_empty() {
                return Err(StageError::fatal(format!(
                    "the mark of task `{}` takes {} bytes without positions, Kafka takes at most {MAX_BYTES}; use \
                     shorter names",
                    stored.mark.task,
                    text.len()
                )));
            }
            positions.truncate(positions.floor_char_boundary(positions.len() / 2));
        }
    }

    /// The offset to commit with the transaction.
    pub(crate) fn to_offsets(&self, topic: &str) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        let epoch = i64::try_from(self.mark.epoch).unwrap_or(i64::MAX);
        let mut element = list.add_partition(topic, 0);
        let set = element.set_offset(Offset::Offset(epoch));
        set.map_err(|error| StageError::fatal("an offset cannot be set").because(error))?;
        element.set_metadata(self.to_text()?);
        Ok(list)
    }
}

/// Whether marks of transactions that are not complete yet are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    /// What is committed now; an owner that died leaves a transaction open for a minute.
    Ignored,
    /// Until they are complete; to be used once nobody else can begin one.
    Awaited,
}

/// Reads the mark of a group. Blocks for at most a few times [`CALL_TIMEOUT`].
pub(crate) fn read(
    settings: &ProducerSettings,
    group: &str,
    pending: Pending,
) -> Result<(Option<StoredMark>, ConsumerGroupMetadata)> {
    let isolation = match pending {
        Pending::Ignored => "read_uncommitted",
        Pending::Awaited => "read_committed",
    };
    let mut config = settings.consumer.clone();
    config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", isolation);
    let notes = ConsumerNotes::new(&settings.brokers, group);
    let consumer: KafkaConsumer = config.create_with_context(notes).map_err(|error| setting_error(&error))?;
    let text = fetch(&consumer, &settings.topic).map_err(|error| {
        serve_callbacks(&consumer);
        consumer.context().health.explain("the mark cannot be read", &error)
    })?;
    let metadata =
        consumer.group_metadata().ok_or_else(|| StageError::transient("the mark's group is not known yet"))?;
    let Some(text) = text else { return Ok((None, metadata)) };
    let mark = serde_json::from_str(&text).map_err(|error| {
        let words =
            format!("the offset of group `{group}` is no mark of a pipeline: somebody else has committed there");
        StageError::fatal(words).because(error)
    })?;
    Ok((Some(mark), metadata))
}

/// The metadata of the group's offset; none when there is none.
fn fetch(consumer: &KafkaConsumer, topic: &str) -> KafkaResult<Option<String>> {
    let deadline = Instant::now() + CALL_TIMEOUT;
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        let found = consumer.committed_offsets(list, CALL_TIMEOUT).and_then(|list| {
            let elements = list.elements();
            let Some(element) = elements.first() else { return Ok(None) };
            element.error()?;
            let is_there = matches!(element.offset(), Offset::Offset(_));
            Ok(is_there.then(|| element.metadata().to_owned()))
        });
        match found {
            Err(error) if may_change(error.rdkafka_error_code()) && Instant::now() < deadline => {
                // Serves librdkafka's events, and keeps the retries apart.
                consumer.poll(RETRY_PAUSE);
            }
            found => return found,
        }
    }
}

/// The pause between two looks at a mark that is not complete yet.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

fn may_change(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(
            RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
        )
    )
}

/// What a claim answers to a mark; none when the mark belongs to another state and must be left alone.
pub(crate) fn claim_of(owner: &Owner, stored: Option<&StoredMark>) -> Result<(Claim, Option<StoredMark>)> {
    let Some(stored) = stored else {
        let mark = Mark {
            pipeline: owner.pipeline.clone(),
            sink: owner.sink.clone(),
            task: owner.task.clone(),
            state_id: owner.state_id.clone(),
            generation: owner.generation,
            epoch: 0,
            positions: "{}".into(),
            detail: None,
        };
        return Ok((Claim::New, Some(StoredMark { mark, is_new: true })));
    };
    let is_mine = stored.mark.state_id == owner.state_id;
    if is_mine && owner.generation < stored.mark.generation {
        return Err(StageError::lost(format!(
            "task `{}` has a later owner, generation {}",
            owner.task, stored.mark.generation
        )));
    }
    let claim = if stored.is_new { Claim::New } else { Claim::At(stored.mark.clone()) };
    // Nothing was written under the other state, so nothing can be lost.
    let may_write = is_mine || owner.takes_over || stored.is_new;
    let raised = may_write.then(|| {
        let mut raised = stored.clone();
        raised.mark.state_id.clone_from(&owner.state_id);
        raised.mark.generation = owner.generation;
        raised
    });
    Ok((claim, raised))
}

#[cfg(test)]
mod tests {
    use pipeline_stage::ErrorKind;

    use super::*;

    fn owner(state_id: &str, generation: u64, takes_over: bool) -> Owner {
        Owner {
            pipeline: "iot".into(),
            sink: "out".into(),
            task: "readings/3".into(),
            state_id: state_id.into(),
            generation,
            stored: None,
            takes_over,
        }
    }

    fn stored(state_id: &str, generation: u64, epoch: u64, is_new: bool) -> StoredMark {
        let (_, stored) = claim_of(&owner(state_id, generation, false), None).expect("new");
        let mut stored = StoredMark { is_new, ..stored.expect("a mark") };
        stored.mark.epoch = epoch;
        stored
    }

    #[test]
    fn a_claim_raises_the_generation_and_keeps_the_epoch() {
        let before = stored("s", 2, 7, false);
        let (claim, raised) = claim_of(&owner("s", 5, false), Some(&before)).unwrap();
        assert_eq!(claim, Claim::At(before.mark.clone()));
        assert_eq!(raised, Some(stored("s", 5, 7, false)));
    }

    #[test]
    fn a_later_owner_wins() {
        let error = claim_of(&owner("s", 2, true), Some(&stored("s", 3, 7, false))).expect_err("a later owner");
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert_eq!(error.to_string(), "task `readings/3` has a later owner, generation 3");
    }

    #[test]
    fn the_mark_of_another_state_is_left_alone_unless_it_is_taken_over() {
        let foreign = stored("other", 9, 7, false);
        let (claim, raised) = claim_of(&owner("s", 1, false), Some(&foreign)).unwrap();
        assert_eq!((claim, raised), (Claim::At(foreign.mark.clone()), None));
        let (claim, raised) = claim_of(&owner("s", 1, true), Some(&foreign)).unwrap();
        assert_eq!((claim, raised), (Claim::At(foreign.mark), Some(stored("s", 1, 7, false))));
    }

    #[test]
    fn a_claim_without_an_epoch_is_still_new() {
        let (claim, raised) = claim_of(&owner("s", 2, false), Some(&stored("s", 1, 0, true))).unwrap();
        assert_eq!((claim, raised), (Claim::New, Some(stored("s", 2, 0, true))));
    }

    #[test]
    fn positions_are_cut_to_what_a_broker_takes() {
        let mut long = stored("s", 1, 1, false);
        long.mark.positions = "é\"".repeat(3_000);
        let text = long.to_text().unwrap();
        assert!(text.len() <= MAX_BYTES);
        let read: StoredMark = serde_json::from_str(&text).unwrap();
        assert!(long.mark.positions.starts_with(&read.mark.positions) && !read.mark.positions.is_empty());
        assert_eq!(read.mark.epoch, 1);
    }
}
