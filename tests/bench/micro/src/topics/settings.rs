//! What a topic is like.

use serde::Deserialize;

/// One topic, as `tests/bench/topics/topics.json` has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How many messages there are.
    pub rows: u64,
    /// How many series they are of.
    pub series: usize,
    /// Used by `load`, which makes the topic.
    #[serde(default, rename = "partitions")]
    _partitions: u32,
    /// Fields beside the four that a reading has, up to 16.
    #[serde(default)]
    pub extra_fields: usize,
    /// In which order the fields come.
    #[serde(default)]
    pub order: Order,
    /// How often each series comes.
    #[serde(default)]
    pub weights: Weights,
    /// Messages in one batch of Kafka, at most.
    #[serde(default = "as_many_as_fit")]
    pub batch_rows: u32,
    /// `lz4`, for instance; by default none, so that nobody's decompression is measured.
    #[serde(default = "none")]
    pub compression: String,
    /// How fast they are sent, in bursts; by default as fast as the broker takes them.
    #[serde(default)]
    pub rows_per_second: Option<u64>,
}

/// In which order the fields of a message come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// In all the same.
    #[default]
    Fixed,
    /// In one of eight orders, by sensor: as devices of several makes send them.
    BySensor,
    /// In each another one; now and then an extra field is missing, or there is one that no other message has.
    Any,
}

/// How often each series comes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// All the same.
    #[default]
    Even,
    /// The first twice as often as the second, three times as often as the third.
    Zipf,
}

fn as_many_as_fit() -> u32 {
    10_000
}

fn none() -> String {
    "none".to_owned()
}
