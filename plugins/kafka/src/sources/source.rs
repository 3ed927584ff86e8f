//! The source itself: it looks where to begin, and leaves the reading to its driver.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{Assignment, Partition, Position, Reader, Result, Role, Source, SourceOutput, StageError};
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::connection::setting_error;
use crate::consumer::{ConsumerNotes, KafkaConsumer, Place, list_at};
use crate::health::{CALL_TIMEOUT, CHECK_TIMEOUT};
use crate::sources::coverage::Coverage;
use crate::sources::driver::{self, Clients};
use crate::sources::driver_handle::{Changes, DriverHandle, Order};
use crate::sources::held::Opening;
use crate::sources::read_ahead::set_read_ahead;
use crate::sources::reader::{FEED_SIZE, KafkaReader, Waker};
use crate::sources::start::{StartRules, look, resolve};
use crate::topics::{partition_count, problems, thread_died};

/// With `--once`: how long the group must have been quiet before a process that owns a part of the partitions takes
/// that for its share.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long a release waits for its commit; the checkpoint has the offset anyway.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the options have come to. Holds secrets, so it cannot be printed.
pub(crate) struct SourceSettings {
    pub(crate) config: ClientConfig,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) rules: StartRules,
    pub(crate) brokers: String,
    pub(crate) role: Role,
    /// It joins the group under an `instance`.
    pub(crate) is_static: bool,
    pub(crate) once: bool,
}

/// Reads topics.
pub(crate) struct KafkaSource {
    settings: SourceSettings,
    /// Asks the brokers, over connections of its own: on the consumer's, each question would wait behind a fetch.
    asker: Option<Arc<KafkaConsumer>>,
    consuming: Option<Consuming>,
}

/// The consumer and what the source knows of it. Dropped in this order: the driver has the last hold of the consumer.
struct Consuming {
    /// Looks for partitions that are nobody's; ends when it is dropped.
    _watch: JoinSet<()>,
    consumer: Arc<KafkaConsumer>,
    changes: Changes,
    driver: DriverHandle,
    /// How many partitions each topic had at the start.
    n_partitions: HashMap<Arc<str>, usize>,
    /// Those gained and not revoked or lost again.
    n_owned: usize,
    /// When the group last changed; none while its answer is waited for.
    changed_at: Option<Instant>,
    /// The partitions that were opened and not released.
    opened: HashMap<Place, Opened>,
    /// Where `--cold-start` goes on with partitions whose rows are gone. What the group has committed may be of a topic
    /// that was deleted.
    accepted: HashMap<Place, u64>,
}

#[derive(Clone, Copy)]
struct Opened {
    from: u64,
    /// What `forget` has committed, for the last commit in `release`.
    committed: Option<u64>,
}

#[async_trait]
impl Source for KafkaSource {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    fn has_partitions(&self) -> bool {
        true
    }

    async fn partition_count(&mut self) -> Result<Option<u32>> {
        let (asker, topics) = (self.asker()?, self.settings.topics.clone());
        let count = move || topics.iter().map(|topic| partition_count(&asker, topic, CALL_TIMEOUT)).sum();
        let counted: Result<usize> = tokio::task::spawn_blocking(count).await.map_err(thread_died)?;
        counted.map(|count| Some(count as u32))
    }

    async fn check(&mut self) -> Vec<StageError> {
        let topics = self.settings.topics.clone();
        let asker = match self.asker() {
            Ok(asker) => asker,
            Err(error) => return vec![error],
        };
        let look = move || problems(&asker, &topics, CHECK_TIMEOUT);
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| vec![thread_died(error)])
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        let once = self.settings.once;
        let consuming = self.consuming().await?;
        loop {
            // With `--once` the run ends when the tasks have; one that the group gives nothing has none. As long as it has
            // some, the group may move them still.
            let is_idle = once && consuming.n_owned == 0;
            let change = match consuming.changed_at.filter(|_| is_idle) {
                Some(changed_at) => match timeout_at(changed_at + SETTLED_AFTER, consuming.changes.recv()).await {
                    Ok(change) => change,
                    Err(_) => return Ok(Assignment::Final),
                },
                None => consuming.changes.recv().await,
            };
            let change = change.unwrap_or_else(|| Err(StageError::lost("the consumer was closed")));
            if change.is_err() {
                // The topic may be another one: its group has read nothing of it.
                consuming.opened.values_mut().for_each(|opened| opened.committed = None);
            }
            let change = change?;
            if consuming.takes_note_of(&change) {
                return Ok(change);
            }
        }
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        self.open_at(partition, from.cloned(), false).await
    }

    async fn open_oldest(&mut self, partition: &Partition) -> Result<Box<dyn Reader>> {
        self.open_at(partition, None, true).await
    }

    async fn forget(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        let place = self.place_of(partition)?;
        let Some(consuming) = &mut self.consuming else { return Ok(()) };
        let list = list_at(&place, through.offset);
        if !consuming.may_commit(&place, through.offset) {
            tracing::debug!(%partition, "the offset is not committed: others have read on from a later one");
            return Ok(());
        }
        // The group's offsets are for people: a commit that fails is reported once, by the callback, and not retried.
        if let Err(error) = list.and_then(|list| consuming.consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(%partition, %error, "offsets were not committed");
        }
        Ok(())
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        let place = self.place_of(partition)?;
        let Some(consuming) = &mut self.consuming else { return Ok(()) };
        let committed = consuming.opened.get(&place).and_then(|opened| opened.committed);
        if let Some(offset) = committed.filter(|offset| consuming.may_commit(&place, *offset)) {
            let consumer = Arc::clone(&consuming.consumer);
            let at = place.clone();
            let commit = move || list_at(&at, offset).and_then(|list| consumer.commit(&list, CommitMode::Sync));
            if !matches!(timeout(LAST_COMMIT_TIMEOUT, tokio::task::spawn_blocking(commit)).await, Ok(Ok(Ok(())))) {
                tracing::debug!(%partition, "the last offset was not committed; the checkpoint has it");
            }
        }
        consuming.opened.remove(&place);
        consuming.driver.order(Order::Release(place)).await
    }
}

impl Consuming {
    /// Whether a task that has read so far may say so to the group. One whose partition has been lost may not, even if
    /// the partition has come back meanwhile: the group's offset would go back. The group itself refuses offsets of
    /// a consumer that it has given up, but not those of one that has joined again.
    fn may_commit(&mut self, place: &Place, offset: u64) -> bool {
        let is_assigned = !self.consumer.assignment_lost()
            && self.consumer.assignment().is_ok_and(|all| all.find_partition(&place.topic, place.partition).is_some());
        match self.opened.get_mut(place) {
            Some(opened) if is_assigned && opened.from <= offset => {
                opened.committed = Some(offset);
                true
            }
            _ => false,
        }
    }

    /// Whether a partition came to its topic after the start.
    fn has_added(&self, place: &Place) -> bool {
        let partition = usize::try_from(place.partition).unwrap_or(usize::MAX);
        self.n_partitions.get(&place.topic).is_some_and(|at_start| *at_start <= partition)
    }

    /// Counts what is owned. False: the engine need not hear of it.
    fn takes_note_of(&mut self, change: &Assignment) -> bool {
        self.changed_at = Some(Instant::now());
        match change {
            Assignment::Gained(gained) => {
                self.n_owned += gained.len();
                !gained.is_empty()
            }
            Assignment::Revoked(gone) | Assignment::Lost(gone) => {
                self.n_owned = self.n_owned.saturating_sub(gone.len());
                // Who has given everything back is given something next, were it nothing.
                self.changed_at = self.changed_at.filter(|_| 0 < self.n_owned);
                !gone.is_empty()
            }
            Assignment::Final => true,
        }
    }
}

impl KafkaSource {
    /// A source that has asked nothing yet.
    pub(crate) fn new(settings: SourceSettings) -> Self {
        KafkaSource { settings, asker: None, consuming: None }
    }

    /// Opens a partition at the position of a task's state, where the options say, or at the oldest row.
    async fn open_at(
        &mut self,
        partition: &Partition,
        from: Option<Position>,
        at_oldest: bool,
    ) -> Result<Box<dyn Reader>> {
        let place = self.place_of(partition)?;
        let (rules, once) = (self.settings.rules.clone(), self.settings.once);
        let (asker, asked) = (self.asker()?, place.clone());
        let consuming = self.consuming().await?;
        let is_added = consuming.has_added(&place);
        let accepted = consuming.accepted.get(&place).copied().filter(|_| from.is_none());
        let wanted = from.as_ref().map(|from| from.offset);
        let looking = move || {
            let mut found = look(&asker, &asked, &rules)?;
            found.is_known_topic |= is_added;
            match accepted {
                _ if at_oldest => Ok((found.low, found)),
                Some(offset) => Ok((offset, found)),
                None => resolve(&asked, from.as_ref(), &rules, &found).map(|offset| (offset, found)),
            }
        };
        let (offset, found) = tokio::task::spawn_blocking(looking).await.map_err(thread_died)??;
        if wanted.is_some_and(|wanted| wanted != offset) {
            consuming.accepted.insert(place.clone(), offset);
        }

        let (feeds, receiver) = mpsc::channel(FEED_SIZE);
        let (opened, is_open) = oneshot::channel();
        let high_watermark = Arc::new(AtomicU64::new(found.high));
        let reader = KafkaReader::new(
            receiver,
            consuming.driver.waker(),
            Arc::clone(&high_watermark),
            (offset, once.then_some(found.high)),
        );
        consuming.opened.insert(place.clone(), Opened { from: offset, committed: None });
        let topic_id = found.topic_id.as_deref().map(Arc::from);
        let reader = reader.of_topic(found.topic_id);
        consuming.driver.order(Order::Open(Opening { place, offset, topic_id, feeds, high_watermark, opened })).await?;
        is_open.await.map_err(|_| StageError::lost("the consumer was closed"))??;
        Ok(Box::new(reader))
    }

    /// The place that the engine means: by name for a leader, by number for a follower.
    fn place_of(&self, partition: &Partition) -> Result<Place> {
        let topics = &self.settings.topics;
        let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
        if self.settings.role == Role::Follower {
            return Ok(Place { topic: Arc::clone(&topics[0]), partition: number });
        }
        let topic = partition.name.rsplit_once('/').map(|(topic, _)| topic);
        match topics.iter().find(|known| Some(&***known) == topic) {
            Some(topic) => Ok(Place { topic: Arc::clone(topic), partition: number }),
            None => Err(StageError::fatal(format!("`{}` is no partition of {}", partition.name, topics.join(", ")))),
        }
    }

    /// The client that asks, made at the first call.
    fn asker(&mut self) -> Result<Arc<KafkaConsumer>> {
        if let Some(asker) = &self.asker {
            return Ok(Arc::clone(asker));
        }
        let mut config = self.settings.config.clone();
        // It is no member of the group.
        config.remove("group.instance.id");
        let asker = Arc::new(self.new_consumer(&config)?);
        self.asker = Some(Arc::clone(&asker));
        Ok(asker)
    }

    fn new_consumer(&self, config: &ClientConfig) -> Result<KafkaConsumer> {
        let notes = ConsumerNotes::new(&self.settings.brokers, &self.settings.rules.group);
        config.create_with_context(notes).map_err(|error| setting_error(&error))
    }

    /// The consumer, made once all topics were found; a leader joins its group then.
    async fn consuming(&mut self) -> Result<&mut Consuming> {
        if self.consuming.is_none() {
            let (asker, topics) = (self.asker()?, self.settings.topics.clone());
            let count_of = move |topic: Arc<str>| {
                let count = partition_count(&asker, &topic, CALL_TIMEOUT)?;
                Ok((topic, count))
            };
            let count = move || topics.into_iter().map(count_of).collect::<Result<_>>();
            let n_partitions = tokio::task::spawn_blocking(count).await.map_err(thread_died)??;
            self.consuming = Some(self.start(n_partitions)?);
        }
        Ok(self.consuming.as_mut().expect("made above"))
    }

    fn start(&mut self, n_partitions: HashMap<Arc<str>, usize>) -> Result<Consuming> {
        let mut config = self.settings.config.clone();
        set_read_ahead(&mut config, n_partitions.values().sum());
        let mut consumer = self.new_consumer(&config)?;
        let waker = Arc::new(Waker::default());
        let wakes = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || wakes.wake());
        consumer.context().health.start();
        if self.settings.role == Role::Leader {
            let names: Vec<&str> = self.settings.topics.iter().map(|topic| &**topic).collect();
            let subscribed = consumer.subscribe(&names);
            subscribed.map_err(|error| StageError::fatal(format!("the topics cannot be read: {error}")))?;
        }
        let consumer = Arc::new(consumer);
        let clients = Clients { consumer: Arc::clone(&consumer), asker: self.asker()?, waker };
        let (driver, changes) = driver::start(clients, &self.settings.topics[0], self.settings.role)
            .map_err(|error| StageError::fatal("no thread can be started").because(error))?;
        let mut watch = JoinSet::new();
        if self.settings.is_static {
            let (group, topics, once) =
                (self.settings.rules.group.clone(), self.settings.topics.clone(), self.settings.once);
            let coverage = Coverage { asker: self.asker()?, group, topics, once };
            watch.spawn(coverage.watch(driver.orders(), driver.waker()));
        }
        Ok(Consuming {
            _watch: watch,
            consumer,
            changes,
            driver,
            n_partitions,
            n_owned: 0,
            changed_at: None,
            opened: HashMap::new(),
            accepted: HashMap::new(),
        })
    }
}
