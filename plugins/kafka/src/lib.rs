//! Apache Kafka: a source that reads topics and a sink that writes one, both exactly once.
//!
//! The source is driven by one thread ([`sources::driver`]) that makes librdkafka's batch calls, serves rebalances and
//! feeds a reader for each partition. The sink has one transactional producer for each task.

mod connection;
mod consumer;
mod health;
mod topics;

mod sources {
    pub(crate) mod batch_call;
    pub(crate) mod coverage;
    pub(crate) mod driver;
    pub(crate) mod driver_handle;
    pub(crate) mod held;
    pub(crate) mod kafka;
    pub(crate) mod missing;
    pub(crate) mod read_ahead;
    pub(crate) mod reader;
    pub(crate) mod rows;
    pub(crate) mod source;
    pub(crate) mod start;
    pub(crate) mod topic_id;
    pub(crate) mod watched_topics;
}

mod sinks {
    pub(crate) mod kafka;
    pub(crate) mod mark;
    pub(crate) mod producer;
    pub(crate) mod records;
    pub(crate) mod sink;
}

use pipeline_stage::StageType;

pub use sinks::kafka::KafkaSinkOptions;
pub use sources::kafka::KafkaSourceOptions;

/// The stages of this plugin.
pub fn stages() -> Vec<StageType> {
    vec![StageType::source::<KafkaSourceOptions>(), StageType::sink::<KafkaSinkOptions>()]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_schemas_are_strict_and_keep_client_settings_secret() {
        for stage in stages() {
            let schema: Value = stage.schema.into();
            assert_eq!(schema["additionalProperties"], Value::Bool(false), "{}", stage.name);
            assert_eq!(schema["properties"]["client"]["additionalProperties"]["writeOnly"], Value::Bool(true));
            assert!(schema["description"].as_str().is_some_and(|text| text.contains("Apache Kafka")));
        }
    }
}
