//! The one thread that drives a consumer: it serves rebalances, makes the batch calls and feeds the readers.
//!
//! It never waits for a reader or for a task: what is not possible now is tried again in the next round, and a round
//! takes milliseconds. It sleeps until something wakes it: rows, a callback, a reader with room, an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use pipeline_stage::{Assignment, Partition, Result, Role, StageError};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;
use tracing::warn;

use crate::consumer::{KafkaConsumer, Place, Rebalance, list_of, serve_callbacks};
use crate::sources::batch_call::Room;
use crate::sources::driver_handle::{Changes, DriverHandle, Order, connect};
use crate::sources::held::{Held, Opening};
use crate::sources::missing::CHOICES;
use crate::sources::reader::Waker;
use crate::sources::watched_topics::WatchedTopics;

/// The longest sleep: far below `max.poll.interval.ms`, in case a wake-up was missed.
const IDLE: Duration = Duration::from_millis(100);

/// The sleep while librdkafka has to get ready for a seek, which does not wake anybody.
const BRIEFLY: Duration = Duration::from_millis(2);

/// How long the tasks of revoked partitions may take to stop; the other members of the group wait as long.
const REVOKE_DEADLINE: Duration = Duration::from_secs(30);

/// How often a broker is looked for while none answers, and how long that may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// Said when another consumer has joined the group under this one's `instance`.
const SHUT_OUT: &str = "another process has joined the group with the `instance` of this one, which has to end: each \
                        process needs an `instance` of its own, and a copy of a state folder must not run beside it";

/// What the driver works with.
pub(crate) struct Clients {
    pub(crate) consumer: Arc<KafkaConsumer>,
    /// The source's other client; the driver serves its callbacks too, so that its reports do not pile up.
    pub(crate) asker: Arc<KafkaConsumer>,
    /// Already woken by the consumer's callbacks.
    pub(crate) waker: Arc<Waker>,
}

/// Starts the thread. `topic` is any of those that are read; what a follower opens is assigned to it by hand.
pub(crate) fn start(clients: Clients, topic: &Arc<str>, role: Role) -> io::Result<(DriverHandle, Changes)> {
    let (handle, changes, ends) = connect(&clients.waker);
    let topic = Arc::clone(topic);
    let run = move || {
        clients.waker.wakes_me();
        let Clients { consumer, asker, waker } = clients;
        let mut driver = Driver {
            consumer,
            asker,
            waker,
            orders: ends.orders,
            changes: ends.changes,
            assigns_itself: role == Role::Follower,
            topic,
            held: BTreeMap::new(),
            revoking: None,
            room: Room::new(),
            next_probe: Instant::now(),
            topics: WatchedTopics::new(),
            has_failed: false,
        };
        driver.run(&ends.stop);
        driver.close();
        drop(driver);
        // Nobody waits any more after the deadline.
        let _ = ends.done.try_send(());
    };
    thread::Builder::new().name("kafka".into()).spawn(run)?;
    Ok((handle, changes))
}

struct Driver {
    consumer: Arc<KafkaConsumer>,
    asker: Arc<KafkaConsumer>,
    waker: Arc<Waker>,
    orders: mpsc::Receiver<Order>,
    changes: mpsc::Sender<Result<Assignment>>,
    assigns_itself: bool,
    /// Any of the topics, to ask for when a broker is looked for.
    topic: Arc<str>,
    held: BTreeMap<Place, Held>,
    revoking: Option<Revoking>,
    room: Room,
    next_probe: Instant,
    /// Those that were opened.
    topics: WatchedTopics,
    has_failed: bool,
}

/// Partitions that are to be given back once their tasks have stopped.
struct Revoking {
    places: Vec<Place>,
    waiting_for: BTreeSet<Place>,
    deadline: Instant,
}

impl Driver {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            serve_callbacks(&self.consumer);
            serve_callbacks(&self.asker);
            self.serve_orders();
            self.serve_rebalances();
            self.report_failure();
            self.probe();
            self.look_at_topics();
            let is_busy = self.serve_readers();
            if is_busy {
                continue;
            }
            let is_seeking = self.held.values().any(Held::is_seeking);
            // A wake-up since the last sleep makes this return at once.
            thread::park_timeout(if is_seeking { BRIEFLY } else { IDLE });
        }
    }

    fn close(&mut self) {
        // librdkafka cannot leave a group while it waits for an answer.
        if let Some(revoking) = self.revoking.take() {
            self.lose(&revoking.places);
        }
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(places) => self.gain(&places),
                Rebalance::Revoke(places) => self.lose(&places),
            }
        }
        self.held.clear();
        self.consumer.context().close();
    }

    fn serve_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Open(opening) => self.open(opening),
                Order::Release(place) => self.release(&place),
                Order::Rejoin(topics) => self.rejoin(&topics),
            }
        }
    }

    fn open(&mut self, opening: Opening) {
        self.topics.opened(&opening.place.topic, opening.topic_id.clone());
        if self.assigns_itself && !self.held.contains_key(&opening.place) {
            self.hold(std::slice::from_ref(&opening.place));
        }
        match self.held.get_mut(&opening.place) {
            Some(held) => held.open(&self.consumer, opening),
            None => {
                let words = format!("{} is not assigned to this process", opening.place);
                // The caller may have given up meanwhile.
                let _ = opening.opened.send(Err(StageError::taken_over(words)));
            }
        }
    }

    fn release(&mut self, place: &Place) {
        if let Some(held) = self.held.get_mut(place) {
            held.release();
        }
        if let Some(revoking) = &mut self.revoking {
            revoking.waiting_for.remove(place);
        }
        if self.assigns_itself {
            self.lose(std::slice::from_ref(place));
        }
    }

    /// Everything is revoked, and given out again with all partitions there are.
    fn rejoin(&mut self, topics: &[Arc<str>]) {
        self.consumer.unsubscribe();
        let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        if let Err(error) = self.consumer.subscribe(&names) {
            warn!(%error, "the group cannot be joined again");
        }
    }

    /// Answers what the group's coordinator wants, one after the other.
    fn serve_rebalances(&mut self) {
        loop {
            if self.revoking.is_some() && !self.finish_revoking() {
                return;
            }
            // The engine must hear of each change; without room it has to listen first.
            let Ok(permit) = self.changes.clone().try_reserve_owned() else { return };
            let Some(rebalance) = self.consumer.context().next_rebalance() else { return };
            match rebalance {
                Rebalance::Assign(places) => {
                    self.gain(&places);
                    permit.send(Ok(Assignment::Gained(partitions(&places))));
                }
                Rebalance::Revoke(places) if self.consumer.assignment_lost() => {
                    self.lose(&places);
                    permit.send(Ok(Assignment::Lost(partitions(&places))));
                }
                Rebalance::Revoke(places) => {
                    permit.send(Ok(Assignment::Revoked(partitions(&places))));
                    let has_task = |place: &&Place| self.held.get(place).is_some_and(|held| !held.is_released());
                    let waiting_for = places.iter().filter(has_task).cloned().collect();
                    let deadline = Instant::now() + REVOKE_DEADLINE;
                    self.revoking = Some(Revoking { places, waiting_for, deadline });
                }
            }
        }
    }

    /// Gives partitions back if their tasks have stopped, or cannot be waited for any longer. False: not yet.
    fn finish_revoking(&mut self) -> bool {
        let Some(revoking) = &self.revoking else { return true };
        if !revoking.waiting_for.is_empty() {
            if self.consumer.assignment_lost() {
                let Ok(permit) = self.changes.clone().try_reserve_owned() else { return false };
                permit.send(Ok(Assignment::Lost(partitions(&revoking.waiting_for))));
            } else if Instant::now() < revoking.deadline {
                return false;
            } else {
                let n = revoking.waiting_for.len();
                warn!("{n} tasks did not stop in {} s; their partitions go to others", REVOKE_DEADLINE.as_secs());
            }
        }
        if let Some(revoking) = self.revoking.take() {
            self.lose(&revoking.places);
        }
        true
    }

    fn hold(&mut self, places: &[Place]) {
        for place in places {
            if let Some(held) = Held::new(&self.consumer, place, &self.waker) {
                self.held.insert(place.clone(), held);
            }
        }
    }

    /// Accepts partitions. librdkafka is told of each when it is opened, and where it begins: the answer names none.
    fn gain(&mut self, places: &[Place]) {
        self.hold(places);
        self.answered(self.consumer.incremental_assign(&TopicPartitionList::new()));
    }

    /// Gives partitions back, or accepts that they are gone.
    fn lose(&mut self, places: &[Place]) {
        let read: Vec<&Place> =
            places.iter().filter(|place| self.held.get(place).is_some_and(Held::is_assigned)).collect();
        let list = list_of(read);
        self.held.retain(|place, _| !places.contains(place));
        self.answered(self.consumer.incremental_unassign(&list));
    }

    /// After a rebalance librdkafka resumes all partitions, not always at the right row.
    fn answered(&mut self, answer: KafkaResult<()>) {
        if let Err(error) = answer {
            warn!(%error, "librdkafka does not take the answer to a rebalance");
        }
        if self.assigns_itself {
            return;
        }
        for held in self.held.values_mut() {
            held.seek_again();
        }
    }

    /// The consumer can do no more: all have to hear it.
    fn report_failure(&mut self) {
        if self.has_failed {
            return;
        }
        let Some((code, reason)) = self.consumer.client().fatal_error() else { return };
        self.fail(|| match code {
            RDKafkaErrorCode::FencedInstanceId => StageError::fatal(SHUT_OUT).at_option("instance"),
            _ => StageError::fatal(format!("the consumer has failed for good: {reason}")),
        });
    }

    /// Nothing can be read any more: all have to hear it.
    fn fail(&mut self, failure: impl Fn() -> StageError) {
        self.has_failed = self.assigns_itself || self.changes.try_send(Err(failure())).is_ok();
        for held in self.held.values_mut() {
            held.fail(failure());
        }
    }

    fn look_at_topics(&mut self) {
        if self.has_failed || self.consumer.context().health.is_down() {
            return;
        }
        if let Some(words) = self.topics.look(&self.asker) {
            self.fail(|| StageError::fatal(format!("{words}; {CHOICES}")));
        }
    }

    /// Looks for a broker while none answers: an idle consumer would not notice that they are back.
    fn probe(&mut self) {
        let health = &self.consumer.context().health;
        if !health.is_down() || Instant::now() < self.next_probe {
            return;
        }
        if self.asker.fetch_metadata(Some(&self.topic), PROBE_TIMEOUT).is_ok() {
            health.answered();
        }
        self.next_probe = Instant::now() + PROBE_EVERY;
    }

    fn serve_readers(&mut self) -> bool {
        let mut is_busy = false;
        for held in self.held.values_mut() {
            held.seek(&self.consumer);
            is_busy |= held.feed(&self.consumer, &mut self.room);
        }
        is_busy
    }
}

fn partitions<'a>(places: impl IntoIterator<Item = &'a Place>) -> Vec<Partition> {
    places.into_iter().map(Place::partition).collect()
}
