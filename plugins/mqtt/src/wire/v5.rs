//! Version 5.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Login, Packet,
    PingReq, PubAck, Publish, RetainForwardRule, Subscribe, SubscribeReasonCode, UnsubAckReason, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error, QoS};

use super::{Closed, Granted, Hello, Incoming, LARGEST_PACKET, Message, Outgoing, Refusal, too_large};

pub(super) fn packet(outgoing: &Outgoing<'_>) -> Packet {
    match outgoing {
        Outgoing::Connect(hello) => connect(hello),
        Outgoing::Subscribe(subscription) => {
            let filters = subscription.topics.iter().map(|topic| filter(topic)).collect();
            Packet::Subscribe(Subscribe { pkid: 1, filters, properties: None })
        }
        Outgoing::Unsubscribe(subscription) => {
            Packet::Unsubscribe(Unsubscribe { pkid: 2, filters: subscription.topics.to_vec(), properties: None })
        }
        Outgoing::Ack(packet) => Packet::PubAck(PubAck::new(*packet, None)),
        Outgoing::Ping => Packet::PingReq(PingReq),
        Outgoing::Disconnect => Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)),
    }
}

fn connect(hello: &Hello) -> Packet {
    let Hello { client_id, user, password, keep_alive, is_clean, session_expiry, in_flight } = hello.clone();
    let properties = ConnectProperties {
        session_expiry_interval: Some(session_expiry),
        receive_maximum: Some(in_flight),
        max_packet_size: Some(LARGEST_PACKET as u32),
        ..ConnectProperties::new()
    };
    let connect = Connect { keep_alive, client_id, clean_start: is_clean, properties: Some(properties) };
    Packet::Connect(connect, None, (!user.is_empty()).then(|| Login::new(user, password)))
}

fn filter(topic: &str) -> Filter {
    // What is retained comes once, not at every connection.
    let retain_forward_rule = RetainForwardRule::OnNewSubscribe;
    Filter { retain_forward_rule, ..Filter::new(topic, QoS::AtLeastOnce) }
}

pub(super) fn read(from: &mut BytesMut) -> Result<Option<Incoming>, String> {
    if let Some(refusal) = short_refusal(from) {
        return Ok(Some(Incoming::Refused(refusal)));
    }
    if let Some(closed) = short_disconnect(from) {
        return Ok(Some(Incoming::Closed(closed)));
    }
    let packet = match Packet::read(from, Some(LARGEST_PACKET as u32)) {
        Ok(packet) => packet,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(Error::PayloadSizeLimitExceeded { pkt_size, .. }) => return Err(too_large(pkt_size)),
        Err(error) => return Err(error.to_string()),
    };
    Ok(Some(match packet {
        Packet::ConnAck(answer) => connected(&answer),
        Packet::SubAck(answer) => Incoming::Subscribed(answer.return_codes.iter().map(granted).collect()),
        Packet::UnsubAck(answer) => Incoming::Unsubscribed(answer.reasons.iter().map(is_unsubscribed).collect()),
        Packet::Publish(publish) => Incoming::Message(message(publish)),
        Packet::PingResp(_) => Incoming::Pong,
        Packet::Disconnect(disconnect) => Incoming::Closed(closed(disconnect.reason_code)),
        _ => Incoming::Other,
    }))
}

/// The answer of a broker that speaks version 3.1.1 alone: it has no properties, and codes of its own.
fn short_refusal(from: &mut BytesMut) -> Option<Refusal> {
    let refusal = match *from.as_ref() {
        [0x20, 2, _, 1, ..] => Refusal::Version,
        [0x20, 2, _, 2, ..] => Refusal::ClientId,
        [0x20, 2, _, 4 | 5, ..] => Refusal::Login,
        [0x20, 2, _, code, ..] if code != 0 => Refusal::Later("the service is not available".into()),
        _ => return None,
    };
    let _ = from.split_to(4);
    Some(refusal)
}

/// A DISCONNECT without properties, which the codec takes for one that is cut off.
fn short_disconnect(from: &mut BytesMut) -> Option<Closed> {
    let (code, length) = match *from.as_ref() {
        [0xe0, 0, ..] => (DisconnectReasonCode::NormalDisconnection, 2),
        [0xe0, 1, code, ..] => (code.try_into().unwrap_or(DisconnectReasonCode::UnspecifiedError), 3),
        _ => return None,
    };
    let _ = from.split_to(length);
    Some(closed(code))
}

fn closed(code: DisconnectReasonCode) -> Closed {
    match code {
        DisconnectReasonCode::SessionTakenOver => Closed::TakenOver,
        code => Closed::Other(words(code)),
    }
}

/// `ServerShuttingDown` becomes `server shutting down`.
fn words(code: impl std::fmt::Debug) -> String {
    let name = format!("{code:?}");
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn connected(answer: &ConnAck) -> Incoming {
    Incoming::Refused(match answer.code {
        ConnectReturnCode::Success => {
            let properties = answer.properties.as_ref();
            return Incoming::Connected {
                has_session: answer.session_present,
                keep_alive: properties.and_then(|properties| properties.server_keep_alive),
                session_expiry: properties.and_then(|properties| properties.session_expiry_interval),
            };
        }
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => Refusal::Version,
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => Refusal::ClientId,
        ConnectReturnCode::BadUserNamePassword
        | ConnectReturnCode::NotAuthorized
        | ConnectReturnCode::Banned
        | ConnectReturnCode::BadAuthenticationMethod => Refusal::Login,
        code => Refusal::Later(words(code)),
    })
}

fn granted(code: &SubscribeReasonCode) -> Granted {
    match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => Granted::AtMostOnce,
        SubscribeReasonCode::Success(_) => Granted::AtLeastOnce,
        _ => Granted::No,
    }
}

fn is_unsubscribed(reason: &UnsubAckReason) -> bool {
    matches!(reason, UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted)
}

fn message(publish: Publish) -> Message {
    let packet = (publish.qos != QoS::AtMostOnce).then_some(publish.pkid);
    Message {
        packet,
        is_again: publish.dup,
        is_retained: publish.retain,
        is_exactly_once: publish.qos == QoS::ExactlyOnce,
        topic: publish.topic,
        payload: publish.payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_version_3_alone_refuses_in_it() {
        for (code, said) in [
            (1, Refusal::Version),
            (2, Refusal::ClientId),
            (3, Refusal::Later("the service is not available".into())),
            (4, Refusal::Login),
            (5, Refusal::Login),
        ] {
            let mut from = BytesMut::from([0x20, 2, 0, code].as_slice());
            assert_eq!(read(&mut from), Ok(Some(Incoming::Refused(said))));
            assert!(from.is_empty());
        }
        assert_eq!(read(&mut BytesMut::from(b"\x20\x02\x00".as_slice())), Ok(None));
    }

    #[test]
    fn a_reason_is_said_in_words() {
        for (bytes, said) in [
            (b"\xe0\x00".as_slice(), Closed::Other("normal disconnection".into())),
            (b"\xe0\x01\x8b", Closed::Other("server shutting down".into())),
            (b"\xe0\x02\x8e\x00", Closed::TakenOver),
            (b"\xe0\x01\x8e", Closed::TakenOver),
        ] {
            let mut from = BytesMut::from(bytes);
            assert_eq!(read(&mut from), Ok(Some(Incoming::Closed(said))));
            assert!(from.is_empty());
        }
        assert_eq!(read(&mut BytesMut::from(b"\xe0\x01".as_slice())), Ok(None));
    }
}
