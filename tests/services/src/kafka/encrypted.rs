//! A broker that talks to clients through TLS alone, and asks who they are.

use super::broker::{Properties, run_tool, start_changed};
use super::{Certificates, Kafka};
use crate::server::free_ports;
use crate::waiting::blocking;

/// A broker from jars. Tests reach it as [`kafka`](Self::kafka) without any of this; what is tested comes by one of the
/// other addresses.
pub struct EncryptedKafka {
    /// The same broker, for tests to write and read.
    pub kafka: Kafka,
    /// Where clients show a certificate.
    pub by_certificate: String,
    /// Where clients say name and password, by SCRAM-SHA-512 in TLS 1.2; the other has 1.3.
    pub by_password: String,
}

impl EncryptedKafka {
    /// Who is known by a password.
    pub const USER: &str = "sensors";
    /// It.
    pub const PASSWORD: &str = "known-to-the-broker";

    /// Starts it, with the certificate of `broker`.
    pub async fn start(certificates: &Certificates) -> EncryptedKafka {
        let file = |name: &str| certificates.file(name).display().to_string();
        let (broker, authority) = (file("broker.both"), file("ca.pem"));
        blocking(move || {
            let (server, brokers, [by_certificate, by_password]) = start_changed(|usual| {
                let places: [String; 2] = free_ports().map(|port| format!("localhost:{port}"));
                let doors = format!(",SSL://{},SASL_SSL://{}", places[0], places[1]);
                (with_doors(usual, &doors, &broker, &authority), places)
            });
            let config = format!("SCRAM-SHA-512=[password={}]", Self::PASSWORD);
            let user = ["--entity-type", "users", "--entity-name", Self::USER, "--alter", "--add-config", &config];
            run_tool(&[&["kafka.admin.ConfigCommand", "--bootstrap-server", &brokers], &user[..]].concat());
            EncryptedKafka { kafka: Kafka { brokers, server: Some(server) }, by_certificate, by_password }
        })
        .await
    }
}

fn with_doors(usual: Properties, doors: &str, broker: &str, authority: &str) -> Properties {
    let more = usual.into_iter().map(|(name, value)| match name {
        "listeners" | "advertised.listeners" => (name, value + doors),
        _ => (name, value),
    });
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let protocols = ["PLAINTEXT", "SSL", "SASL_SSL"].map(|name| format!("{name}:{name}")).join(",");
    more.chain([
        ("listener.security.protocol.map", format!("CONTROLLER:PLAINTEXT,{protocols}")),
        ("ssl.keystore.type", "PEM".into()),
        ("ssl.keystore.location", broker.into()),
        ("ssl.truststore.type", "PEM".into()),
        ("ssl.truststore.location", authority.into()),
        ("listener.name.ssl.ssl.client.auth", "required".into()),
        ("listener.name.sasl_ssl.ssl.enabled.protocols", "TLSv1.2".into()),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-512".into()),
        ("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config", scram.into()),
    ])
    .collect()
}
