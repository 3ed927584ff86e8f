//! One connection from its beginning to its end: messages become rows, rows that are logged are acknowledged.

use std::sync::{Arc, Mutex, MutexGuard};

use pipeline_inbox::{Arrival, Inbox, now};
use pipeline_stage::{Result, StageError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::deliveries::{Arrived, Deliveries, hash};
use crate::link::{ANSWERS_WITHIN, Broker, Link};
use crate::wire::{Closed, Granted, Incoming, Message, Outgoing, Subscription, Version};

/// What waits to be logged takes at most so much memory; then the connection is not read.
const ROOM: usize = 64 << 20;

/// What a row takes until it is logged.
pub struct Room {
    _bytes: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// What a source, its reader and its connection share.
pub struct Shared {
    /// Rows until they are logged.
    pub inbox: Inbox<Room>,
    /// Taken before anything is done with the inbox that has to do with it.
    deliveries: Mutex<Deliveries>,
    /// Something was logged.
    pub logged: Notify,
    bytes: Arc<Semaphore>,
    /// As many as may be unacknowledged: there are brokers that send more.
    places: Arc<Semaphore>,
}

impl Shared {
    /// For a source that is not opened yet.
    pub fn new(broker: &Broker) -> Self {
        Shared {
            inbox: Inbox::new(broker.topics.join(" ")),
            deliveries: Mutex::default(),
            logged: Notify::new(),
            bytes: Arc::new(Semaphore::new(ROOM)),
            places: Arc::new(Semaphore::new(broker.hello.in_flight.into())),
        }
    }

    /// What the broker may deliver again.
    pub fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().expect("no holder of this lock panics")
    }

    /// Waits for the room that a message takes. Cancel-safe.
    async fn room(&self, message: Option<&New>) -> Room {
        let size = message.map_or(0, |new| new.message.topic.len() + new.message.payload.len());
        let place = self.places.clone().acquire_owned().await;
        let bytes = self.bytes.clone().acquire_many_owned(size.min(ROOM) as u32).await;
        Room { _bytes: bytes.expect("nobody closes it"), _place: place.expect("nobody closes it") }
    }

    fn take(&self, new: New, room: Room) {
        let Message { packet, is_again, topic, payload } = new.message;
        let mut deliveries = self.deliveries();
        let offset = self.inbox.put(Arrival { rows: vec![payload], key: Some(topic), at: now(), receipt: room });
        if let Some(packet) = packet {
            deliveries.taken(packet, is_again, new.hash, offset);
        }
    }
}

/// A message that is to become a row.
struct New {
    message: Message,
    hash: u64,
}

/// A session on a connection.
pub struct Session<'s> {
    shared: &'s Shared,
    broker: &'s Broker,
    link: Link,
    /// A message for which there is no room yet: nothing further is read.
    waits: Option<New>,
    /// Whether the broker has said that it sends what we want.
    is_subscribed: bool,
    /// Since when that is waited for.
    began_at: Instant,
    sent_at: Instant,
    /// Since when a ping waits for its answer, and how many do.
    pinged_at: Instant,
    n_pings: u32,
}

impl<'s> Session<'s> {
    /// Connects and subscribes.
    pub async fn begin(shared: &'s Shared, broker: &'s Broker) -> Result<Self> {
        let link = Link::open(broker).await?;
        shared.deliveries().connected(link.has_session);
        let now = Instant::now();
        let mut session = Session {
            shared,
            broker,
            link,
            waits: None,
            is_subscribed: false,
            began_at: now,
            sent_at: now,
            pinged_at: now,
            n_pings: 0,
        };
        session.subscribe()?;
        session.link.flush().await?;
        Ok(session)
    }

    fn subscribe(&mut self) -> Result<()> {
        let (topics, deliveries) = (&self.broker.topics, self.shared.deliveries());
        let no_more: Vec<String> = deliveries.topics.iter().filter(|topic| !topics.contains(topic)).cloned().collect();
        // In version 3.1.1 whoever subscribes again is sent again what is retained.
        self.is_subscribed = self.broker.version == Version::V3 && deliveries.topics == *topics;
        drop(deliveries);
        if !no_more.is_empty() {
            self.link.queue(&Outgoing::Unsubscribe(Subscription { topics: &no_more }))?;
        }
        match self.is_subscribed {
            true => Ok(()),
            false => self.link.queue(&Outgoing::Subscribe(Subscription { topics })),
        }
    }

    /// Serves until it is told to stop, or the connection ends, which is an error. `is_well` is called when the broker has
    /// shown that all is well.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>, mut is_well: impl FnMut()) -> Result<()> {
        let shared = self.shared;
        if self.is_subscribed {
            is_well();
        }
        loop {
            self.keep_alive()?;
            self.link.flush().await?;
            let next_look = self.next_look();
            tokio::select! {
                biased;
                // An error: whoever could stop it is gone.
                _ = stop.wait_for(|stop| *stop) => break,
                () = shared.logged.notified() => self.acknowledge()?,
                room = shared.room(self.waits.as_ref()), if self.waits.is_some() => {
                    if let Some(new) = self.waits.take() {
                        shared.take(new, room);
                        // Nothing was read for a while: answers may be there.
                        (self.pinged_at, self.began_at) = (Instant::now(), Instant::now());
                    }
                }
                packet = self.link.read(), if self.waits.is_none() => {
                    self.handle(packet?, &mut is_well)?;
                }
                () = sleep_until(next_look) => {}
            }
        }
        self.acknowledge()?;
        self.link.close().await
    }

    fn handle(&mut self, packet: Incoming, is_well: &mut impl FnMut()) -> Result<()> {
        match packet {
            Incoming::Message(message) => {
                // Before it has answered who subscribes: what waits in the session comes first, and may have to be logged
                // before there is room for that answer.
                is_well();
                self.arrived(message)?;
            }
            Incoming::Subscribed(granted) => {
                self.subscribed(&granted)?;
                self.is_subscribed = true;
                is_well();
            }
            Incoming::Pong => {
                self.n_pings = self.n_pings.saturating_sub(1);
                self.pinged_at = Instant::now();
                self.shared.deliveries().pong();
                self.acknowledge()?;
            }
            Incoming::Closed(Closed::TakenOver) => {
                let id = &self.broker.hello.client_id;
                return Err(StageError::fatal(format!(
                    "another client has connected to the broker {} as `{id}`: each process needs a `client_id` of its own",
                    self.broker.address
                )));
            }
            Incoming::Closed(Closed::Other(why)) => {
                let words = format!("the broker {} has ended the connection: {why}", self.broker.address);
                return Err(StageError::transient(words));
            }
            Incoming::Connected { .. } | Incoming::Refused(_) | Incoming::Other => {}
        }
        Ok(())
    }

    fn arrived(&mut self, message: Message) -> Result<()> {
        let Some(packet) = message.packet else {
            self.waits = Some(New { message, hash: 0 });
            return Ok(());
        };
        let hash = hash(&message);
        let arrived = self.shared.deliveries().arrived(packet, message.is_again, hash);
        match arrived {
            Arrived::New => self.waits = Some(New { message, hash }),
            Arrived::Waits => {}
            Arrived::Logged => self.link.queue(&Outgoing::Ack(packet))?,
        }
        Ok(())
    }

    fn subscribed(&self, granted: &[Granted]) -> Result<()> {
        for (topic, granted) in self.broker.topics.iter().zip(granted) {
            let (address, user) = (&self.broker.address, &self.broker.hello.user);
            let words = match granted {
                Granted::AtLeastOnce => continue,
                Granted::AtMostOnce => {
                    format!("the broker {address} gives messages of `{topic}` with QoS 0 only, which may be lost")
                }
                Granted::No if user.is_empty() => {
                    format!("the broker {address} lets nobody without a name subscribe to `{topic}`")
                }
                Granted::No => format!("the broker {address} does not let `{user}` subscribe to `{topic}`"),
            };
            return Err(StageError::fatal(words));
        }
        self.shared.deliveries().topics = self.broker.topics.clone();
        Ok(())
    }

    /// Acknowledges what is logged, and asks whether that has come.
    fn acknowledge(&mut self) -> Result<()> {
        let mut deliveries = self.shared.deliveries();
        for packet in deliveries.take_acknowledgeable() {
            self.link.queue(&Outgoing::Ack(packet))?;
        }
        // Only when no other answer is due: it is this one's that counts.
        let is_asked = self.n_pings == 0 && deliveries.ping();
        drop(deliveries);
        if is_asked { self.ping() } else { Ok(()) }
    }

    fn keep_alive(&mut self) -> Result<()> {
        let (now, within) = (Instant::now(), self.link.keep_alive);
        if !self.is_subscribed && self.waits.is_none() && self.began_at + ANSWERS_WITHIN <= now {
            let words = format!("the broker {} does not answer who subscribes", self.broker.address);
            return Err(StageError::transient(words));
        }
        // While nothing is read, an answer is not seen.
        if 0 < self.n_pings && self.waits.is_none() && self.pinged_at + within <= now {
            let words = format!("the broker {} does not answer any more", self.broker.address);
            return Err(StageError::transient(words));
        }
        if now < self.sent_at + within {
            return Ok(());
        }
        if self.n_pings == 0 {
            self.shared.deliveries().ping();
        }
        self.ping()
    }

    fn ping(&mut self) -> Result<()> {
        self.sent_at = Instant::now();
        if self.n_pings == 0 {
            self.pinged_at = self.sent_at;
        }
        self.n_pings += 1;
        self.link.queue(&Outgoing::Ping)
    }

    fn next_look(&self) -> Instant {
        let is_waiting = 0 < self.n_pings && self.waits.is_none();
        let next = if is_waiting { self.sent_at.min(self.pinged_at) } else { self.sent_at };
        let next = next + self.link.keep_alive;
        match self.is_subscribed || self.waits.is_some() {
            true => next,
            false => next.min(self.began_at + ANSWERS_WITHIN),
        }
    }
}
