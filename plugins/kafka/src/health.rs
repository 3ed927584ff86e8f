//! What a client knows of its brokers: why a call failed, in words, and whether they are there at all.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use pipeline_stage::{ErrorKind, StageError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, info, warn};

/// Collects what librdkafka reports of its connections. Shared by a client's callbacks and those that call it.
#[derive(Debug)]
pub(crate) struct Health {
    brokers: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The latest reason why a connection failed.
    reason: Option<String>,
    /// The brokers have refused this client for good.
    refusal: Option<String>,
    /// Since when no broker answers.
    down_since: Option<Instant>,
    /// From when on an outage is worth a warning: before, the failing call reports it.
    is_started: bool,
}

impl Health {
    pub(crate) fn new(brokers: &str) -> Self {
        Health { brokers: brokers.to_owned(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes an error that librdkafka reports beside any call.
    pub(crate) fn report(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        debug!(brokers = %self.brokers, ?code, reason, "librdkafka reports an error");
        let mut state = self.state();
        match code {
            RDKafkaErrorCode::AllBrokersDown => {
                if state.down_since.is_none() {
                    state.down_since = Some(Instant::now());
                    if state.is_started {
                        let reason = state.reason.as_deref().unwrap_or(reason);
                        warn!(brokers = %self.brokers, reason, "no broker answers; trying again, nothing is lost");
                    }
                }
            }
            code if is_refusal(code) => state.refusal = Some(reason.to_owned()),
            _ => state.reason = Some(reason.to_owned()),
        }
    }

    /// From now on an outage is worth a warning.
    pub(crate) fn start(&self) {
        let mut state = self.state();
        state.is_started = true;
        state.down_since = None;
    }

    /// True while no broker answers.
    pub(crate) fn is_down(&self) -> bool {
        self.state().down_since.is_some()
    }

    /// A broker has answered.
    pub(crate) fn answered(&self) {
        let mut state = self.state();
        state.refusal = None;
        let Some(since) = state.down_since.take() else { return };
        if state.is_started {
            let seconds = since.elapsed().as_secs();
            info!(brokers = %self.brokers, "brokers are back after {seconds} s; nothing was lost");
        }
    }

    /// Why a call failed: what the engine should do about it, and what the brokers have said.
    pub(crate) fn explain(&self, what: &str, error: &KafkaError) -> StageError {
        let code = error.rdkafka_error_code();
        let state = self.state();
        let refused = state.refusal.is_some() || code.is_some_and(is_refusal);
        let said = if refused { &state.refusal } else { &state.reason };
        let cause = match (code, said) {
            (Some(code), Some(said)) if is_silence(code) || refused => said.clone(),
            (Some(code), _) => words(code),
            (None, _) => error.to_string(),
        };
        let kind = if refused { ErrorKind::Fatal } else { ErrorKind::Transient };
        StageError::new(kind, format!("{what} ({}): {cause}", self.brokers))
    }
}

/// A code's meaning, without its name: `Broker: Unknown topic or partition` becomes `unknown topic or partition`.
pub(crate) fn words(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let inside = text.split_once('(').map_or(text.as_str(), |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    let meaning = inside.split_once(": ").map_or(inside, |(_, meaning)| meaning);
    let mut letters = meaning.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text,
    }
}

/// Retrying does not help: somebody must change a password or a right.
pub(crate) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::SSL
    )
}

/// Codes that say no more than that nobody answered: the reason is in what was reported before.
fn is_silence(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::WaitingForCoordinator
    )
}

/// How long a call waits for the brokers before it fails as `Transient`: longer than one leader election.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long `validate --connect` waits: somebody is watching.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A number as people read it: `104,233`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_said_in_words() {
        assert_eq!(words(RDKafkaErrorCode::UnknownTopicOrPartition), "unknown topic or partition");
        assert_eq!(words(RDKafkaErrorCode::BrokerTransportFailure), "broker transport failure");
    }

    #[test]
    fn an_outage_is_explained_by_what_was_reported_before() {
        let health = Health::new("kafka:9092");
        health.report(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "connection refused");
        health.report(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert!(health.is_down());
        let timeout = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let error = health.explain("no answer", &timeout);
        assert_eq!(error.to_string(), "no answer (kafka:9092): connection refused");
        assert_eq!(error.kind(), ErrorKind::Transient);
        health.answered();
        assert!(!health.is_down());
    }

    #[test]
    fn a_refused_password_is_not_tried_again() {
        let health = Health::new("kafka:9092");
        health.report(&KafkaError::Global(RDKafkaErrorCode::Authentication), "invalid credentials");
        let timeout = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        assert_eq!(health.explain("no answer", &timeout).kind(), ErrorKind::Fatal);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (104_233, "104,233"), (1_000_000, "1,000,000")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
