//! The options of the source `mqtt`.

use pipeline_stage::{
    OneOrMany, Result, Secret, Source, SourceContext, SourceOptions, Span, StageContext, StageError, StageOptions,
};
use rumqttc::mqttbytes::valid_filter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::address::Address;
use crate::link::Broker;
use crate::source::MqttSource;
use crate::tls::TlsFiles;
use crate::wire::{Hello, Version};

/// Subscribes to topics of an MQTT broker; each message is a row.
///
/// A message is acknowledged when its row is on disk, so what a sensor publishes with QoS 1 is not lost: the broker keeps
/// what comes while the pipeline is away, under `client_id`, and delivers again what was not acknowledged. A message that
/// comes again, because a connection broke or a process was killed before the broker had the acknowledgement, does not
/// become a row again: it is known by its packet number and its content. That holds for brokers that count these numbers
/// up, as Mosquitto does, from when that was seen by some messages; of one that gives them again as soon as they are free,
/// some rows may be there twice after a break, and none is lost. What a sensor publishes twice is there twice.
///
/// Messages published with QoS 0 come without a promise. A retained message is a row when its topic is subscribed to for
/// the first time, and again when the broker has lost the session. Topics that overlap may deliver a message twice. A
/// message may have 64 MiB.
///
/// A broker that refuses the first connection ends the run; later that is an outage, and it is tried again.
///
/// `meta: key` is the topic of a message, `part` a part of it, and `meta: time` when it came:
///
/// ```yaml
/// topics: plant/+/+            # plant/hall-4/temperature
/// schema:
///   hall: { meta: key, part: 2 }
///   metric: { meta: key, part: 3 }
///   value: float
/// ```
///
/// Several processes share the messages of `$share/group/plant/#`: each with a `client_id` and a state of its own. Two
/// clients of one `client_id` put each other out.
///
/// How many rows a second come depends on how many messages may be unacknowledged, for each takes about `commit_every`:
/// in version 5 that is `in_flight`; in version 3.1.1 the broker says it, too: Mosquitto 20 (`max_inflight_messages`), which
/// may be no more than 400 rows a second at 50 ms. A run with `--once` reads nothing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttOptions {
    /// The broker: `mqtt://host:1883`, or `mqtts://host:8883` with TLS.
    pub url: String,
    /// The topics, each with `+` for any name between two slashes and `#` for all below; or `$share/group/` and a topic,
    /// of which each process of a group gets a part.
    pub topics: OneOrMany,
    /// The version of the protocol: `5` or `3.1.1`.
    #[serde(default)]
    pub version: VersionChoice,
    /// The name under which the broker keeps the session, over restarts. Default: `pipeline-`, the pipeline's name, `-` and
    /// the stage's.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Who the pipeline is to the broker.
    #[serde(default)]
    pub user: Option<String>,
    /// The password of `user`; it is never printed.
    #[serde(default)]
    pub password: Option<Secret>,
    /// How long the broker keeps the session, and what comes for it, while the pipeline is away. In version 3.1.1 the
    /// broker says it.
    #[serde(default = "default_session_expiry")]
    pub session_expiry: Span,
    /// How many messages may be unacknowledged; further ones wait. In version 3.1.1 the broker may send fewer at a time.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub in_flight: u16,
    /// How long the connection may be silent before it is looked at; it is given up after as long again.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Span,
    /// A file with the certificates (PEM) of who vouches for the broker. Default: those that the system trusts.
    #[serde(default)]
    pub tls_ca: Option<String>,
    /// A file with the certificate (PEM) that the broker is shown, with those up to one that it trusts.
    #[serde(default)]
    pub tls_certificate: Option<String>,
    /// A file with the key (PEM) of `tls_certificate`.
    #[serde(default)]
    pub tls_key: Option<String>,
}

/// Longer than a weekend and a holiday; a session that nobody comes back to must not fill the broker for ever.
fn default_session_expiry() -> Span {
    Span(std::time::Duration::from_secs(7 * 24 * 3_600))
}

/// 20,000 rows a second at 50 ms, for 10 kB with each epoch.
fn default_in_flight() -> u16 {
    1_000
}

/// A connection that is gone is noticed within a minute, for a few bytes.
fn default_keep_alive() -> Span {
    Span(std::time::Duration::from_secs(30))
}

/// `5` or `3.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionChoice(pub(crate) Version);

impl Default for VersionChoice {
    fn default() -> Self {
        VersionChoice(Version::V5)
    }
}

impl Serialize for VersionChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for VersionChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text.as_str() {
            "3.1.1" => Ok(VersionChoice(Version::V3)),
            "5" => Ok(VersionChoice(Version::V5)),
            _ => Err(de::Error::custom(format!("`{text}` is no version of MQTT, it must be `5` or `3.1.1`"))),
        }
    }
}

impl JsonSchema for VersionChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [5, "5", "3.1.1"] })
    }
}

impl StageOptions for MqttOptions {
    const NAME: &'static str = "mqtt";
    const EXAMPLE: &'static str = "
readings:
  type: mqtt
  url: mqtt://localhost:1883
  topics: plant/+/+
  format: json
  schema:
    hall: { meta: key, part: 2 }
    metric_type: { meta: key, part: 3 }
    value: float
    timestamp: timestamp
";
}

impl SourceOptions for MqttOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        let broker = self.broker(&context.stage)?;
        Ok(Box::new(MqttSource::new(broker, context.stage.once)))
    }
}

fn wrong<T>(option: &str, message: String) -> Result<T> {
    Err(StageError::config(message).at_option(option))
}

impl MqttOptions {
    fn broker(self, context: &StageContext) -> Result<Broker> {
        let address = Address::parse(&self.url)?;
        let topics = self.topics()?;
        let keep_alive = seconds("keep_alive", self.keep_alive, 0xffff)?;
        let session_expiry = seconds("session_expiry", self.session_expiry, u64::from(u32::MAX))?;
        if !(1..=10_000).contains(&self.in_flight) {
            return wrong("in_flight", format!("`in_flight` is {}, it must be 1 to 10000", self.in_flight));
        }
        if self.client_id.as_ref().is_some_and(String::is_empty) {
            return wrong("client_id", "`client_id` is empty: the broker keeps the session under it".into());
        }
        let user = self.user.clone().unwrap_or_default();
        if user.is_empty() && self.password.is_some() {
            return wrong("password", "`password` is there without `user`".into());
        }
        let tls = self.tls(&address, context)?;
        let client_id = self.client_id.unwrap_or_else(|| format!("pipeline-{}-{}", context.pipeline, context.id));
        let hello = Hello {
            client_id,
            user,
            password: self.password.map(|password| password.expose().to_owned()).unwrap_or_default(),
            keep_alive: keep_alive as u16,
            is_clean: false,
            session_expiry: session_expiry as u32,
            in_flight: self.in_flight,
        };
        Ok(Broker { address, tls, version: self.version.0, hello, topics })
    }

    fn topics(&self) -> Result<Vec<String>> {
        let topics = self.topics.as_slice();
        if topics.is_empty() {
            return wrong("topics", "`topics` is empty, it must name a topic or several".into());
        }
        for topic in topics {
            if !is_filter(topic) {
                let like = "it would be like `plant/+/temperature`, `plant/#` or `$share/group/plant/#`";
                return wrong("topics", format!("`{topic}` is no topic, {like}"));
            }
        }
        Ok(topics.to_vec())
    }

    fn tls(&self, address: &Address, context: &StageContext) -> Result<Option<TlsFiles>> {
        let files = [("tls_ca", &self.tls_ca), ("tls_certificate", &self.tls_certificate), ("tls_key", &self.tls_key)];
        let given = files.iter().find(|(_, file)| file.is_some());
        match given {
            Some((option, _)) if !address.is_tls => {
                return wrong(option, format!("`{option}` needs TLS: `url` must begin with `mqtts://`"));
            }
            _ => {}
        }
        let path = |file: &Option<String>| file.as_ref().map(|file| context.directory.join(file));
        let client = match (path(&self.tls_certificate), path(&self.tls_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return wrong("tls_certificate", "`tls_certificate` needs `tls_key`".into()),
            (None, Some(_)) => return wrong("tls_key", "`tls_key` needs `tls_certificate`".into()),
        };
        Ok(address.is_tls.then(|| TlsFiles { ca: path(&self.tls_ca), client }))
    }
}

fn seconds(option: &str, span: Span, most: u64) -> Result<u64> {
    match span.0.as_secs() {
        seconds @ 1.. if seconds <= most => Ok(seconds),
        _ => wrong(option, format!("`{option}` is {span}, it must be 1s to {most}s")),
    }
}

fn is_filter(topic: &str) -> bool {
    let shared = topic.strip_prefix("$share/").map(|shared| shared.split_once('/').unwrap_or_default());
    let (is_group, filter) = match shared {
        Some((group, filter)) => (!group.is_empty() && !group.contains(['+', '#']), filter),
        None => (true, topic),
    };
    is_group && filter.len() <= 0xffff - 0xff && !filter.contains('\0') && valid_filter(filter)
}
