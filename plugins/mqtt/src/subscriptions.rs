//! What a session is subscribed to, what it was, and which messages come only because it is subscribed again.

use pipeline_stage::{Result, StageError};
use rumqttc::mqttbytes::matches;
use tracing::warn;

use crate::link::Broker;
use crate::wire::{Granted, Message};

/// Of one connection.
pub struct Subscriptions<'b> {
    broker: &'b Broker,
    /// What the session was subscribed to when the connection began.
    before: Vec<String>,
    /// Those that are not wanted, and of which the broker has not said that they are none any more.
    unwanted: Vec<String>,
    /// They were subscribed to again.
    are_again: bool,
}

impl<'b> Subscriptions<'b> {
    /// Of a session that is subscribed to these.
    pub fn of(broker: &'b Broker, before: &[String]) -> Self {
        let unwanted = before.iter().filter(|topic| !broker.topics.contains(topic)).cloned().collect();
        Subscriptions { broker, before: before.to_vec(), unwanted, are_again: false }
    }

    /// Those to end, if there are any.
    pub fn to_end(&self) -> Option<&[String]> {
        (!self.unwanted.is_empty()).then_some(self.unwanted.as_slice())
    }

    /// What it is subscribed to once the broker has agreed.
    pub fn topics(&self) -> Vec<String> {
        [self.broker.topics.as_slice(), &self.unwanted].concat()
    }

    /// From now on what is retained comes again.
    pub fn are_again(&mut self) {
        self.are_again = true;
    }

    /// Whether a message comes only because we have subscribed again. One that is sent again may be of the first time.
    pub fn is_known(&self, message: &Message) -> bool {
        if !self.are_again || !message.is_retained || message.is_again {
            return false;
        }
        let Ok(topic) = std::str::from_utf8(&message.topic) else { return false };
        let mut filters = self.broker.topics.iter().filter(|filter| matches(topic, filter));
        filters.all(|filter| self.before.contains(filter))
    }

    /// The broker has answered; in version 3.1.1 without saying of which, for it cannot refuse.
    pub fn ended(&mut self, answers: &[bool]) {
        let mut answers = answers.iter();
        self.unwanted.retain(|_| answers.next().is_some_and(|is_ended| !is_ended));
        for topic in &self.unwanted {
            let words = "the broker does not end a subscription that is not wanted any more: its messages come on";
            warn!(broker = %self.broker.address, topic, "{words}");
        }
    }

    /// Looks at what the broker says of each topic.
    ///
    /// # Errors
    /// Of kind `Fatal` when one is not given as it must be.
    pub fn check(&self, granted: &[Granted]) -> Result<()> {
        let (address, user, topics) = (&self.broker.address, &self.broker.hello.user, &self.broker.topics);
        if granted.len() != topics.len() {
            let (n_answers, n_topics) = (granted.len(), topics.len());
            let words =
                format!("the broker {address} has answered for {n_answers} topics and was asked for {n_topics}");
            return Err(StageError::transient(words));
        }
        for (topic, granted) in topics.iter().zip(granted) {
            let words = match granted {
                Granted::AtLeastOnce => continue,
                Granted::AtMostOnce => {
                    format!("the broker {address} gives messages of `{topic}` with QoS 0 only, which may be lost")
                }
                Granted::No if user.is_empty() => {
                    format!("the broker {address} lets nobody without a name subscribe to `{topic}`")
                }
                Granted::No => format!("the broker {address} does not let `{user}` subscribe to `{topic}`"),
            };
            return Err(StageError::fatal(words));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::address::Address;
    use crate::wire::Version;
    use crate::wire::tests::hello;
    use bytes::Bytes;
    use pipeline_stage::ErrorKind;

    pub(crate) fn broker(topics: &[&str]) -> Broker {
        Broker {
            address: Address::parse("mqtt://localhost").unwrap(),
            tls: None,
            version: Version::V3,
            hello: hello(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        }
    }

    fn message(topic: &'static str, is_retained: bool, is_again: bool) -> Message {
        let (topic, payload) = (Bytes::from_static(topic.as_bytes()), Bytes::new());
        Message { packet: Some(1), is_again, is_retained, is_exactly_once: false, topic, payload }
    }

    #[test]
    fn what_was_retained_is_known_when_it_comes_by_what_was_subscribed_to_before() {
        let broker = broker(&["a/#", "b", "+/c"]);
        let mut subscriptions = Subscriptions::of(&broker, &["a/#".to_owned(), "b".to_owned()]);
        assert!(!subscriptions.is_known(&message("b", true, false)), "it has waited in the session");
        subscriptions.are_again();
        for (topic, is_retained, is_again, is_known) in [
            ("b", true, false, true),
            ("a/b", true, false, true),
            ("b", false, false, false),
            ("b", true, true, false),
            ("d/c", true, false, false),
            ("a/c", true, false, false),
        ] {
            let message = message(topic, is_retained, is_again);
            assert_eq!(subscriptions.is_known(&message), is_known, "{message:?}");
        }
    }

    #[test]
    fn a_subscription_that_the_broker_does_not_end_is_not_forgotten() {
        let broker = broker(&["b"]);
        let before = ["a", "b", "c"].map(str::to_owned);
        let mut refused = Subscriptions::of(&broker, &before);
        assert_eq!(refused.to_end(), Some(["a".to_owned(), "c".to_owned()].as_slice()));
        assert_eq!(refused.topics(), ["b", "a", "c"]);
        refused.ended(&[true, false]);
        assert_eq!(refused.topics(), ["b", "c"]);
        let mut ended = Subscriptions::of(&broker, &before);
        ended.ended(&[]);
        assert_eq!((ended.topics(), ended.to_end()), (vec!["b".to_owned()], None));
    }

    #[test]
    fn each_topic_has_an_answer() {
        let broker = broker(&["a", "b"]);
        let subscriptions = Subscriptions::of(&broker, &[]);
        for (granted, kind) in [
            (vec![Granted::AtLeastOnce], Some(ErrorKind::Transient)),
            (vec![Granted::AtLeastOnce; 3], Some(ErrorKind::Transient)),
            (vec![Granted::AtLeastOnce, Granted::No], Some(ErrorKind::Fatal)),
            (vec![Granted::AtMostOnce, Granted::AtLeastOnce], Some(ErrorKind::Fatal)),
            (vec![Granted::AtLeastOnce; 2], None),
        ] {
            let error = subscriptions.check(&granted).err();
            assert_eq!(error.as_ref().map(StageError::kind), kind, "{granted:?}: {error:?}");
        }
    }
}
