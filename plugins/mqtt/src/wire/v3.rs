//! Version 3.1.1.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Login, Packet, PubAck, Publish, Subscribe, SubscribeFilter,
    SubscribeReasonCode, Unsubscribe,
};
use rumqttc::mqttbytes::{Error, Protocol, QoS};

use super::{Granted, Hello, Incoming, LARGEST_PACKET, Message, Outgoing, Refusal, too_large};

pub(super) fn packet(outgoing: &Outgoing<'_>) -> Packet {
    match outgoing {
        Outgoing::Connect(hello) => Packet::Connect(connect(hello)),
        Outgoing::Subscribe(subscription) => {
            let filters = subscription.topics.iter();
            let filters = filters.map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce)).collect();
            Packet::Subscribe(Subscribe { pkid: 1, filters })
        }
        Outgoing::Unsubscribe(subscription) => {
            Packet::Unsubscribe(Unsubscribe { pkid: 2, topics: subscription.topics.to_vec() })
        }
        Outgoing::Ack(packet) => Packet::PubAck(PubAck::new(*packet)),
        Outgoing::Ping => Packet::PingReq,
        Outgoing::Disconnect => Packet::Disconnect,
    }
}

fn connect(hello: &Hello) -> Connect {
    let Hello { client_id, user, password, keep_alive, is_clean, .. } = hello.clone();
    let login = (!user.is_empty()).then(|| Login::new(user, password));
    Connect { protocol: Protocol::V4, keep_alive, client_id, clean_session: is_clean, last_will: None, login }
}

pub(super) fn read(from: &mut BytesMut) -> Result<Option<Incoming>, String> {
    let packet = match Packet::read(from, LARGEST_PACKET) {
        Ok(packet) => packet,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(Error::PayloadSizeLimitExceeded(bytes)) => return Err(too_large(bytes)),
        Err(error) => return Err(error.to_string()),
    };
    Ok(Some(match packet {
        Packet::ConnAck(answer) => connected(&answer),
        Packet::SubAck(answer) => Incoming::Subscribed(answer.return_codes.iter().map(granted).collect()),
        Packet::UnsubAck(_) => Incoming::Unsubscribed(Vec::new()),
        Packet::Publish(publish) => Incoming::Message(message(publish)),
        Packet::PingResp => Incoming::Pong,
        _ => Incoming::Other,
    }))
}

fn connected(answer: &ConnAck) -> Incoming {
    Incoming::Refused(match answer.code {
        ConnectReturnCode::Success => {
            return Incoming::Connected { has_session: answer.session_present, keep_alive: None, session_expiry: None };
        }
        ConnectReturnCode::RefusedProtocolVersion => Refusal::Version,
        ConnectReturnCode::BadClientId => Refusal::ClientId,
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => Refusal::Login,
        ConnectReturnCode::ServiceUnavailable => Refusal::Later("the service is not available".into()),
    })
}

fn granted(code: &SubscribeReasonCode) -> Granted {
    match code {
        SubscribeReasonCode::Success(QoS::AtMostOnce) => Granted::AtMostOnce,
        SubscribeReasonCode::Success(_) => Granted::AtLeastOnce,
        SubscribeReasonCode::Failure => Granted::No,
    }
}

fn message(publish: Publish) -> Message {
    let packet = (publish.qos != QoS::AtMostOnce).then_some(publish.pkid);
    Message {
        packet,
        is_again: publish.dup,
        is_retained: publish.retain,
        is_exactly_once: publish.qos == QoS::ExactlyOnce,
        topic: Bytes::from(publish.topic),
        payload: publish.payload,
    }
}
