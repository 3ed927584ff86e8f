//! A client that publishes with QoS 1 and knows what was acknowledged.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Login, Packet, Publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A broker that has not answered by then will not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

const LARGEST: usize = 1 << 20;

/// A client that publishes.
pub struct Publisher {
    address: String,
    client_id: String,
    login: Option<Login>,
    stream: Option<BufStream<TcpStream>>,
    packet: u16,
}

impl Publisher {
    pub(super) fn new(address: String, client_id: &str) -> Self {
        Publisher { address, client_id: client_id.to_owned(), login: None, stream: None, packet: 0 }
    }

    /// The same for a broker that asks for a name.
    pub fn named(self, user: &str, password: &str) -> Self {
        Publisher { login: Some(Login::new(user, password)), ..self }
    }

    /// Publishes; true when the broker has acknowledged it, false when it is not known whether it has it.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> bool {
        self.packet = self.packet % u16::MAX + 1;
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = self.packet;
        self.send(publish).await
    }

    /// Publishes what the broker keeps for whoever subscribes later.
    pub async fn retain(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> bool {
        self.packet = self.packet % u16::MAX + 1;
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        (publish.pkid, publish.retain) = (self.packet, true);
        self.send(publish).await
    }

    /// Publishes with QoS 0, which nobody acknowledges.
    pub async fn publish_unsafely(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        let sent = async {
            let publish = Packet::Publish(Publish::new(topic, QoS::AtMostOnce, payload));
            write(self.stream().await?, &publish).await
        };
        sent.await.expect("the broker is there");
    }

    async fn send(&mut self, publish: Publish) -> bool {
        let sent = async {
            let packet = publish.pkid;
            let stream = self.stream().await?;
            write(stream, &Packet::Publish(publish)).await?;
            loop {
                if matches!(read(stream).await?, Packet::PubAck(ack) if ack.pkid == packet) {
                    return Some(());
                }
            }
        };
        let is_sent = matches!(timeout(ANSWERS_WITHIN, sent).await, Ok(Some(())));
        if !is_sent {
            self.stream = None;
        }
        is_sent
    }

    async fn stream(&mut self) -> Option<&mut BufStream<TcpStream>> {
        if self.stream.is_none() {
            let mut stream = BufStream::new(TcpStream::connect(&self.address).await.ok()?);
            let connect = Connect { login: self.login.clone(), ..Connect::new(&self.client_id) };
            write(&mut stream, &Packet::Connect(connect)).await?;
            read(&mut stream).await?;
            self.stream = Some(stream);
        }
        self.stream.as_mut()
    }
}

async fn write(stream: &mut BufStream<TcpStream>, packet: &Packet) -> Option<()> {
    let mut bytes = bytes::BytesMut::new();
    packet.write(&mut bytes, LARGEST).expect("it is small");
    stream.write_all(&bytes).await.ok()?;
    stream.flush().await.ok()
}

/// None when there is no more.
async fn read(stream: &mut BufStream<TcpStream>) -> Option<Packet> {
    let mut bytes = bytes::BytesMut::new();
    loop {
        // What answers it is a few bytes, and nothing follows before the next one is sent.
        bytes.extend_from_slice(&[stream.read_u8().await.ok()?]);
        match Packet::read(&mut bytes, LARGEST) {
            Ok(packet) => return Some(packet),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
            Err(error) => panic!("Mosquitto has answered with what is no packet: {error}"),
        }
    }
}
