//! Kafka through TLS, with certificates and with passwords: what OpenSSL is built without must not be missed.
//! `make kafka-tls` runs it, as it needs the feature `tls`.

mod support;

use std::time::{Duration, Instant};

use pipeline_services::{Certificates, EncryptedKafka, Record, unique_name};
use pipeline_stage::Assignment;
use serde_json::{Value, json};
use support::*;

/// How long a client must at least be kept out, and how many times as long as others took to be let in.
const REFUSED_FOR: Duration = Duration::from_secs(3);
const TIMES: u32 = 5;

fn file(certificates: &Certificates, name: &str) -> Value {
    certificates.file(name).display().to_string().into()
}

#[tokio::test]
async fn rows_come_through_tls_to_whom_the_broker_knows() {
    let certificates = Certificates::make();
    let encrypted = EncryptedKafka::start(&certificates).await;
    let file = |name: &str| file(&certificates, name);
    let by_certificate = |more: Value| {
        let mut client = json!({ "security.protocol": "ssl", "ssl.ca.location": file("ca.pem") });
        client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (encrypted.by_certificate.clone(), client)
    };
    let by_password = |password: &str, authority: &str| {
        let client = json!({
            "security.protocol": "sasl_ssl", "ssl.ca.location": file(authority), "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": EncryptedKafka::USER, "sasl.password": password,
        });
        (encrypted.by_password.clone(), client)
    };
    let password = Certificates::PASSWORD;
    let mut slowest = Duration::ZERO;
    for (what, (brokers, client)) in [
        (
            "a certificate",
            by_certificate(
                json!({"ssl.certificate.location": file("client.pem"), "ssl.key.location": file("client.key")}),
            ),
        ),
        (
            "a key behind a password",
            by_certificate(json!({
                "ssl.certificate.location": file("client.pem"), "ssl.key.location": file("client.locked"),
                "ssl.key.password": password,
            })),
        ),
        (
            "PKCS#12",
            by_certificate(json!({"ssl.keystore.location": file("client.p12"), "ssl.keystore.password": password})),
        ),
        (
            "PKCS#12 of long ago",
            by_certificate(json!({
                "ssl.keystore.location": file("client.old.p12"), "ssl.keystore.password": password,
                "ssl.providers": "default,legacy",
            })),
        ),
        (
            "a key on an elliptic curve",
            by_certificate(json!({
                "ssl.certificate.location": file("elliptic.pem"), "ssl.key.location": file("elliptic.key"),
            })),
        ),
        (
            "a key of Ed25519",
            by_certificate(json!({
                "ssl.certificate.location": file("edwards.pem"), "ssl.key.location": file("edwards.key"),
            })),
        ),
        ("a password, by TLS 1.2", by_password(EncryptedKafka::PASSWORD, "ca.pem")),
    ] {
        let topic = unique_name("encrypted");
        encrypted.kafka.create_topic(&topic, 1).await;
        encrypted.kafka.produce(&topic, vec![Record::new("a"), Record::new("b")]).await;
        let setup = Setup::of(&encrypted.kafka, &topic).with("brokers", brokers.into()).with("client", client).once();
        let began = Instant::now();
        let mut source = setup.build();
        let mut reader = open_first(&mut source, None).await;
        slowest = slowest.max(began.elapsed());
        assert_eq!(read(&mut reader, None).await.unwrap(), [row(0, "a"), row(1, "b")], "{what}");
    }

    for (what, (brokers, client)) in [
        ("no certificate", by_certificate(json!({}))),
        ("another password", by_password("guessed", "ca.pem")),
        ("an authority that did not vouch for the broker", by_password(EncryptedKafka::PASSWORD, "client.pem")),
    ] {
        let topic = unique_name("refused");
        encrypted.kafka.create_topic(&topic, 1).await;
        let setup = Setup::of(&encrypted.kafka, &topic).with("brokers", brokers.into()).with("client", client);
        let mut source = setup.build();
        let gained = tokio::time::timeout(REFUSED_FOR.max(TIMES * slowest), source.assignment()).await;
        assert!(!matches!(gained, Ok(Ok(Assignment::Gained(_)))), "{what} was enough");
    }
}
