//! A consumer group as its coordinator sees it: what `kafka-consumer-groups --describe` shows.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupMemberInfo;
use rdkafka::{Offset, TopicPartitionList};

use super::ANSWERS_WITHIN;
use crate::waiting::POLL_EVERY;

/// A group at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `Stable`, or what it is doing: while partitions move, members are shown without any.
    pub state: String,
    /// By the `client.id` of each member, the partitions it has of one topic, rising.
    pub members: BTreeMap<String, Vec<i32>>,
}

/// Asks the coordinator for a group, and shows its partitions of one topic.
pub(super) fn describe(client: &ClientConfig, group: &str, topic: &str) -> Group {
    let consumer: BaseConsumer = client.create().expect("the settings are valid");
    let start = Instant::now();
    let found = loop {
        match consumer.client().fetch_group_list(Some(group), ANSWERS_WITHIN) {
            Ok(found) => break found,
            // A broker that has just been asked for its first group has to make a topic for them.
            Err(KafkaError::GroupListFetch(
                RDKafkaErrorCode::CoordinatorLoadInProgress | RDKafkaErrorCode::CoordinatorNotAvailable,
            )) if start.elapsed() < ANSWERS_WITHIN => std::thread::sleep(POLL_EVERY),
            Err(error) => panic!("cannot describe group `{group}`: {error}"),
        }
    };
    let Some(found) = found.groups().first() else { return Group { state: "Dead".into(), members: BTreeMap::new() } };
    let members = found.members().iter().map(|member| (member.client_id().to_owned(), partitions(member, topic)));
    Group { state: found.state().to_owned(), members: members.collect() }
}

fn partitions(member: &GroupMemberInfo, topic: &str) -> Vec<i32> {
    let mut partitions = member.assignment().and_then(|bytes| of_topic(bytes, topic)).unwrap_or_default();
    partitions.sort_unstable();
    partitions
}

/// Reads Kafka's `ConsumerProtocolAssignment`: version, then for each topic its name and its partitions.
fn of_topic(mut bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    let _version = take::<2>(&mut bytes)?;
    let n_topics = i32::from_be_bytes(take(&mut bytes)?);
    for _ in 0..n_topics {
        let length = usize::try_from(i16::from_be_bytes(take(&mut bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let n_partitions = i32::from_be_bytes(take(&mut bytes)?);
        let partitions = (0..n_partitions).map(|_| Some(i32::from_be_bytes(take(&mut bytes)?)));
        let partitions: Option<Vec<i32>> = partitions.collect();
        if name == topic.as_bytes() {
            return partitions;
        }
    }
    None
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// The offsets that a group has committed, by partition; those without one are left out.
pub(super) fn committed(client: &mut ClientConfig, group: &str, topic: &str, n_partitions: i32) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = client.set("group.id", group).create().expect("the settings are valid");
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, n_partitions - 1);
    let found = consumer.committed_offsets(asked, ANSWERS_WITHIN);
    let found = found.unwrap_or_else(|error| panic!("cannot read the offsets of group `{group}`: {error}"));
    let offsets = found.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    offsets.collect()
}
