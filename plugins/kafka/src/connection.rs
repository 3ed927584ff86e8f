//! Which brokers, and the further settings of librdkafka that a user may set under `client:`.
//!
//! Settings are checked when a stage is built, without I/O. Their values may be passwords: they are never printed.

use std::collections::BTreeMap;
use std::fmt;

use pipeline_stage::{OneOrMany, Result, StageError};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// Settings that a stage sets itself, with the reason why a user may not.
pub(crate) type Owned = &'static [(&'static str, &'static str)];

/// Settings that neither source nor sink leaves to the user.
const OWNED_BY_BOTH: Owned = &[
    ("bootstrap.servers", "`brokers` says it"),
    ("metadata.broker.list", "`brokers` says it"),
    ("log.queue", "librdkafka's log lines go to the log of the pipeline"),
];

/// The value of a setting under `client:`: text, a number, true or false. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientValue(String);

/// Further settings of librdkafka, by name.
pub(crate) type ClientSettings = BTreeMap<String, ClientValue>;

impl fmt::Debug for ClientValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for ClientValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for ClientValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The value must not get into serde's own error (`invalid type: string "…"`).
        match Value::deserialize(deserializer) {
            Ok(Value::String(text)) => Ok(ClientValue(text)),
            Ok(Value::Number(number)) => Ok(ClientValue(number.to_string())),
            Ok(Value::Bool(flag)) => Ok(ClientValue(flag.to_string())),
            _ => Err(de::Error::custom("a setting of librdkafka must be text, a number, true or false")),
        }
    }
}

impl JsonSchema for ClientValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClientValue".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"], "writeOnly": true })
    }
}

/// How to reach a cluster: brokers and settings.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    brokers: String,
    client: ClientSettings,
}

impl Connection {
    /// Checks the brokers and that no setting is one of those that the stage owns.
    pub(crate) fn new(brokers: &OneOrMany, client: ClientSettings, owned: Owned) -> Result<Self> {
        let names: Vec<&str> = brokers.as_slice().iter().flat_map(|list| list.split(',')).map(str::trim).collect();
        if names.is_empty() || names.contains(&"") {
            return Err(StageError::config("`brokers` is empty, it must be like `localhost:9092`").at_option("brokers"));
        }
        for name in client.keys() {
            if let Some((_, reason)) = OWNED_BY_BOTH.iter().chain(owned).find(|(owned, _)| owned == name) {
                let words = format!("`client.{name}` cannot be set: {reason}");
                return Err(StageError::config(words).at_option(format!("client.{name}")));
            }
        }
        Ok(Connection { brokers: names.join(","), client })
    }

    /// The brokers as one text.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A value that the user has set.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.client.get(name).map(|value| value.0.as_str())
    }

    /// The settings for a client: first `defaults`, which the user may change, then the user's, then `fixed`.
    pub(crate) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.client {
            config.set(name, &value.0);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(if self.client.contains_key("debug") {
            RDKafkaLogLevel::Debug
        } else {
            RDKafkaLogLevel::Info
        });
        config
    }

    /// Checks names and values of the settings, without I/O.
    pub(crate) fn check(&self, config: &ClientConfig) -> Result<()> {
        self.check_mechanism()?;
        config.create_native_config().map(|_| ()).map_err(|error| setting_error(&error))
    }

    /// Refuses what librdkafka would find out only when it makes the client.
    fn check_mechanism(&self) -> Result<()> {
        for name in ["sasl.mechanism", "sasl.mechanisms"] {
            let Some(value) = self.setting(name) else { continue };
            let needs_tls = value.starts_with("SCRAM") || value == "OAUTHBEARER";
            if needs_tls && !cfg!(feature = "tls") {
                return Err(lacks_tls(name));
            }
        }
        Ok(())
    }
}

/// librdkafka's refusal of a setting, without its value.
pub(crate) fn setting_error(error: &KafkaError) -> StageError {
    match error {
        KafkaError::ClientConfig(_, reason, name, _) if reason.contains("OpenSSL") => lacks_tls(name),
        KafkaError::ClientConfig(_, reason, name, value) => {
            let reason = if value.is_empty() { reason.clone() } else { reason.replace(value.as_str(), "***") };
            let words = format!("`client.{name}` is not a setting that librdkafka takes: {reason}");
            StageError::config(words).at_option(format!("client.{name}"))
        }
        KafkaError::ClientCreation(reason) => {
            StageError::config(format!("librdkafka refuses the settings: {reason}")).at_option("client")
        }
        _ => StageError::config(format!("librdkafka refuses the settings: {error}")).at_option("client"),
    }
}

fn lacks_tls(name: &str) -> StageError {
    let words = format!("`client.{name}` needs TLS, which this build lacks; build it with `--features kafka-tls`");
    StageError::config(words).at_option(format!("client.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(client: Value) -> Result<Connection> {
        let client = serde_json::from_value(client).expect("settings");
        let owned: Owned = &[("group.id", "`group` says it")];
        let connection = Connection::new(&OneOrMany::One("a:1, b:2".into()), client, owned)?;
        connection.check(&connection.config(&[], &[]))?;
        Ok(connection)
    }

    #[test]
    fn brokers_are_a_text_or_a_list() {
        assert_eq!(connection(serde_json::json!({})).unwrap().brokers(), "a:1,b:2");
        let many = OneOrMany::Many(vec!["a:1".into(), "b:2".into()]);
        assert_eq!(Connection::new(&many, ClientSettings::new(), &[]).unwrap().brokers(), "a:1,b:2");
        assert!(Connection::new(&OneOrMany::One(" ".into()), ClientSettings::new(), &[]).is_err());
    }

    #[test]
    fn refuses_settings_in_words_and_without_their_values() {
        for (client, message) in [
            (serde_json::json!({"group.id": "x"}), "`client.group.id` cannot be set: `group` says it"),
            (
                serde_json::json!({"bootstrap.servers": "x"}),
                "`client.bootstrap.servers` cannot be set: `brokers` says it",
            ),
            (
                serde_json::json!({"sasl.pasword": "hush"}),
                "`client.sasl.pasword` is not a setting that librdkafka takes: No such configuration property: \"sasl.pasword\"",
            ),
            (
                serde_json::json!({"security.protocol": "hush"}),
                "`client.security.protocol` is not a setting that librdkafka takes: \
                 Invalid value \"***\" for configuration property \"security.protocol\"",
            ),
        ] {
            assert_eq!(connection(client).expect_err("bad settings").to_string(), message);
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn says_that_the_build_lacks_tls() {
        for (name, value) in
            [("security.protocol", "ssl"), ("ssl.ca.location", "/ca.pem"), ("sasl.mechanism", "SCRAM-SHA-256")]
        {
            let error = connection(serde_json::json!({ name: value })).expect_err("no TLS");
            let expected =
                format!("`client.{name}` needs TLS, which this build lacks; build it with `--features kafka-tls`");
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.option(), Some(format!("client.{name}").as_str()));
        }
    }

    #[test]
    fn values_are_never_printed() {
        let settings: ClientSettings = serde_json::from_value(serde_json::json!({"sasl.password": "hush"})).unwrap();
        assert_eq!(format!("{settings:?}"), "{\"sasl.password\": ***}");
        assert_eq!(serde_json::to_string(&settings).unwrap(), "{\"sasl.password\":\"***\"}");
        let error = serde_json::from_value::<ClientSettings>(serde_json::json!({"a": ["hush"]})).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
