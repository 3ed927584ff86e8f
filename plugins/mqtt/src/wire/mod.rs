//! What goes over the connection, the same for both versions of the protocol.

mod v3;
mod v5;

use bytes::{Bytes, BytesMut};
use pipeline_stage::StageError;

/// The largest packet that is read: a broker that sends more than this has not been sent a reading. In version 5 it is told
/// so, and drops what is larger.
pub const LARGEST_PACKET: usize = 64 << 20;

/// What can be done about a larger one.
fn too_large(bytes: usize) -> String {
    format!(
        "it has {bytes} bytes, more than 64 MiB: let the broker keep such messages away, as Mosquitto does with \
         `max_packet_size` or `message_size_limit`"
    )
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.
    V5,
}

/// How a client introduces itself.
#[derive(Debug, Clone)]
pub struct Hello {
    /// What the broker keeps the session under.
    pub client_id: String,
    /// Who it is.
    pub user: String,
    /// What proves that.
    pub password: String,
    /// In seconds: something comes from it at least so often.
    pub keep_alive: u16,
    /// Whether a former session is dropped.
    pub is_clean: bool,
    /// In seconds, how long the broker keeps the session without a connection. Version 3.1.1 cannot say it.
    pub session_expiry: u32,
    /// How many messages may be unacknowledged. Version 3.1.1 cannot say it.
    pub in_flight: u16,
}

/// A filter to subscribe to, or none of them any more.
#[derive(Debug)]
pub struct Subscription<'t> {
    /// The filters.
    pub topics: &'t [String],
}

/// What a client sends.
#[derive(Debug)]
pub enum Outgoing<'t> {
    /// First of all.
    Connect(&'t Hello),
    /// Under the number 1.
    Subscribe(Subscription<'t>),
    /// Under the number 2.
    Unsubscribe(Subscription<'t>),
    /// The message of this number is acknowledged.
    Ack(u16),
    /// Asks for a [`Incoming::Pong`].
    Ping,
    /// The end.
    Disconnect,
}

/// What a broker sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The session begins.
    Connected {
        /// Whether it goes on with an earlier one.
        has_session: bool,
        /// In seconds, if the broker wants another one than it was told.
        keep_alive: Option<u16>,
        /// In seconds, how long it keeps the session without a connection, if it is not as long as it was told.
        session_expiry: Option<u32>,
    },
    /// It does not.
    Refused(Refusal),
    /// What has become of each filter, in their order.
    Subscribed(Vec<Granted>),
    /// Whether each filter is one no more, in their order; version 3.1.1 says nothing of it, nor can it refuse.
    Unsubscribed(Vec<bool>),
    /// A message.
    Message(Message),
    /// The answer to [`Outgoing::Ping`]: what was sent before has been looked at.
    Pong,
    /// The broker ends the connection; only version 5 says so.
    Closed(Closed),
    /// Nothing that matters here.
    Other,
}

/// Why a broker refuses a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Of who it is.
    Login,
    /// It does not speak this version.
    Version,
    /// It does not take the client id.
    ClientId,
    /// It may do later; what it says.
    Later(String),
}

/// What has become of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Its messages come and are to be acknowledged.
    AtLeastOnce,
    /// Its messages come, and are lost when something breaks.
    AtMostOnce,
    /// Refused.
    No,
}

/// Why a broker ends a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Closed {
    /// Somebody else has connected with the same client id.
    TakenOver,
    /// What it says.
    Other(String),
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The number by which it is acknowledged; none for one that is not.
    pub packet: Option<u16>,
    /// Whether the broker has sent it before, under the same number.
    pub is_again: bool,
    /// In version 3.1.1: it was there already, and comes because somebody subscribes.
    pub is_retained: bool,
    /// QoS 2, for which we never ask.
    pub is_exactly_once: bool,
    /// Where it was published.
    pub topic: Bytes,
    /// What was.
    pub payload: Bytes,
}

impl Version {
    /// Appends a packet.
    pub fn write(self, outgoing: &Outgoing<'_>, to: &mut BytesMut) -> Result<(), StageError> {
        let written = match self {
            Version::V3 => v3::packet(outgoing).write(to, usize::MAX).map(|_| ()).map_err(|error| error.to_string()),
            Version::V5 => v5::packet(outgoing).write(to, None).map(|_| ()).map_err(|error| error.to_string()),
        };
        written.map_err(|why| StageError::fatal(format!("a packet cannot be written: {why}")))
    }

    /// Takes the next packet, if all of it is there.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn read(self, from: &mut BytesMut) -> Result<Option<Incoming>, String> {
        let before = from.len();
        let read = match self {
            Version::V3 => v3::read(from),
            Version::V5 => v5::read(from),
        };
        match read {
            // The codec says that something is missing also of a packet that is there and too short for what is in it.
            Ok(None) if from.len() < before => Err("it is shorter than it says".into()),
            read => read,
        }
    }

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V3 => "3.1.1",
            Version::V5 => "5",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn hello() -> Hello {
        Hello {
            client_id: "a".into(),
            user: String::new(),
            password: String::new(),
            keep_alive: 30,
            is_clean: false,
            session_expiry: 60,
            in_flight: 10,
        }
    }

    fn message(version: Version, first: u8) -> Vec<u8> {
        let properties: &[u8] = match version {
            Version::V3 => &[],
            Version::V5 => &[0],
        };
        let body = [b"\0\x03a/b\0\x07".as_slice(), properties, b"hot"].concat();
        [&[first, body.len() as u8], body.as_slice()].concat()
    }

    #[test]
    fn a_packet_is_taken_when_all_of_it_is_there() {
        for version in [Version::V3, Version::V5] {
            let bytes = message(version, 0x3a);
            let mut from = BytesMut::new();
            for byte in &bytes[..bytes.len() - 1] {
                from.extend_from_slice(&[*byte]);
                assert_eq!(version.read(&mut from), Ok(None));
            }
            from.extend_from_slice(&[bytes[bytes.len() - 1], 0xd0, 0]);
            let topic = Bytes::from_static(b"a/b");
            let read = Message {
                packet: Some(7),
                is_again: true,
                is_retained: false,
                is_exactly_once: false,
                topic,
                payload: Bytes::from_static(b"hot"),
            };
            assert_eq!(version.read(&mut from), Ok(Some(Incoming::Message(read))));
            assert_eq!(version.read(&mut from), Ok(Some(Incoming::Pong)));
            assert_eq!(version.read(&mut from), Ok(None));
        }
    }

    #[test]
    fn how_a_message_was_sent_is_read() {
        for (first, is_again, is_retained, is_exactly_once) in [
            (0x32, false, false, false),
            (0x33, false, true, false),
            (0x34, false, false, true),
            (0x3b, true, true, false),
        ] {
            for version in [Version::V3, Version::V5] {
                let read = version.read(&mut BytesMut::from(message(version, first).as_slice()));
                let Ok(Some(Incoming::Message(read))) = read else { panic!("{read:?}") };
                let flags = (read.is_again, read.is_retained, read.is_exactly_once);
                assert_eq!(flags, (is_again, is_retained, is_exactly_once), "{version:?} {first:x}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_kept_away_by_the_broker() {
        for version in [Version::V3, Version::V5] {
            let words = version.read(&mut BytesMut::from(b"\x32\x81\x80\x80\x20".as_slice())).unwrap_err();
            assert!(words.starts_with("it has 67108865 bytes") && words.contains("`max_packet_size`"), "{words}");
        }
        let hello = hello();
        let mut sent = BytesMut::new();
        Version::V5.write(&Outgoing::Connect(&hello), &mut sent).unwrap();
        let maximum = b"\x27\x04\0\0\0";
        assert!(sent.windows(maximum.len()).any(|bytes| bytes == maximum), "{sent:?}");
    }

    #[test]
    fn a_topic_that_stays_subscribed_is_told_apart() {
        for (version, bytes, read) in [
            (Version::V3, b"\xb0\x02\0\x02".as_slice(), vec![]),
            (Version::V5, b"\xb0\x06\0\x02\0\0\x11\x87", vec![true, true, false]),
        ] {
            assert_eq!(version.read(&mut BytesMut::from(bytes)), Ok(Some(Incoming::Unsubscribed(read))));
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for (version, bytes) in [
            (Version::V3, b"\x32\x02\0\x05".as_slice()),
            (Version::V5, b"\x32\x02\0\x05"),
            (Version::V5, b"\x32\x05\0\x01a\0\x07"),
            (Version::V3, b"\x30\xff\xff\xff\xff\x01"),
            (Version::V3, b"\x30\xff\xff\xff\x7f"),
            (Version::V5, b"\x30\xff\xff\xff\x7f"),
            (Version::V3, b"\x20\x02\0\x63"),
            (Version::V5, b"\x20\x02\0\0"),
        ] {
            let read = version.read(&mut BytesMut::from(bytes));
            assert!(read.is_err(), "{version:?} {bytes:?}: {read:?}");
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_refused() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let kinds = [0x20, 0x30, 0x32, 0x90, 0xb0, 0xd0, 0xe0, 0x40];
            let length = (random >> 40) as u8 % 24;
            let body = (0..length).map(|nth| (random.rotate_left(u32::from(nth) * 7) >> 24) as u8 % 48);
            let bytes: Vec<u8> = [kinds[(random >> 33) as usize % 8], length].into_iter().chain(body).collect();
            for version in [Version::V3, Version::V5] {
                let mut from = BytesMut::from(bytes.as_slice());
                while let Ok(Some(_)) = version.read(&mut from) {}
            }
        }
    }
}
