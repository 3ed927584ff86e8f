//! The one thread that drives a consumer: it serves rebalances, makes the batch calls and feeds the readers.
//!
//! It never waits for a reader or for a task: what is not possible now is tried again in the next round, and a round
//! takes milliseconds. It sleeps until something wakes it: rows, a callback, a reader with room, an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use std::{io, thread};

use pipeline_stage::{Assignment, MAX_BATCH_ROWS, Partition, Result, StageError};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tracing::warn;

use crate::consumer::{KafkaConsumer, Place, Rebalance, list_of, serve_callbacks};
use crate::sources::batch_call::Room;
use crate::sources::held::{Held, Opening};
use crate::sources::reader::Waker;

/// How many orders and changes may wait. Both are rare, and those who send them wait for room.
const QUEUE_SIZE: usize = 64;

/// The longest sleep: far below `max.poll.interval.ms`, in case a wake-up was missed.
const IDLE: Duration = Duration::from_millis(100);

/// The sleep while librdkafka has to get ready for a seek, which does not wake anybody.
const BRIEFLY: Duration = Duration::from_millis(2);

/// How long the tasks of revoked partitions may take to stop; the other members of the group wait as long.
const REVOKE_DEADLINE: Duration = Duration::from_secs(30);

/// How often a broker is looked for while none answers, and how long that may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// How long closing may take when the source is dropped: leaving the group is one request.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// What the source asks of the driver.
pub(crate) enum Order {
    /// Read a partition.
    Open(Opening),
    /// The task of a partition has stopped.
    Release(Place),
}

/// The source's end of the driver. Dropping it closes the consumer, which leaves the group.
pub(crate) struct DriverHandle {
    orders: mpsc::Sender<Order>,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    done: std_mpsc::Receiver<()>,
}

impl DriverHandle {
    /// Passes an order on.
    pub(crate) async fn order(&mut self, order: Order) -> Result<()> {
        let sent = self.orders.send(order).await;
        self.waker.wake();
        sent.map_err(|_| StageError::lost("the consumer was closed"))
    }

    /// Wakes the driver.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }
}

impl Drop for DriverHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if self.done.recv_timeout(CLOSE_DEADLINE) == Err(std_mpsc::RecvTimeoutError::Timeout) {
            warn!(
                "the consumer could not be closed in {} s; the group will miss it after its session",
                CLOSE_DEADLINE.as_secs()
            );
        }
    }
}

/// Changes of what the process holds, in order.
pub(crate) type Changes = mpsc::Receiver<Result<Assignment>>;

/// Starts the thread. `assigns_itself`: the source follows another one, so what it opens is assigned to it by hand.
pub(crate) fn start(
    consumer: Arc<KafkaConsumer>,
    waker: Arc<Waker>,
    topic: Arc<str>,
    assigns_itself: bool,
) -> io::Result<(DriverHandle, Changes)> {
    let (order_sender, orders) = mpsc::channel(QUEUE_SIZE);
    let (changes, change_receiver) = mpsc::channel(QUEUE_SIZE);
    let (done_sender, done) = std_mpsc::sync_channel(1);
    let stop = Arc::new(AtomicBool::new(false));
    let handle = DriverHandle { orders: order_sender, waker: Arc::clone(&waker), stop: Arc::clone(&stop), done };
    let run = move || {
        waker.wakes_me();
        let mut driver = Driver {
            consumer,
            waker,
            orders,
            changes,
            assigns_itself,
            topic,
            held: BTreeMap::new(),
            revoking: None,
            room: Room::new(MAX_BATCH_ROWS),
            next_probe: Instant::now(),
            has_failed: false,
        };
        driver.run(&stop);
        driver.close();
        drop(driver);
        // Nobody waits any more after the deadline.
        let _ = done_sender.try_send(());
    };
    thread::Builder::new().name("kafka".into()).spawn(run)?;
    Ok((handle, change_receiver))
}

struct Driver {
    consumer: Arc<KafkaConsumer>,
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
            self.serve_orders();
            self.serve_rebalances();
            self.report_failure();
            self.probe();
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
        self.held.clear();
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
            }
        }
    }

    fn open(&mut self, opening: Opening) {
        if self.assigns_itself && !self.held.contains_key(&opening.place) {
            self.gain(std::slice::from_ref(&opening.place));
        }
        match self.held.get_mut(&opening.place) {
            Some(held) => held.open(opening),
            None => {
                let words = format!("{} is not assigned to this process", opening.place);
                // The caller may have given up meanwhile.
                let _ = opening.opened.send(Err(StageError::lost(words)));
            }
        }
    }

    fn release(&mut self, place: &Place) {
        if let Some(held) = self.held.get_mut(place) {
            held.close();
        }
        if let Some(revoking) = &mut self.revoking {
            revoking.waiting_for.remove(place);
        }
        if self.assigns_itself {
            self.lose(std::slice::from_ref(place));
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
                    let waiting_for = places.iter().cloned().collect();
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

    /// Takes partitions. They are not read before they are opened; until then librdkafka waits at their end.
    fn gain(&mut self, places: &[Place]) {
        for place in places {
            if let Some(held) = Held::new(&self.consumer, place, &self.waker) {
                self.held.insert(place.clone(), held);
            }
        }
        let list = list_of(places);
        self.answer("take", list, |consumer, list| {
            list.set_all_offsets(Offset::End)?;
            consumer.incremental_assign(list)
        });
    }

    /// Gives partitions back, or accepts that they are gone.
    fn lose(&mut self, places: &[Place]) {
        self.held.retain(|place, _| !places.contains(place));
        self.answer("give back", list_of(places), |consumer, list| consumer.incremental_unassign(list));
    }

    /// Calls librdkafka; after a rebalance it resumes all partitions, not always at the right row.
    fn answer(
        &mut self,
        what: &str,
        mut list: TopicPartitionList,
        call: impl FnOnce(&KafkaConsumer, &mut TopicPartitionList) -> rdkafka::error::KafkaResult<()>,
    ) {
        if let Err(error) = call(&self.consumer, &mut list) {
            warn!(%error, "librdkafka did not {what} {} partitions", list.count());
        }
        if self.assigns_itself {
            return;
        }
        for held in self.held.values_mut() {
            held.seek_again();
        }
    }

    /// The consumer can do no more (another one has its `instance`): all have to hear it.
    fn report_failure(&mut self) {
        if self.has_failed {
            return;
        }
        let Some(reason) = self.consumer.context().health.fatal() else { return };
        let failure = || StageError::fatal(format!("the consumer has failed for good: {reason}"));
        self.has_failed = self.assigns_itself || self.changes.try_send(Err(failure())).is_ok();
        for held in self.held.values_mut() {
            held.fail(failure());
        }
    }

    /// Looks for a broker while none answers: an idle consumer would not notice that they are back.
    fn probe(&mut self) {
        let health = &self.consumer.context().health;
        if !health.is_down() || Instant::now() < self.next_probe {
            return;
        }
        if self.consumer.client().fetch_metadata(Some(&self.topic), PROBE_TIMEOUT).is_ok() {
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
