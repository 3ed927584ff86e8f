//! One connection from its beginning to its end: messages become rows, rows that are logged are acknowledged.

use pipeline_stage::{Result, StageError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::deliveries::{Arrived, hash};
use crate::link::{ANSWERS_WITHIN, Broker, Greeting, Link};
use crate::shared::{New, Shared};
use crate::subscriptions::Subscriptions;
use crate::wire::{Closed, Granted, Incoming, Message, Outgoing, Subscription, Version};

/// Why a session has ended.
pub struct Ended {
    /// In words.
    pub error: StageError,
    /// It would end so again and again.
    pub is_for_good: bool,
}

impl From<StageError> for Ended {
    fn from(error: StageError) -> Self {
        Ended { error, is_for_good: false }
    }
}

fn for_good<T>(words: String) -> std::result::Result<T, Ended> {
    Err(Ended { error: StageError::fatal(words), is_for_good: true })
}

/// A session on a connection.
pub struct Session<'s> {
    shared: &'s Shared,
    broker: &'s Broker,
    link: Link,
    /// A message for which there is no room yet: nothing further is read.
    waits: Option<New>,
    /// Whether it is to be subscribed when what the session has kept has come: in version 3.1.1 whoever subscribes again is
    /// sent again what is retained, which can then be told from what waited.
    is_late: bool,
    subscriptions: Subscriptions<'s>,
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
        if shared.deliveries().connected(link.greeting.has_session) {
            warn!(
                broker = %broker.address,
                client_id = broker.hello.client_id,
                "the broker has the session no more: what came for it and was not delivered is lost"
            );
        }
        let now = Instant::now();
        let mut session = Session {
            shared,
            broker,
            link,
            waits: None,
            is_late: false,
            subscriptions: Subscriptions::of(broker, &shared.deliveries().topics),
            is_subscribed: false,
            began_at: now,
            sent_at: now,
            pinged_at: now,
            n_pings: 0,
        };
        if let Some(topics) = session.subscriptions.to_end() {
            session.link.queue(&Outgoing::Unsubscribe(Subscription { topics }))?;
        }
        session.is_late = broker.version == Version::V3 && !shared.deliveries().topics.is_empty();
        match session.is_late {
            true => session.ping()?,
            false => session.subscribe()?,
        }
        session.link.flush().await?;
        Ok(session)
    }

    /// What the broker has said of it.
    pub fn greeting(&self) -> Greeting {
        self.link.greeting
    }

    fn subscribe(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_late) {
            self.subscriptions.are_again();
        }
        self.began_at = Instant::now();
        self.link.queue(&Outgoing::Subscribe(Subscription { topics: &self.broker.topics }))
    }

    /// Serves until it is told to stop, or the connection ends, which is an error. `is_well` is called when the broker has
    /// shown that all is well.
    pub async fn serve(
        mut self,
        mut stop: watch::Receiver<bool>,
        mut is_well: impl FnMut(),
    ) -> std::result::Result<(), Ended> {
        let shared = self.shared;
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
        Ok(self.link.close().await?)
    }

    fn handle(&mut self, packet: Incoming, is_well: &mut impl FnMut()) -> std::result::Result<(), Ended> {
        match packet {
            Incoming::Message(message) => {
                self.arrived(message)?;
                // Before it has answered who subscribes: what waits in the session comes first, and may have to be logged
                // before there is room for that answer.
                is_well();
            }
            Incoming::Subscribed(granted) => {
                self.subscribed(&granted)?;
                is_well();
            }
            Incoming::Unsubscribed(answers) => {
                self.subscriptions.ended(&answers);
                let topics = self.subscriptions.topics();
                self.shared.deliveries().topics.retain(|topic| topics.contains(topic));
            }
            Incoming::Pong => {
                self.n_pings = self.n_pings.saturating_sub(1);
                self.pinged_at = Instant::now();
                self.shared.deliveries().pong();
                self.acknowledge()?;
                if self.is_late && self.shared.deliveries().are_done() {
                    self.subscribe()?;
                }
            }
            Incoming::Closed(Closed::TakenOver) => {
                let id = &self.broker.hello.client_id;
                return for_good(format!(
                    "another client has connected to the broker {} as `{id}`: each process needs a `client_id` of its own",
                    self.broker.address
                ));
            }
            Incoming::Closed(Closed::Other(why)) => {
                let words = format!("the broker {} has ended the connection: {why}", self.broker.address);
                return Err(StageError::transient(words).into());
            }
            Incoming::Connected { .. } | Incoming::Refused(_) | Incoming::Other => {}
        }
        Ok(())
    }

    fn arrived(&mut self, message: Message) -> std::result::Result<(), Ended> {
        if message.is_exactly_once {
            let (topic, id) = (String::from_utf8_lossy(&message.topic), &self.broker.hello.client_id);
            return for_good(format!(
                "the broker {} sends `{topic}` with QoS 2, which somebody else has subscribed to as `{id}`: another \
                 `client_id` begins a session without that subscription",
                self.broker.address
            ));
        }
        let is_known = self.subscriptions.is_known(&message);
        let Some(packet) = message.packet else {
            if is_known {
                return Ok(());
            }
            self.waits = Some(New { message, hash: 0 });
            return Ok(());
        };
        if self.is_late && !message.is_again && !message.is_retained {
            // What the session has kept comes first, and what was retained when it began before all that came later.
            self.subscribe()?;
        }
        let hash = hash(&message);
        let arrived = self.shared.deliveries().arrived(packet, message.is_again, hash);
        match arrived {
            Arrived::New if is_known => {
                self.shared.deliveries().left_out(packet, hash);
                self.link.queue(&Outgoing::Ack(packet))?;
                self.acknowledge()?;
            }
            Arrived::New => self.waits = Some(New { message, hash }),
            Arrived::Waits => {}
            Arrived::Logged => self.link.queue(&Outgoing::Ack(packet))?,
        }
        Ok(())
    }

    fn subscribed(&mut self, granted: &[Granted]) -> Result<()> {
        self.subscriptions.check(granted)?;
        self.is_subscribed = true;
        self.shared.deliveries().topics = self.subscriptions.topics();
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
        if self.waits_for_subscription() && self.began_at + ANSWERS_WITHIN <= now {
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
        match self.waits_for_subscription() {
            true => next.min(self.began_at + ANSWERS_WITHIN),
            false => next,
        }
    }

    /// While nothing is read, an answer is not seen.
    fn waits_for_subscription(&self) -> bool {
        !self.is_subscribed && !self.is_late && self.waits.is_none()
    }
}
