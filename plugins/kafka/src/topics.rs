//! Whether topics are there.

use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::{Result, StageError};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use crate::consumer::{KafkaConsumer, serve_callbacks};
use crate::health::words;

/// How many partitions a topic has. Blocks for at most `timeout`.
///
/// It takes a consumer, because brokers make topics that a producer asks for.
///
/// # Errors
/// `Transient` when no broker answers, `Config` when there is no such topic, `Fatal` when it may not be read.
pub(crate) fn partition_count(consumer: &KafkaConsumer, topic: &str, timeout: Duration) -> Result<usize> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout);
    let metadata = metadata.map_err(|error| {
        serve_callbacks(consumer);
        consumer.context().health.explain("the brokers do not answer", &error)
    })?;
    consumer.context().health.answered();
    let Some(found) = metadata.topics().first() else {
        return Err(StageError::transient(format!("the brokers say nothing about `{topic}`")));
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(found.partitions().len()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            let words = format!("there is no topic `{topic}`; create it, or correct the name");
            Err(StageError::config(words).at_option("topic"))
        }
        Some(RDKafkaErrorCode::InvalidTopic) => {
            let words = format!("`{topic}` cannot be a topic: letters, digits, `.`, `_` and `-`, at most 249");
            Err(StageError::config(words).at_option("topic"))
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Err(StageError::fatal(format!("this user has no right to the topic `{topic}`")).at_option("topic"))
        }
        Some(code) => Err(StageError::transient(format!("the topic `{topic}` is not ready: {}", words(code)))),
    }
}

/// The problems that topics have, for `validate --connect`. Blocks for at most `timeout` for each.
pub(crate) fn problems(consumer: &KafkaConsumer, topics: &[Arc<str>], timeout: Duration) -> Vec<StageError> {
    let mut problems = Vec::new();
    for topic in topics {
        if let Err(problem) = partition_count(consumer, topic, timeout) {
            let is_about_brokers = problem.option().is_none();
            problems.push(problem);
            if is_about_brokers {
                break;
            }
        }
    }
    problems
}

/// A call that blocks a thread has died with it.
pub(crate) fn thread_died(error: tokio::task::JoinError) -> StageError {
    StageError::fatal("a thread that talks to the brokers has died").because(error)
}
