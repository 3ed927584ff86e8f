//! The sink itself: it encodes rows, and leaves the writing to one producer for each task.

use std::collections::HashMap;

use async_trait::async_trait;
use pipeline_stage::{Claim, Commit, Delivery, EpochRows, Mark, Owner, Result, Sink, StageError};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::connection::setting_error;
use crate::consumer::{ConsumerNotes, KafkaConsumer};
use crate::health::{CALL_TIMEOUT, CHECK_TIMEOUT, words};
use crate::sinks::producer::{ProducerSettings, TaskProducer, Written};
use crate::sinks::records::Records;
use crate::topics::{partition_count, problems, thread_died};

/// What a topic takes if the broker does not say: Kafka's own default.
const DEFAULT_MAX_BYTES: usize = 1_048_588;

/// librdkafka's bounds of `message.max.bytes`.
const MAX_BYTES_BOUNDS: (usize, usize) = (1_000, 1_000_000_000);

/// How much a producer holds that is not sent yet, unless one record is larger.
const QUEUE_KIBIBYTES: usize = 64 << 10;

/// Writes a topic.
pub(crate) struct KafkaSink {
    settings: ProducerSettings,
    /// The columns of the key.
    key: Vec<usize>,
    /// What the topic takes, once it was asked.
    max_bytes: Option<usize>,
    /// By the task's name. A producer is taken out while it works: if that is interrupted, the task is claimed again.
    tasks: HashMap<String, TaskProducer>,
}

#[async_trait]
impl Sink for KafkaSink {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn check(&mut self) -> Vec<StageError> {
        let settings = self.settings.clone();
        let look = move || match consumer(&settings) {
            Ok(consumer) => problems(&consumer, &[settings.topic.as_str().into()], CHECK_TIMEOUT),
            Err(error) => vec![error],
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| vec![thread_died(error)])
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        self.look_at_topic().await?;
        let old = self.tasks.remove(&owner.task);
        let (settings, owner) = (self.settings.clone(), owner.clone());
        let claiming = move || {
            drop(old);
            let claimed = TaskProducer::claim(&settings, &owner);
            claimed.map(|(claim, producer)| (claim, producer, owner.task))
        };
        let (claim, producer, task) = tokio::task::spawn_blocking(claiming).await.map_err(thread_died)??;
        if let Some(producer) = producer {
            self.tasks.insert(task, producer);
        }
        Ok(claim)
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let works = self.works(epochs)?;
        let max_bytes = self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        let too_large: Vec<_> = works.iter().flat_map(|work| work.records.too_large(max_bytes)).collect();
        if !too_large.is_empty() {
            return Ok(Commit::Refused(too_large));
        }
        let mut running = Vec::new();
        for Work { records, mark } in works {
            let mut producer = self.tasks.remove(&mark.task).ok_or_else(|| not_claimed(&mark.task))?;
            running.push(tokio::task::spawn_blocking(move || {
                let written = producer.commit(&records, &mark)?;
                Ok::<_, StageError>((mark.task, producer, written))
            }));
        }
        let (mut all_refused, mut failure) = (Vec::new(), None);
        for work in running {
            match work.await.map_err(thread_died).flatten() {
                Ok((task, producer, written)) => {
                    self.tasks.insert(task, producer);
                    if let Written::Refused(refused) = written {
                        all_refused.extend(refused);
                    }
                }
                // The first one is reported; each failed task has to be claimed again.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if all_refused.is_empty() => Ok(Commit::Done(Vec::new())),
            None => Ok(Commit::Refused(all_refused)),
        }
    }
}

/// What one task has to write.
struct Work {
    records: Records,
    /// Of the last epoch.
    mark: Mark,
}

impl KafkaSink {
    /// A sink that has asked nothing yet; `key` names the columns of the key by their place.
    pub(crate) fn new(settings: ProducerSettings, key: Vec<usize>) -> Self {
        KafkaSink { settings, key, max_bytes: None, tasks: HashMap::new() }
    }

    /// The epochs by task, without those that were written by a commit of which other tasks failed.
    fn works(&self, epochs: &[EpochRows]) -> Result<Vec<Work>> {
        let mut works: Vec<Work> = Vec::new();
        for (epoch_idx, epoch) in epochs.iter().enumerate() {
            let mark = &epoch.mark;
            let producer = self.tasks.get(&mark.task).ok_or_else(|| not_claimed(&mark.task))?;
            if !producer.expects(mark)? {
                continue;
            }
            let work = match works.iter_mut().find(|work| work.mark.task == mark.task) {
                Some(work) => work,
                None => {
                    works.push(Work { records: Records::default(), mark: mark.clone() });
                    works.last_mut().expect("just pushed")
                }
            };
            work.records.append(epoch_idx, epoch, &self.key);
            work.mark = mark.clone();
        }
        Ok(works)
    }

    /// Makes sure, once, that the topic is there, and sets the producers up for the records that it takes.
    async fn look_at_topic(&mut self) -> Result<()> {
        if self.max_bytes.is_some() {
            return Ok(());
        }
        let settings = self.settings.clone();
        let look = move || partition_count(&consumer(&settings)?, &settings.topic, CALL_TIMEOUT);
        tokio::task::spawn_blocking(look).await.map_err(thread_died)??;

        let (low, high) = MAX_BYTES_BOUNDS;
        let max_bytes = max_message_bytes(&self.settings).await?.unwrap_or(DEFAULT_MAX_BYTES).clamp(low, high);
        let kibibytes = QUEUE_KIBIBYTES.max(max_bytes >> 9);
        self.settings.producer.set("message.max.bytes", max_bytes.to_string());
        self.settings.producer.set("queue.buffering.max.kbytes", kibibytes.to_string());
        self.max_bytes = Some(max_bytes);
        Ok(())
    }
}

/// A consumer that only asks.
fn consumer(settings: &ProducerSettings) -> Result<KafkaConsumer> {
    let notes = ConsumerNotes::new(&settings.brokers, "");
    settings.consumer.create_with_context(notes).map_err(|error| setting_error(&error))
}

/// The topic's `max.message.bytes`; none when this user may not ask.
async fn max_message_bytes(settings: &ProducerSettings) -> Result<Option<usize>> {
    let admin: AdminClient<DefaultClientContext> = settings.consumer.create().map_err(|error| setting_error(&error))?;
    let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
    let answers = admin.describe_configs([&ResourceSpecifier::Topic(&settings.topic)], &options).await;
    let answer = answers.map(|answers| answers.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::NoEnt)));
    match answer.map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)).flatten() {
        Ok(topic) => {
            let value = topic.get("max.message.bytes").and_then(|entry| entry.value.as_deref());
            Ok(value.and_then(|bytes| bytes.parse().ok()))
        }
        Err(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => Ok(None),
        Err(code) => {
            let words = format!("the settings of topic `{}` cannot be read: {}", settings.topic, words(code));
            Err(StageError::transient(words))
        }
    }
}

/// The task's producer is gone with an error, or a commit was interrupted: its state must be looked up again.
fn not_claimed(task: &str) -> StageError {
    StageError::transient(format!("task `{task}` must be claimed again"))
}
