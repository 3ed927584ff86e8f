//! Apache Kafka, for tests that read and write real topics.

mod broker;
mod changes;
mod encrypted;
mod group;
mod records;

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::OnceCell;

pub use encrypted::EncryptedKafka;
pub use group::Group;
pub use records::{Record, StoredRecord};

use crate::certificates::Certificates;
use crate::server::Server;
use crate::waiting::{POLL_EVERY, blocking};

/// The largest record a topic takes, in bytes: a record of 5 MB fits.
const MAX_RECORD_BYTES: usize = 8 << 20;

/// A broker on this machine answers in milliseconds; a loaded machine may need seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

static SHARED: OnceCell<Kafka> = OnceCell::const_new();

/// A Kafka broker.
///
/// ```no_run
/// # use pipeline_services::{Kafka, Record, unique_name};
/// # async fn example() {
/// let kafka = Kafka::shared().await;
/// let topic = unique_name("readings");
/// kafka.create_topic(&topic, 4).await;
/// kafka.produce(&topic, vec![Record::new(r#"{"value": 1.5}"#).key("sensor-1")]).await;
/// assert_eq!(kafka.read_all(&topic).await.len(), 1);
/// # }
/// ```
pub struct Kafka {
    brokers: String,
    /// None: somebody else's, found by the environment variable.
    server: Option<Server>,
}

impl Kafka {
    /// The broker that all tests of this binary use; started by the first caller.
    ///
    /// With `PIPELINE_TEST_KAFKA=host:port` it is that one.
    pub async fn shared() -> &'static Kafka {
        SHARED
            .get_or_init(async || match env::var("PIPELINE_TEST_KAFKA") {
                Ok(brokers) => blocking(|| Self::given(brokers)).await,
                Err(_) => Self::start().await,
            })
            .await
    }

    /// A broker of its own for one test, which may stop and start it.
    pub async fn start() -> Kafka {
        blocking(|| {
            let (server, brokers) = broker::start();
            Kafka { brokers, server: Some(server) }
        })
        .await
    }

    /// What clients connect to: `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Makes a topic with one replica and waits until every partition has a leader.
    pub async fn create_topic(&self, name: &str, n_partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("the settings are valid");
        let max_bytes = MAX_RECORD_BYTES.to_string();
        let topic = NewTopic::new(name, n_partitions, TopicReplication::Fixed(1)).set("max.message.bytes", &max_bytes);
        let options = AdminOptions::new().operation_timeout(Some(ANSWERS_WITHIN));
        let created = admin.create_topics([&topic], &options).await;
        let created = created.unwrap_or_else(|error| panic!("cannot make topic `{name}`: {error}"));
        if let Some(Err((_, code))) = created.first() {
            panic!("cannot make topic `{name}`: {code}");
        }
        let (client, name) = (self.client(), name.to_owned());
        blocking(move || wait_for_leaders(&client, &name, n_partitions)).await;
    }

    /// Writes records in this order; returns when the broker has confirmed all of them.
    pub async fn produce(&self, topic: &str, records: Vec<Record>) {
        let (client, topic) = (self.client(), topic.to_owned());
        blocking(move || records::produce(client, &topic, records)).await;
    }

    /// All committed records of a topic, ordered by partition and offset.
    pub async fn read_all(&self, topic: &str) -> Vec<StoredRecord> {
        let (client, topic) = (self.client(), topic.to_owned());
        blocking(move || records::read_all(client, &topic)).await
    }

    /// A consumer group as its coordinator sees it now, with the partitions of one topic.
    pub async fn group(&self, group: &str, topic: &str) -> Group {
        let (client, group, topic) = (self.client(), group.to_owned(), topic.to_owned());
        blocking(move || group::describe(&client, &group, &topic)).await
    }

    /// The offsets that a group has committed of one topic, by partition.
    pub async fn committed(&self, group: &str, topic: &str, n_partitions: i32) -> BTreeMap<i32, i64> {
        let (mut client, group, topic) = (self.client(), group.to_owned(), topic.to_owned());
        blocking(move || group::committed(&mut client, &group, &topic, n_partitions)).await
    }

    /// Stops the broker in good order; the data stays. Only for a broker from [`Kafka::start`].
    pub async fn stop(&mut self) {
        self.with_server(|server, _| server.stop("TERM")).await;
    }

    /// SIGKILL, as if its machine had died; the data stays. Only for a broker from [`Kafka::start`].
    pub async fn kill(&mut self) {
        self.with_server(|server, _| server.stop("KILL")).await;
    }

    /// Starts a stopped or killed broker on the same port with the same data, and waits until it serves.
    pub async fn start_again(&mut self) {
        self.with_server(|server, brokers| {
            if let Err(log) = server.start(|| answers(brokers)) {
                panic!("Kafka does not start again; its log ends with\n{log}");
            }
        })
        .await;
    }

    /// Freezes the broker: connections stay open, nothing is answered.
    pub fn pause(&mut self) {
        self.server.as_ref().expect("a broker of the environment cannot be paused").pause();
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.server.as_ref().expect("a broker of the environment cannot be resumed").resume();
    }

    fn given(brokers: String) -> Kafka {
        let start = Instant::now();
        while !answers(&brokers) {
            let waited = start.elapsed();
            assert!(waited < ANSWERS_WITHIN, "`PIPELINE_TEST_KAFKA` is `{brokers}`, but no broker answers there");
            std::thread::sleep(POLL_EVERY);
        }
        Kafka { brokers, server: None }
    }

    async fn with_server(&mut self, work: impl FnOnce(&mut Server, &str) + Send + 'static) {
        let mut server = self.server.take().expect("only `Kafka::start` gives a broker that can be changed");
        let brokers = self.brokers.clone();
        let server = blocking(move || {
            work(&mut server, &brokers);
            server
        });
        self.server = Some(server.await);
    }

    fn client(&self) -> ClientConfig {
        client(&self.brokers)
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    // A broker that has just come up is found at once, not after librdkafka's growing pauses.
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
    config
}

/// True if a broker answers and knows itself.
fn answers(brokers: &str) -> bool {
    let consumer: BaseConsumer = client(brokers).create().expect("the settings are valid");
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2));
    metadata.is_ok_and(|metadata| !metadata.brokers().is_empty())
}

fn wait_for_leaders(client: &ClientConfig, topic: &str, n_partitions: i32) {
    let consumer: BaseConsumer = client.create().expect("the settings are valid");
    let start = Instant::now();
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWERS_WITHIN);
        let metadata = metadata.unwrap_or_else(|error| panic!("cannot describe topic `{topic}`: {error}"));
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let has_all = i32::try_from(partitions.len()).is_ok_and(|n_found| n_found == n_partitions);
        if has_all && partitions.iter().all(|partition| 0 <= partition.leader()) {
            return;
        }
        assert!(start.elapsed() < ANSWERS_WITHIN, "the partitions of topic `{topic}` get no leader");
        std::thread::sleep(POLL_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unique_name;

    #[tokio::test]
    async fn keeps_what_is_written_with_keys_partitions_and_tombstones() {
        let kafka = Kafka::shared().await;
        let topic = unique_name("kept");
        kafka.create_topic(&topic, 3).await;
        kafka
            .produce(
                &topic,
                vec![
                    Record::new("a").key("sensor-1").partition(2),
                    Record::tombstone("sensor-1").partition(2),
                    Record::new([0xff, 0x00]).partition(0).timestamp_millis(1_753_000_000_000),
                ],
            )
            .await;

        let stored = kafka.read_all(&topic).await;
        let places: Vec<(i32, i64)> = stored.iter().map(|record| (record.partition, record.offset)).collect();
        assert_eq!(places, [(0, 0), (2, 0), (2, 1)]);
        assert_eq!(stored[0].payload.as_deref(), Some(&[0xff, 0x00][..]));
        assert_eq!(stored[0].timestamp_millis, Some(1_753_000_000_000));
        assert_eq!(stored[1].key.as_deref(), Some(&b"sensor-1"[..]));
        assert_eq!((stored[2].key.is_some(), &stored[2].payload), (true, &None));
    }

    #[tokio::test]
    async fn a_key_decides_the_partition() {
        let kafka = Kafka::shared().await;
        let topic = unique_name("keyed");
        kafka.create_topic(&topic, 4).await;
        let records = (0..400).map(|n| Record::new(n.to_string()).key(format!("sensor-{}", n % 20)));
        kafka.produce(&topic, records.collect()).await;

        let stored = kafka.read_all(&topic).await;
        assert_eq!(stored.len(), 400);
        let mut pairs: Vec<_> = stored.into_iter().map(|record| (record.key, record.partition)).collect();
        pairs.sort();
        pairs.dedup();
        assert_eq!(pairs.len(), 20, "a key is in two partitions");
    }

    #[tokio::test]
    async fn takes_a_record_of_5_mb() {
        let kafka = Kafka::shared().await;
        let topic = unique_name("large");
        kafka.create_topic(&topic, 1).await;
        kafka.produce(&topic, vec![Record::new(vec![b'x'; 5_000_000])]).await;
        assert_eq!(kafka.read_all(&topic).await[0].payload.as_ref().map(Vec::len), Some(5_000_000));
    }

    #[tokio::test]
    async fn keeps_its_port_and_its_data_over_a_restart_and_a_pause() {
        let mut kafka = Kafka::start().await;
        let brokers = kafka.brokers().to_owned();
        kafka.create_topic("readings", 1).await;
        kafka.produce("readings", vec![Record::new("before")]).await;

        kafka.stop().await;
        assert!(
            !blocking({
                let brokers = brokers.clone();
                move || answers(&brokers)
            })
            .await
        );
        kafka.start_again().await;
        kafka.produce("readings", vec![Record::new("after")]).await;

        kafka.pause();
        assert!(
            !blocking({
                let brokers = brokers.clone();
                move || answers(&brokers)
            })
            .await
        );
        kafka.resume();

        let payloads: Vec<_> = kafka.read_all("readings").await.into_iter().map(|record| record.payload).collect();
        assert_eq!(payloads, [Some(b"before".to_vec()), Some(b"after".to_vec())]);
        assert_eq!(kafka.brokers(), brokers);
    }
}
