//! MQTT: a source that subscribes at a broker, in version 3.1.1 or 5 of the protocol.
//!
//! The packets are read and written by the codec of `rumqttc`; the connection is our own, because when a message is
//! acknowledged, and what has become of an acknowledgement, decides whether a row is lost or there twice
//! ([`deliveries`]).

mod address;
mod connection;
mod deliveries;
mod link;
mod news;
mod options;
mod session;
mod shared;
mod source;
mod subscriptions;
mod tls;
mod wire;

use pipeline_stage::StageType;

pub use options::MqttOptions;

/// The stages of this plugin.
pub fn stages() -> Vec<StageType> {
    vec![StageType::source::<MqttOptions>()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_source_says_about_itself_is_true() {
        super::stages().iter().for_each(pipeline_testkit::checks_out);
    }
}
