//! Where reading of a partition begins.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use pipeline_stage::{Position, Result, StageError};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::consumer::{KafkaConsumer, Place, list_at, list_of};
use crate::health::{CALL_TIMEOUT, grouped};
use crate::sources::missing::{Bounds, CHOICES, missing};
use crate::sources::topic_id::{TopicFound, topic_id};
use crate::topics::partition_count;

/// Where a partition begins that has no state yet: `earliest`, `latest`, or a time (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest row there is.
    Earliest,
    /// With the next row that is written.
    Latest,
    /// With the first row written at this time or later.
    At(DateTime<Utc>),
}

impl FromStr for Start {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => DateTime::parse_from_rfc3339(text).map(|time| Start::At(time.to_utc())).map_err(|_| {
                format!("`{text}` is no start, it must be `earliest`, `latest` or a time like `2025-07-20T08:19:16Z`")
            }),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::At(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Start {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Start".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(earliest|latest|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+)$",
            "examples": ["earliest", "latest", "2025-07-20T08:19:16Z"],
        })
    }
}

/// What the user says about starts.
#[derive(Debug, Clone)]
pub(crate) struct StartRules {
    /// `start:` of the file, if it is there.
    pub(crate) start: Option<Start>,
    /// `--cold-start`.
    pub(crate) cold_start: bool,
    pub(crate) group: String,
}

/// What the brokers say of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The oldest offset there is.
    pub(crate) low: u64,
    /// Where the rows end that may be read: with `read_committed` before the oldest open transaction.
    pub(crate) high: u64,
    /// What the group has committed.
    pub(crate) committed: Option<u64>,
    /// The first offset at the time of `start:`, if that is one.
    pub(crate) at_time: Option<u64>,
    /// The group has committed an offset in another partition of the topic.
    pub(crate) is_known_topic: bool,
    /// The topic's id, if the broker gives ids.
    pub(crate) topic_id: Option<String>,
}

impl Found {
    fn bounds(&self) -> Bounds<'_> {
        Bounds { low: self.low, high: self.high, topic_id: self.topic_id.as_deref() }
    }
}

/// Asks the brokers. Blocks for at most a few times [`CALL_TIMEOUT`].
///
/// # Errors
/// `Config` when there is no such partition, `Transient` when the brokers do not answer.
pub(crate) fn look(consumer: &KafkaConsumer, place: &Place, rules: &StartRules) -> Result<Found> {
    let n_partitions = partition_count(consumer, &place.topic, CALL_TIMEOUT)?;
    if n_partitions <= usize::try_from(place.partition).unwrap_or(usize::MAX) {
        return Err(StageError::config(format!(
            "`{}` has no partition {}: it has {n_partitions}, the source it follows has more",
            place.topic, place.partition
        )));
    }
    let found = ask(consumer, place, rules, n_partitions);
    let found =
        found.map_err(|error| consumer.context().health.explain(&format!("{place} cannot be looked up"), &error))?;
    let topic_id = match topic_id(consumer, &place.topic, CALL_TIMEOUT) {
        Some(TopicFound::Id(id)) => Some(id),
        _ => None,
    };
    Ok(Found { topic_id, ..found })
}

fn ask(consumer: &KafkaConsumer, place: &Place, rules: &StartRules, n_partitions: usize) -> KafkaResult<Found> {
    let (low, high) = consumer.fetch_watermarks(&place.topic, place.partition, CALL_TIMEOUT)?;
    let siblings = (0..n_partitions).filter_map(|partition| i32::try_from(partition).ok());
    let siblings: Vec<Place> = siblings.map(|partition| Place { topic: place.topic.clone(), partition }).collect();
    let offsets = consumer.committed_offsets(list_of(&siblings), CALL_TIMEOUT)?;
    let committed = offsets.find_partition(&place.topic, place.partition).and_then(|found| absolute(found.offset()));
    let is_known_topic = offsets.elements().iter().any(|element| absolute(element.offset()).is_some());
    let at_time = match rules.start {
        Some(Start::At(time)) => {
            let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
            let found = consumer.offsets_for_times(list_at(place, millis)?, CALL_TIMEOUT)?;
            found.find_partition(&place.topic, place.partition).and_then(|found| absolute(found.offset()))
        }
        _ => None,
    };
    let at_least_0 = |offset: i64| u64::try_from(offset).unwrap_or(0);
    Ok(Found { low: at_least_0(low), high: at_least_0(high), committed, at_time, is_known_topic, topic_id: None })
}

/// A real offset, not one of librdkafka's codes.
fn absolute(offset: Offset) -> Option<u64> {
    match offset {
        Offset::Offset(offset) => u64::try_from(offset).ok(),
        _ => None,
    }
}

/// The offset to begin at: that of the state, else by the rules.
///
/// # Errors
/// `Fatal`, with the choices there are, when the rows to go on with are not there, or the state is missing.
pub(crate) fn resolve(place: &Place, from: Option<&Position>, rules: &StartRules, found: &Found) -> Result<u64> {
    match (from, found.committed) {
        (Some(from), _) => match missing(place, from, found.bounds()) {
            None => Ok(from.offset),
            Some(words) if rules.cold_start => {
                tracing::warn!("{words}; going on with what is there");
                Ok(if from.offset < found.low { found.low } else { fresh(place, rules, found) })
            }
            Some(words) => Err(StageError::fatal(format!("{words}; {CHOICES}"))),
        },
        (None, Some(committed)) if !rules.cold_start => Err(StageError::fatal(format!(
            "{place} was read up to offset {} by group `{}`, but there is no state for it here: another machine has it, \
             or it was lost; `--cold-start` begins with empty windows at that offset, and an earlier `start` goes \
             further back",
            grouped(committed),
            rules.group
        ))),
        (None, Some(committed)) => Ok(cold(place, committed, rules, found)),
        (None, None) => Ok(fresh(place, rules, found)),
    }
}

/// `--cold-start`: at the committed offset, or at `start` if the file names one that is earlier. Rows are not skipped.
fn cold(place: &Place, committed: u64, rules: &StartRules, found: &Found) -> u64 {
    if committed < found.low {
        let (from, to) = (grouped(committed), grouped(found.low));
        tracing::error!(%place, "rows {from} to {to} were deleted before they were read; beginning behind them");
        return found.low;
    }
    if found.high < committed {
        let (committed, high) = (grouped(committed), grouped(found.high));
        tracing::warn!(%place, "offset {committed} was committed, but the partition ends at {high}: it was made anew");
        return fresh(place, rules, found);
    }
    match rules.start {
        Some(_) => committed.min(fresh(place, rules, found)),
        None => committed,
    }
}

/// A partition that was never read.
fn fresh(place: &Place, rules: &StartRules, found: &Found) -> u64 {
    match rules.start {
        // A partition that was added to a topic begins at its beginning, or its first rows would be lost.
        _ if found.is_known_topic && found.committed.is_none() => {
            tracing::warn!(
                "{place} was added to the topic and is read from its beginning; with the number of partitions keys move \
                 between them, and series that come here begin with empty windows"
            );
            found.low
        }
        None | Some(Start::Earliest) => found.low,
        Some(Start::Latest) => found.high,
        // No row is that young.
        Some(Start::At(_)) => found.at_time.unwrap_or(found.high).clamp(found.low, found.high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { topic: "iot-data-stream".into(), partition: 3 }
    }

    fn found(low: u64, high: u64, committed: Option<u64>) -> Found {
        Found { low, high, committed, at_time: None, is_known_topic: committed.is_some(), topic_id: None }
    }

    fn rules(start: Option<Start>, cold_start: bool) -> StartRules {
        StartRules { start, cold_start, group: "g".into() }
    }

    #[test]
    fn begins_where_state_or_rules_say() {
        let time = Start::from_str("2025-07-20T08:19:16Z").unwrap();
        let timed = |at_time| Found { at_time, ..found(5, 9, None) };
        let anew = Found { topic_id: Some("b".into()), ..found(0, 9, None) };
        let added = Found { is_known_topic: true, ..found(5, 9, None) };
        for (from, start, cold_start, found, expected) in [
            (Some(7), None, false, found(5, 9, Some(6)), 7),
            (Some(9), None, true, found(5, 9, Some(6)), 9),
            (None, None, false, found(5, 9, None), 5),
            (None, Some(Start::Earliest), false, found(5, 9, None), 5),
            (None, Some(Start::Latest), false, found(5, 9, None), 9),
            (None, Some(Start::Latest), false, added, 5),
            (None, Some(time), false, timed(Some(8)), 8),
            (None, Some(time), false, timed(None), 9),
            (None, None, true, found(5, 9, Some(7)), 7),
            (None, Some(Start::Earliest), true, found(5, 9, Some(7)), 5),
            (None, Some(Start::Latest), true, found(5, 9, Some(7)), 7),
            (None, None, true, found(5, 9, Some(3)), 5),
            (None, None, true, found(5, 9, Some(12)), 5),
            (Some(3), None, true, found(5, 9, Some(2)), 5),
            (Some(12), None, true, found(5, 9, Some(12)), 5),
            (Some(7), None, true, anew, 0),
        ] {
            let from = from.map(|offset| Position { offset, detail: Some("a".into()) });
            let offset = resolve(&place(), from.as_ref(), &rules(start, cold_start), &found);
            assert_eq!(offset.expect("a start"), expected, "{from:?} {start:?} {cold_start} {found:?}");
        }
    }

    #[test]
    fn never_skips_rows_silently() {
        for (from, found, message) in [
            (
                None,
                found(0, 200_000, Some(104_233)),
                "partition 3 of `iot-data-stream` was read up to offset 104,233 by group `g`, but there is no state for \
                 it here: another machine has it, or it was lost; `--cold-start` begins with empty windows at that \
                 offset, and an earlier `start` goes further back",
            ),
            (
                Some(1_000),
                found(5_000, 9_000, None),
                "partition 3 of `iot-data-stream` goes on at offset 1,000, but the rows there are from 5,000 to 9,000: up \
                 to 4,000 were deleted before they were read; longer retention prevents it; `--cold-start` goes on with \
                 what is there, with empty windows for this partition and all others as they are",
            ),
        ] {
            let from = from.map(Position::at);
            let error = resolve(&place(), from.as_ref(), &rules(None, false), &found).expect_err("not there");
            assert_eq!(error.to_string(), message);
            assert_eq!(error.kind(), pipeline_stage::ErrorKind::Fatal);
        }
    }

    #[test]
    fn starts_are_read_and_written() {
        for text in ["earliest", "latest", "2025-07-20T08:19:16Z"] {
            assert_eq!(Start::from_str(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Start::from_str("soon").unwrap_err(),
            "`soon` is no start, it must be `earliest`, `latest` or a time like `2025-07-20T08:19:16Z`"
        );
    }
}
