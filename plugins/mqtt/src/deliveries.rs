//! What a broker may deliver again, and whether it is a row already.
//!
//! A message is acknowledged when its row is in the epoch log. A connection that breaks, or a process that is killed,
//! leaves the broker without some acknowledgements: it sends those messages again, under the same numbers and marked as
//! sent before. What is known of them is kept here, and with the epochs ([`Deliveries::detail`]), so that they do not
//! become rows twice. A message is known by its number and a hash of what is in it.
//!
//! There is one case that cannot be told apart: the acknowledgement had come, the broker has given the number to another
//! message of the same content, that was lost on its way, and is sent again. It cannot be with a broker that counts its
//! numbers up ([`Numbers`]), as Mosquitto does. With one that gives a number again as soon as it is free, the message
//! becomes a row: there twice rather than lost. A broker that counts may go back, too: when it was killed, or has thrown
//! messages away. Then its numbers are learned again.
//!
//! What the broker has an acknowledgement of is forgotten: it has answered a ping that was sent after it, or has given the
//! number to a new message.

use std::collections::VecDeque;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::wire::Message;

/// What is known of the broker's session: messages that it may deliver again, oldest first, and more.
#[derive(Debug, Default)]
pub struct Deliveries {
    waiting: VecDeque<Delivery>,
    numbers: Numbers,
    /// How many messages may be unacknowledged.
    in_flight: u16,
    /// Whose they are.
    session: u64,
    /// What the session is subscribed to.
    pub topics: Vec<String>,
    /// How many acknowledgements were sent.
    n_sent: u64,
    /// How many there were when the ping was sent that is not answered yet.
    pinged: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivery {
    offset: u64,
    packet: u16,
    hash: u64,
    /// The broker has sent it on this connection: only then may it be acknowledged.
    is_here: bool,
    /// It was new on this connection: everything that was to come again has come.
    is_new: bool,
    is_logged: bool,
    /// As which acknowledgement; 0 when that was, or may have been, in an earlier life.
    acknowledged: Option<u64>,
}

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A row to be.
    New,
    /// A row that is not logged yet.
    Waits,
    /// A row that is logged: it is to be acknowledged now.
    Logged,
}

/// How the broker gives its numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    last: Option<u16>,
    /// It has given one above all before while a lower one was free.
    are_counted: bool,
    /// It has once given one that was not above that before.
    has_gone_back: bool,
    /// So many it has given since, each above that before.
    run: u32,
    #[serde(skip)]
    some_are_free: bool,
}

impl Numbers {
    /// Whether it is a step forward; otherwise all that was known is forgotten.
    fn given(&mut self, packet: u16) -> bool {
        // After 65,535 comes 1.
        let is_above = self.last.is_none_or(|last| (1..0x8000).contains(&packet.wrapping_sub(last)));
        match is_above {
            true => {
                self.are_counted |= self.last.is_some() && self.some_are_free;
                self.run = self.run.saturating_add(1);
            }
            false => *self = Numbers { has_gone_back: true, ..Numbers::default() },
        }
        (self.last, self.some_are_free) = (Some(packet), false);
        is_above
    }

    /// A broker that has gone back once may go round in a ring as large as what may be in flight.
    fn tell_apart(self, in_flight: u16) -> bool {
        self.are_counted && (!self.has_gone_back || 2 * u32::from(in_flight) < self.run)
    }
}

/// As it is kept with an epoch.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Another broker's numbers, or another client's, say nothing.
    session: u64,
    numbers: Numbers,
    topics: Vec<String>,
    /// Ten bytes for each delivery.
    deliveries: String,
}

const KEPT_BYTES: usize = 10;

/// What a message is known by beside its number.
pub fn hash(message: &Message) -> u64 {
    short_hash(&message.topic, &message.payload)
}

/// Of two texts.
pub fn short_hash(one: &[u8], other: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    hash.update((one.len() as u64).to_le_bytes());
    hash.update(one);
    hash.update(other);
    let digest = hash.finalize();
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

impl Deliveries {
    /// Of a session of which nothing is known.
    pub fn new(session: u64, in_flight: u16) -> Self {
        Deliveries { session, in_flight, ..Deliveries::default() }
    }

    /// Of an epoch; nothing is known when there is none, or it was another source's or another session's.
    pub fn restore(self, detail: Option<&str>) -> Self {
        let kept = detail.and_then(|detail| serde_json::from_str::<Kept>(detail).ok());
        let unknown = Deliveries::new(self.session, self.in_flight);
        let Some(kept) = kept.filter(|kept| kept.session == self.session) else { return unknown };
        let bytes = BASE64_STANDARD.decode(kept.deliveries).unwrap_or_default();
        let deliveries = bytes.chunks_exact(KEPT_BYTES).map(|bytes| Delivery {
            offset: 0,
            packet: u16::from_be_bytes(std::array::from_fn(|i| bytes[i])),
            hash: u64::from_be_bytes(std::array::from_fn(|i| bytes[2 + i])),
            is_here: false,
            is_new: false,
            is_logged: true,
            acknowledged: Some(0),
        });
        Deliveries { waiting: deliveries.collect(), numbers: kept.numbers, topics: kept.topics, ..unknown }
    }

    /// What is to be known when all rows before `offset` are logged.
    pub fn detail(&self, offset: u64) -> String {
        let mut bytes = Vec::with_capacity(self.waiting.len() * KEPT_BYTES);
        for delivery in self.waiting.iter().filter(|delivery| delivery.offset < offset) {
            bytes.extend(delivery.packet.to_be_bytes());
            bytes.extend(delivery.hash.to_be_bytes());
        }
        let deliveries = BASE64_STANDARD.encode(bytes);
        let Deliveries { session, numbers, .. } = *self;
        let kept = Kept { session, numbers, topics: self.topics.clone(), deliveries };
        serde_json::to_string(&kept).expect("texts and numbers can be written")
    }

    /// A connection begins; without an earlier session the broker knows nothing of what was delivered. Whether it should
    /// have had one.
    pub fn connected(&mut self, has_session: bool) -> bool {
        let is_lost = !has_session && !self.topics.is_empty();
        if !has_session {
            *self = Deliveries { n_sent: self.n_sent, ..Deliveries::new(self.session, self.in_flight) };
        }
        self.pinged = None;
        for delivery in &mut self.waiting {
            (delivery.is_here, delivery.is_new) = (false, false);
        }
        is_lost
    }

    /// Nothing that has come on this connection waits for anything.
    pub fn are_done(&self) -> bool {
        !self.waiting.iter().any(|delivery| delivery.is_here)
    }

    /// A message has come under a number.
    pub fn arrived(&mut self, packet: u16, is_again: bool, hash: u64) -> Arrived {
        let can_tell = self.numbers.tell_apart(self.in_flight);
        if let Some(place) = self.waiting.iter().position(|delivery| delivery.packet == packet) {
            let known = &mut self.waiting[place];
            let is_it = is_again && known.hash == hash && (known.acknowledged.is_none() || can_tell);
            if is_it && known.is_logged {
                self.n_sent += 1;
                (known.is_here, known.acknowledged) = (true, Some(self.n_sent));
                return Arrived::Logged;
            }
            if is_it {
                known.is_here = true;
                return Arrived::Waits;
            }
            // The number is another message's now.
            self.waiting.remove(place);
        }
        if !is_again && !self.numbers.given(packet) {
            // What was to come again has come before what is new, and their numbers are given again from now on.
            self.waiting.retain(|delivery| delivery.is_here || !delivery.is_logged);
        }
        Arrived::New
    }

    /// It is to be no row, and is acknowledged now. It may come again as any other.
    pub fn left_out(&mut self, packet: u16, hash: u64) {
        self.n_sent += 1;
        let acknowledged = Some(self.n_sent);
        self.waiting.push_back(Delivery {
            offset: 0,
            packet,
            hash,
            is_here: true,
            is_new: true,
            is_logged: true,
            acknowledged,
        });
    }

    /// It has become the row of this offset.
    pub fn taken(&mut self, packet: u16, is_again: bool, hash: u64, offset: u64) {
        let is_new = !is_again;
        let delivery = Delivery { offset, packet, hash, is_here: true, is_new, is_logged: false, acknowledged: None };
        self.waiting.push_back(delivery);
    }

    /// All rows before `offset` are logged.
    pub fn logged(&mut self, offset: u64) {
        let logged = self.waiting.iter_mut().filter(|delivery| delivery.offset < offset);
        logged.for_each(|delivery| delivery.is_logged = true);
    }

    /// The numbers to acknowledge now, in the order in which they came.
    pub fn take_acknowledgeable(&mut self) -> Vec<u16> {
        let mut packets = Vec::new();
        for delivery in &mut self.waiting {
            if delivery.is_here && delivery.is_logged && delivery.acknowledged.is_none() {
                self.n_sent += 1;
                delivery.acknowledged = Some(self.n_sent);
                packets.push(delivery.packet);
            }
        }
        packets
    }

    /// Whether a ping would tell anything; it is sent then.
    pub fn ping(&mut self) -> bool {
        let is_open = self.waiting.iter().any(|delivery| delivery.is_here && delivery.acknowledged.is_some());
        let is_due = is_open && self.pinged.is_none();
        if is_due {
            self.pinged = Some(self.n_sent);
        }
        is_due
    }

    /// A ping was answered: the broker has what was sent before.
    pub fn pong(&mut self) {
        let Some(pinged) = self.pinged.take() else { return };
        let mut has_new = false;
        let before = self.waiting.len();
        self.waiting.retain(|delivery| {
            let is_over = delivery.is_here && delivery.acknowledged.is_some_and(|nth| nth <= pinged);
            has_new |= is_over && delivery.is_new;
            !is_over
        });
        self.numbers.some_are_free |= self.waiting.len() < before;
        if has_new {
            // What was to come again has come before what is new.
            self.waiting.retain(|delivery| delivery.is_here || !delivery.is_logged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: u64 = 7;
    const SESSION: u64 = 17;
    const IN_FLIGHT: u16 = 10;

    fn of_session() -> Deliveries {
        Deliveries::new(SESSION, IN_FLIGHT)
    }

    /// Takes messages that are new, as rows from an offset on.
    fn take(deliveries: &mut Deliveries, packets: impl IntoIterator<Item = u16>, first: u64) {
        for (packet, offset) in packets.into_iter().zip(first..) {
            assert_eq!(deliveries.arrived(packet, false, HASH), Arrived::New);
            deliveries.taken(packet, false, HASH, offset);
        }
    }

    /// Of a broker that is known to count up to 3, whose message 3 is row 102 and acknowledged.
    fn counted() -> Deliveries {
        let mut deliveries = of_session();
        deliveries.connected(false);
        take(&mut deliveries, [1, 2], 100);
        deliveries.logged(102);
        assert_eq!(deliveries.take_acknowledgeable(), [1, 2]);
        assert!(deliveries.ping() && !deliveries.ping());
        deliveries.pong();
        assert!(deliveries.waiting.is_empty() && !deliveries.ping());
        take(&mut deliveries, [3], 102);
        deliveries.logged(103);
        assert_eq!(deliveries.take_acknowledgeable(), [3]);
        deliveries
    }

    #[test]
    fn what_is_acknowledged_is_what_is_logged_and_here() {
        let mut deliveries = of_session();
        deliveries.connected(false);
        take(&mut deliveries, 1..=4, 100);
        assert!(deliveries.take_acknowledgeable().is_empty());
        deliveries.logged(102);
        assert_eq!(deliveries.take_acknowledgeable(), [1, 2]);
        assert!(deliveries.take_acknowledgeable().is_empty());
        deliveries.connected(true);
        deliveries.logged(104);
        assert!(deliveries.take_acknowledgeable().is_empty(), "3 and 4 have not come on this connection");
        assert_eq!(deliveries.arrived(3, true, HASH), Arrived::Logged);
        assert_eq!(deliveries.arrived(4, true, HASH), Arrived::Logged);
    }

    #[test]
    fn a_row_that_waits_to_be_logged_is_acknowledged_on_the_new_connection() {
        let mut deliveries = of_session();
        deliveries.connected(false);
        take(&mut deliveries, [1, 2], 100);
        deliveries.connected(true);
        assert_eq!(deliveries.arrived(1, true, HASH), Arrived::Waits);
        deliveries.logged(102);
        assert_eq!(deliveries.take_acknowledgeable(), [1]);
    }

    #[test]
    fn what_is_delivered_again_after_a_kill_is_known() {
        let mut killed = of_session().restore(Some(&counted().detail(103)));
        killed.connected(true);
        assert_eq!(killed.arrived(3, true, HASH), Arrived::Logged);
        // Other content, another number, not marked, or not logged: a row of its own.
        for (packet, is_again, hash) in [(3, true, 8), (4, true, HASH), (3, false, HASH)] {
            let mut killed = of_session().restore(Some(&counted().detail(103)));
            killed.connected(true);
            assert_eq!(killed.arrived(packet, is_again, hash), Arrived::New, "{packet} {is_again} {hash}");
        }
        let mut killed = of_session().restore(Some(&counted().detail(102)));
        killed.connected(true);
        assert_eq!(killed.arrived(3, true, HASH), Arrived::New);
    }

    #[test]
    fn a_session_that_the_broker_has_lost_says_nothing() {
        let mut killed = of_session().restore(Some(&counted().detail(103)));
        assert!(!killed.connected(false), "it was subscribed to nothing");
        assert_eq!(killed.arrived(3, true, HASH), Arrived::New);
        killed.topics = vec!["a".into()];
        assert!(!killed.connected(true) && killed.connected(false) && !killed.connected(false));
        assert!(of_session().restore(Some("17")).waiting.is_empty());
    }

    #[test]
    fn a_number_that_may_be_another_messages_is_not_relied_on() {
        for given_next in [2, 3] {
            let mut reused = counted();
            take(&mut reused, [given_next], 103);
            reused.logged(104);
            assert_eq!(reused.take_acknowledgeable(), [given_next]);
            reused.connected(true);
            assert_eq!(reused.arrived(given_next, true, HASH), Arrived::New);
        }
        // Nothing is known of how it counts.
        let mut unknown = of_session();
        unknown.connected(false);
        take(&mut unknown, [1, 2], 100);
        unknown.logged(102);
        assert_eq!(unknown.take_acknowledgeable(), [1, 2]);
        unknown.connected(true);
        assert_eq!(unknown.arrived(1, true, HASH), Arrived::New);
    }

    #[test]
    fn after_the_last_number_comes_the_first() {
        let mut deliveries = counted();
        deliveries.numbers.last = Some(65_534);
        take(&mut deliveries, [65_535, 1], 103);
        assert!(deliveries.numbers.tell_apart(IN_FLIGHT));
    }

    #[test]
    fn what_the_broker_has_an_acknowledgement_of_is_forgotten() {
        let mut deliveries = counted();
        assert!(deliveries.ping());
        take(&mut deliveries, [4], 103);
        deliveries.logged(104);
        assert_eq!(deliveries.take_acknowledgeable(), [4]);
        deliveries.pong();
        assert_eq!(deliveries.waiting.iter().map(|delivery| delivery.packet).collect::<Vec<_>>(), [4]);
        // On a new connection the first that is new shows that nothing more comes again.
        deliveries.connected(true);
        take(&mut deliveries, [5, 6], 104);
        deliveries.logged(105);
        assert_eq!(deliveries.take_acknowledgeable(), [5]);
        assert!(deliveries.ping());
        deliveries.pong();
        assert_eq!(deliveries.waiting.iter().map(|delivery| delivery.packet).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_step_back_is_forgotten_when_the_broker_has_counted_on_for_long() {
        let mut deliveries = counted();
        let (mut offset, mut trusted_after) = (103, None);
        for (nth, packet) in (1..=3 * IN_FLIGHT).enumerate() {
            take(&mut deliveries, [packet], offset);
            offset += 1;
            deliveries.logged(offset);
            deliveries.take_acknowledgeable();
            assert!(deliveries.ping());
            deliveries.pong();
            if trusted_after.is_none() && deliveries.numbers.tell_apart(IN_FLIGHT) {
                trusted_after = Some(nth);
            }
        }
        assert_eq!(trusted_after, Some(2 * usize::from(IN_FLIGHT) + 1));
        take(&mut deliveries, [90], offset);
        deliveries.logged(offset + 1);
        assert_eq!(deliveries.take_acknowledgeable(), [90]);
        deliveries.connected(true);
        assert_eq!(deliveries.arrived(90, true, HASH), Arrived::Logged);
    }

    #[test]
    fn a_ring_of_numbers_is_not_relied_on_once_it_is_seen() {
        let mut deliveries = of_session();
        deliveries.connected(false);
        let mut offset = 100;
        for round in 0..5 {
            for packet in 1..=IN_FLIGHT {
                take(&mut deliveries, [packet], offset);
                offset += 1;
                deliveries.logged(offset);
                deliveries.take_acknowledgeable();
                deliveries.ping();
                deliveries.pong();
                assert!(round == 0 || !deliveries.numbers.tell_apart(IN_FLIGHT), "{packet} in round {round}");
            }
        }
    }

    #[test]
    fn a_step_back_ends_what_was_to_come_again() {
        let mut deliveries = counted();
        deliveries.connected(true);
        take(&mut deliveries, [2], 103);
        assert_eq!(deliveries.waiting.iter().map(|delivery| delivery.packet).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_is_known_of_another_session_says_nothing() {
        let detail = counted().detail(103);
        assert_eq!(of_session().restore(Some(&detail)).waiting.len(), 1);
        let other = Deliveries::new(SESSION + 1, IN_FLIGHT).restore(Some(&detail));
        assert!(other.waiting.is_empty() && other.topics.is_empty() && other.numbers == Numbers::default());
    }

    #[test]
    fn what_is_left_out_may_come_again_and_is_left_out_again() {
        let mut deliveries = counted();
        assert_eq!(deliveries.arrived(4, false, 8), Arrived::New);
        deliveries.left_out(4, 8);
        assert!(deliveries.take_acknowledgeable().is_empty());
        let mut killed = of_session().restore(Some(&deliveries.detail(103)));
        for deliveries in [&mut deliveries, &mut killed] {
            deliveries.connected(true);
            assert_eq!(deliveries.arrived(4, true, 8), Arrived::Logged);
        }
    }
}
