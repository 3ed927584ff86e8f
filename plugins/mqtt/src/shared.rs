//! What a source, its reader and its connection share: rows that are not logged yet, and what is known of the session.

use std::sync::{Arc, Mutex, MutexGuard};

use pipeline_inbox::{Arrival, Inbox, now};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::deliveries::{Deliveries, short_hash};
use crate::link::Broker;
use crate::wire::Message;

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
            deliveries: Mutex::new(Deliveries::new(session_of(broker), broker.hello.in_flight)),
            logged: Notify::new(),
            bytes: Arc::new(Semaphore::new(ROOM)),
            places: Arc::new(Semaphore::new(broker.hello.in_flight.into())),
        }
    }

    /// What the broker may deliver again.
    pub fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().expect("no holder of this lock panics")
    }

    /// A reader is opened; `detail` was kept with the epoch where it begins.
    pub fn restore(&self, detail: Option<&str>) {
        let mut deliveries = self.deliveries();
        *deliveries = std::mem::take(&mut *deliveries).restore(detail);
    }

    /// Waits for the room that a message takes. Cancel-safe.
    pub async fn room(&self, message: Option<&New>) -> Room {
        let size = message.map_or(0, |new| new.message.topic.len() + new.message.payload.len());
        let place = self.places.clone().acquire_owned().await;
        let bytes = self.bytes.clone().acquire_many_owned(size.min(ROOM) as u32).await;
        Room { _bytes: bytes.expect("nobody closes it"), _place: place.expect("nobody closes it") }
    }

    /// A message becomes a row.
    pub fn take(&self, new: New, room: Room) {
        let Message { packet, is_again, topic, payload, .. } = new.message;
        let mut deliveries = self.deliveries();
        let offset = self.inbox.put(Arrival { rows: vec![payload], key: Some(topic), at: now(), receipt: room });
        if let Some(packet) = packet {
            deliveries.taken(packet, is_again, new.hash, offset);
        }
    }
}

/// Which session a broker keeps for us.
fn session_of(broker: &Broker) -> u64 {
    short_hash(broker.address.to_string().as_bytes(), broker.hello.client_id.as_bytes())
}

/// A message that is to become a row.
pub struct New {
    /// It.
    pub message: Message,
    /// What it is known by; 0 when it is not acknowledged.
    pub hash: u64,
}
