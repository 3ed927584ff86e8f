//! Who is let in at a real Mosquitto, and what is said of who is not.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use pipeline_services::{Certificates, Mosquitto, eventually, free_address, write_passwords};
use pipeline_stage::{ErrorKind, Position, StageError};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubRel, Publish, Subscribe};
use serde_json::{Value, json};

use support::{FROM, SOON, Subscribed, VERSIONS, options, row, try_build};

async fn refusal(options: Value) -> StageError {
    let refused = Subscribed::try_start(options, &Position::at(FROM)).await;
    refused.err().expect("it is not let in")
}

#[tokio::test]
async fn a_password_is_needed_where_the_broker_wants_one() {
    let folder = tempfile::tempdir().unwrap();
    let (passwords, rights) = (folder.path().join("passwords"), folder.path().join("rights"));
    write_passwords(&passwords, &[("reader", "right")]);
    std::fs::write(&rights, "user reader\ntopic read plant/#\n").unwrap();
    let (passwords, rights) =
        (format!("password_file {}", passwords.display()), format!("acl_file {}", rights.display()));
    let mosquitto = Mosquitto::start_with(&["allow_anonymous false", &passwords, &rights]).await;
    for version in VERSIONS {
        let with = |more: Value| {
            let mut with = options(&mosquitto, json!({ "version": version }));
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            with
        };
        let address = mosquitto.address();
        for (more, words) in [
            (
                json!({}),
                format!(
                    "the broker {address} lets nobody in without a name: `user` and `password`, or `tls_certificate`, \
                     say it"
                ),
            ),
            (
                json!({ "user": "reader", "password": "wrong" }),
                format!(
                    "the broker {address} does not let `reader` in: `password` is wrong, or the user may not connect as \
                     `pipeline-iot-readings`"
                ),
            ),
        ] {
            let error = refusal(with(more.clone())).await;
            assert_eq!((error.kind(), error.chain()), (ErrorKind::Fatal, words.clone()));
            let checked = try_build(with(more)).unwrap().check().await;
            assert_eq!(checked[0].chain().split(" or the user").next(), words.split(" or the user").next());
        }
        let right = with(json!({ "user": "reader", "password": "right" }));
        assert!(try_build(right.clone()).unwrap().check().await.is_empty());
        Subscribed::start(right).await.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_may_come_later() {
    let url = format!("mqtt://{}", free_address());
    let error = refusal(json!({ "url": url, "topics": "a" })).await;
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.chain().contains("cannot be reached: "), "{}", error.chain());
}

#[tokio::test]
async fn the_connection_may_be_encrypted_both_ways() {
    let certificates = Certificates::make();
    let mosquitto = Mosquitto::start_encrypted(&certificates).await;
    let file = |name: &str| certificates.file(name).display().to_string();
    for version in VERSIONS {
        let trusting = json!({ "url": mosquitto.tls_url(), "version": version, "tls_ca": file("ca.pem") });
        let mut shown = trusting.clone();
        shown["tls_certificate"] = json!(file("client.pem"));
        shown["tls_key"] = json!(file("client.key"));
        let mut it = Subscribed::start(options(&mosquitto, shown.clone())).await;
        assert!(mosquitto.publisher("sensor").await.publish("plant/a", version).await);
        assert_eq!(it.rows(1).await, [row("plant/a", version)]);
        it.logged().await;
        it.stop().await;

        let error = refusal(options(&mosquitto, json!({ "url": mosquitto.tls_url(), "version": version }))).await;
        assert_eq!(error.kind(), ErrorKind::Fatal, "{}", error.chain());
        assert!(error.chain().contains("no encrypted connection"), "{}", error.chain());
        let error = refusal(options(&mosquitto, trusting)).await;
        let is_told = error.chain().to_lowercase().contains("certificaterequired");
        assert!(error.kind() == ErrorKind::Fatal && is_told, "{}", error.chain());
        shown["tls_key"] = json!(file("broker.key"));
        let error = refusal(options(&mosquitto, shown)).await;
        assert_eq!((error.kind(), error.option()), (ErrorKind::Config, Some("tls_key")));
    }
}

#[tokio::test]
async fn a_check_does_not_put_out_who_runs() {
    let mut mosquitto = Mosquitto::start().await;
    let mut it = Subscribed::start(options(&mosquitto, json!({}))).await;
    assert!(try_build(options(&mosquitto, json!({}))).unwrap().check().await.is_empty());
    assert!(mosquitto.publisher("sensor").await.publish("plant/a", "1").await);
    assert_eq!(it.rows(1).await, [row("plant/a", "1")]);
    mosquitto.stop().await;
    let mut source = try_build(options(&mosquitto, json!({}))).unwrap();
    eventually(SOON, "the check finds nobody", async || {
        source.check().await.first().is_some_and(|error| error.kind() == ErrorKind::Transient)
    })
    .await;
    it.stop().await;
}

/// Sends packets of version 3.1.1, each when the one before was answered.
fn say(mosquitto: &Mosquitto, client_id: &str, packets: &[Packet]) {
    let mut stream = TcpStream::connect(mosquitto.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let connect = Connect { clean_session: false, ..Connect::new(client_id) };
    for packet in [&[Packet::Connect(connect)], packets].concat() {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        stream.write_all(&bytes).unwrap();
        assert!(0 < stream.read(&mut [0; 64]).unwrap(), "{packet:?} is answered");
    }
}

#[tokio::test]
async fn a_session_of_somebody_else_who_wants_each_message_exactly_once_is_refused() {
    let mosquitto = Mosquitto::start().await;
    for version in VERSIONS {
        let id = format!("shared-{version}");
        let subscribe = Subscribe { pkid: 1, ..Subscribe::new("plant/+", QoS::ExactlyOnce) };
        say(&mosquitto, &id, &[Packet::Subscribe(subscribe)]);
        let publish = Publish { pkid: 1, ..Publish::new("plant/a", QoS::ExactlyOnce, "1") };
        say(&mosquitto, "sensor", &[Packet::Publish(publish), Packet::PubRel(PubRel::new(1))]);
        let error = refusal(options(&mosquitto, json!({ "version": version, "client_id": id }))).await;
        let words = format!(
            "the broker {} sends `plant/a` with QoS 2, which somebody else has subscribed to as `{id}`: another \
             `client_id` begins a session without that subscription",
            mosquitto.address()
        );
        assert_eq!((error.kind(), error.chain()), (ErrorKind::Fatal, words));
    }
}

#[test]
fn refuses_bad_options() {
    for (more, message) in [
        (
            json!({ "url": "localhost" }),
            "`url` is no address of a broker, it would be like `mqtt://localhost:1883` or `mqtts://broker:8883`",
        ),
        (json!({ "topics": [] }), "`topics` is empty, it must name a topic or several"),
        (
            json!({ "topics": "a/#/b" }),
            "`a/#/b` is no topic, it would be like `plant/+/temperature`, `plant/#` or `$share/group/plant/#`",
        ),
        (
            json!({ "topics": "$share//a" }),
            "`$share//a` is no topic, it would be like `plant/+/temperature`, `plant/#` or `$share/group/plant/#`",
        ),
        (json!({ "version": 3 }), "`3` is no version of MQTT, it must be `5` or `3.1.1`"),
        (json!({ "client_id": "" }), "`client_id` is empty: the broker keeps the session under it"),
        (json!({ "password": "x" }), "`password` is there without `user`"),
        (json!({ "in_flight": 0 }), "`in_flight` is 0, it must be 1 to 10000"),
        (json!({ "keep_alive": "0s" }), "`keep_alive` is 0s, it must be 1s to 65535s"),
        (json!({ "tls_ca": "ca.pem" }), "`tls_ca` needs TLS: `url` must begin with `mqtts://`"),
        (json!({ "url": "mqtts://a", "tls_key": "k" }), "`tls_key` needs `tls_certificate`"),
        (json!({ "url": "mqtts://a", "tls_certificate": "c" }), "`tls_certificate` needs `tls_key`"),
    ] {
        let mut options = json!({ "url": "mqtt://localhost", "topics": "plant/#" });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = try_build(options).err().expect("bad options");
        assert!(error.to_string().contains(message), "{error}");
    }
}
