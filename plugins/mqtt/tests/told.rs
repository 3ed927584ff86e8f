//! What people are told of a session that is less than was asked for, at a real Mosquitto.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod support;

use std::net::SocketAddr;
use std::sync::LazyLock;

use bytes::BytesMut;
use pipeline_services::Mosquitto;
use pipeline_testkit::LogLines;
use rumqttc::mqttbytes::v4::{Connect, Packet};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use support::{SOON, Subscribed, VERSIONS, options, row};

/// Of all threads: a connection has its own.
static LOG: LazyLock<LogLines> = LazyLock::new(|| {
    let log = LogLines::default();
    tracing::subscriber::set_global_default(log.clone()).expect("nobody else has set one");
    log
});

/// A client of the same name that wants no session: the broker throws away the one that there is.
async fn ends_session(mosquitto: &Mosquitto, client_id: &str) {
    let mut stream = TcpStream::connect(mosquitto.address()).await.unwrap();
    let mut bytes = BytesMut::new();
    Packet::Connect(Connect::new(client_id)).write(&mut bytes, usize::MAX).unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0], "it is let in, to a session that is new");
    bytes.clear();
    Packet::Disconnect.write(&mut bytes, usize::MAX).unwrap();
    stream.write_all(&bytes).await.unwrap();
    timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("the end").unwrap();
}

#[tokio::test]
async fn a_session_that_the_broker_has_lost_is_told_once_and_one_that_it_has_is_not() {
    let told =
        |id: &str| LOG.count(id, "the broker has the session no more: what came for it and was not delivered is lost");
    LazyLock::force(&LOG);
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let client_id = format!("lost-{version}");
        let options = options(&mosquitto, json!({ "version": version, "client_id": client_id }));
        let mut it = Subscribed::start(options.clone()).await;
        assert!(publisher.publish("plant/a", "1").await);
        assert_eq!(it.rows(1).await, [row("plant/a", "1")]);
        let position = it.logged().await;
        it.stop().await;
        Subscribed::start_at(options.clone(), &position).await.stop().await;
        assert_eq!(told(&client_id), 0, "it was the first one, and then it was there");

        ends_session(&mosquitto, &client_id).await;
        assert!(publisher.publish("plant/a", "while nobody kept it").await);
        let mut it = Subscribed::start_at(options, &position).await;
        assert_eq!(told(&client_id), 1);
        assert!(publisher.publish("plant/a", "2").await);
        assert_eq!(it.rows(1).await, [row("plant/a", "2")]);
        it.logged().await;
        it.stop().await;
        assert_eq!(told(&client_id), 1);
    }
}

/// In the answer of a broker to who connects: the session is kept for a minute. Mosquitto, which keeps what it was asked
/// to keep, never says that.
const KEPT_FOR_A_MINUTE: [u8; 5] = [0x11, 0, 0, 0, 60];

/// A way to a broker, on which its first answer says so.
async fn keeps_for_a_minute(broker: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let broker = TcpStream::connect(&broker).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) =
                (client.into_split(), broker.into_split());
            tokio::spawn(async move { copy(&mut from_client, &mut to_broker).await });
            // Kind and length of the packet, flags, code, length of the properties; then they, and nothing else.
            let mut head = [0; 5];
            from_broker.read_exact(&mut head).await.unwrap();
            assert!(head[0] == 0x20 && head[1] < 100, "{head:?}");
            head[1] += KEPT_FOR_A_MINUTE.len() as u8;
            head[4] += KEPT_FOR_A_MINUTE.len() as u8;
            to_client.write_all(&[head.as_slice(), &KEPT_FOR_A_MINUTE].concat()).await.unwrap();
            tokio::spawn(async move { copy(&mut from_broker, &mut to_client).await });
        }
    });
    address
}

#[tokio::test]
async fn a_broker_that_keeps_the_session_for_less_than_was_asked_is_told() {
    LazyLock::force(&LOG);
    let mosquitto = Mosquitto::start().await;
    let address = keeps_for_a_minute(mosquitto.address()).await;
    let less = "the broker keeps the session for 60 s only, `session_expiry` is";
    for (client_id, url, expiry, told) in [
        ("direct", mosquitto.url(), "7d", 0),
        ("as-asked", format!("mqtt://{address}"), "60s", 0),
        ("less", format!("mqtt://{address}"), "61s", 1),
    ] {
        let before = LOG.count("", less);
        let more = json!({ "url": url, "client_id": client_id, "session_expiry": expiry });
        let mut it = Subscribed::start(options(&mosquitto, more)).await;
        assert!(mosquitto.publisher("sensor").await.publish("plant/a", client_id).await);
        assert_eq!(it.rows(1).await, [row("plant/a", client_id)]);
        it.logged().await;
        it.stop().await;
        assert_eq!(LOG.count("", less) - before, told, "{client_id}");
        assert_eq!(LOG.count(&address.to_string(), "`session_expiry` is 61 s"), told);
    }
}
