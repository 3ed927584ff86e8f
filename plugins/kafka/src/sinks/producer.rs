//! The transactional producer of one task.
//!
//! Its calls block; the sink makes them on threads that may. After any error it is dropped: the next claim makes a
//! new one, whose start ends whatever transaction the old one left.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipeline_stage::{Claim, Mark, Owner, Refused, Result, StageError};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use tracing::debug;

use crate::connection::setting_error;
use crate::health::{Health, words};
use crate::sinks::mark::{Pending, StoredMark, claim_of, group, read};
use crate::sinks::records::Records;

/// How long one call of a transaction may take: a broker that restarts is waited for, librdkafka tries by itself.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an abort may take that only spares readers the wait: the next owner ends the transaction anyway.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause while librdkafka's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// How long librdkafka's reports are taken in after a failure; they are there already.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(1);

/// How often a call is made again that librdkafka says may be.
const RETRIES: usize = 3;

/// What all producers of a sink share. Holds secrets, so it cannot be printed.
#[derive(Clone)]
pub(crate) struct ProducerSettings {
    /// Of a producer, without its transactional id.
    pub(crate) producer: ClientConfig,
    /// Of the consumer that reads the marks.
    pub(crate) consumer: ClientConfig,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    /// The transactional id is this, a dash and the task.
    pub(crate) prefix: String,
}

/// The producer's callbacks: they take notes.
struct ProducerNotes {
    health: Health,
    /// Records that were not delivered, by their index.
    failures: Mutex<Vec<(usize, RDKafkaErrorCode)>>,
}

impl ClientContext for ProducerNotes {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.report(&error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ProducerContext for ProducerNotes {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, record: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((record, code));
        }
    }
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is committed.
    All,
    /// It was aborted, because the broker refuses these rows for good.
    Refused(Vec<Refused>),
}

/// Writes the rows of one task.
pub(crate) struct TaskProducer {
    producer: BaseProducer<ProducerNotes>,
    group: ConsumerGroupMetadata,
    topic: String,
    /// The last mark that was written.
    stored: StoredMark,
    /// The epoch that the claim found: what came before is not this owner's.
    claimed_epoch: u64,
}

impl TaskProducer {
    /// Becomes the owner of a task's output. None beside the claim: the mark belongs to another state.
    ///
    /// # Errors
    /// `Lost` when there is a later owner.
    pub(crate) fn claim(settings: &ProducerSettings, owner: &Owner) -> Result<(Claim, Option<Self>)> {
        let group_id = group(owner);
        // First a look that disturbs nobody: to start a producer ends that of the present owner.
        let (found, _) = read(settings, &group_id, Pending::Ignored)?;
        let (claim, raised) = claim_of(owner, found.as_ref())?;
        if raised.is_none() {
            return Ok((claim, None));
        }
        let mut config = settings.producer.clone();
        config.set("transactional.id", format!("{}-{}", settings.prefix, owner.task));
        let notes = ProducerNotes { health: Health::new(&settings.brokers), failures: Mutex::default() };
        let producer: BaseProducer<ProducerNotes> =
            config.create_with_context(notes).map_err(|error| setting_error(&error))?;
        let ready = producer.init_transactions(TRANSACTION_TIMEOUT);
        ready.map_err(|error| explain(&producer, "no transaction can begin", &error))?;

        // The present owner may have committed since, or a later one claimed.
        let (found, group) = read(settings, &group_id, Pending::Awaited)?;
        let (claim, raised) = claim_of(owner, found.as_ref())?;
        let Some(stored) = raised else { return Ok((claim, None)) };
        let claimed_epoch = stored.mark.epoch;
        let mut task = TaskProducer { producer, group, topic: settings.topic.clone(), stored, claimed_epoch };
        let raised = task.stored.clone();
        task.begin()?;
        task.finish(raised)?;
        Ok((claim, Some(task)))
    }

    /// Checks that an epoch may be written. False: this owner has written it already.
    pub(crate) fn expects(&self, mark: &Mark) -> Result<bool> {
        let mine = &self.stored.mark;
        if mark.state_id != mine.state_id || mark.generation != mine.generation || mark.epoch <= self.claimed_epoch {
            return Err(StageError::lost(format!(
                "epoch {} of task `{}` is not this owner's: the mark is at epoch {}, generation {}",
                mark.epoch, mark.task, mine.epoch, mine.generation
            )));
        }
        Ok(mine.epoch < mark.epoch)
    }

    /// Writes records and the mark behind them in one transaction.
    ///
    /// # Errors
    /// `Lost` when another owner has taken over; `Transient` when it may work after another claim.
    pub(crate) fn commit(&mut self, records: &Records, mark: &Mark) -> Result<Written> {
        let written = self.write(records, mark);
        if matches!(written, Ok(Written::All)) {
            return written;
        }
        let aborted = self.producer.abort_transaction(ABORT_TIMEOUT);
        match (&written, aborted) {
            (Ok(_), Err(error)) => Err(explain(&self.producer, "a transaction cannot be aborted", &error)),
            // The next claim ends it.
            _ => written,
        }
    }

    fn write(&mut self, records: &Records, mark: &Mark) -> Result<Written> {
        self.begin()?;
        for idx in 0..records.len() {
            self.send(records, idx)?;
        }
        let flushed = self.producer.flush(TRANSACTION_TIMEOUT);
        let failures = std::mem::take(&mut *self.failures());
        if !failures.is_empty() {
            return self.judge(&failures, records).map(Written::Refused);
        }
        flushed.map_err(|error| explain(&self.producer, "rows were not written", &error))?;
        self.finish(StoredMark { mark: mark.clone(), is_new: false })?;
        Ok(Written::All)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<(usize, RDKafkaErrorCode)>> {
        self.producer.context().failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<()> {
        self.failures().clear();
        let begun = self.producer.begin_transaction();
        begun.map_err(|error| explain(&self.producer, "no transaction can begin", &error))
    }

    fn send(&self, records: &Records, idx: usize) -> Result<()> {
        let (key, payload) = records.get(idx);
        let mut record = BaseRecord::with_opaque_to(&self.topic, idx).payload(payload);
        record.key = key;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    self.producer.poll(FULL_PAUSE);
                    record = again;
                }
                Err((error, _)) => return Err(explain(&self.producer, "rows were not written", &error)),
            }
        }
    }

    /// Ends a transaction with the mark.
    fn finish(&mut self, stored: StoredMark) -> Result<()> {
        let offsets = stored.to_offsets(&self.topic)?;
        let failed = |error: KafkaError| explain(&self.producer, "a transaction was not committed", &error);
        retried(|| self.producer.send_offsets_to_transaction(&offsets, &self.group, TRANSACTION_TIMEOUT))
            .map_err(failed)?;
        retried(|| self.producer.commit_transaction(TRANSACTION_TIMEOUT)).map_err(failed)?;
        self.stored = stored;
        Ok(())
    }

    /// Some records were not delivered: those that are refused for good, or why the transaction has failed.
    fn judge(&self, failures: &[(usize, RDKafkaErrorCode)], records: &Records) -> Result<Vec<Refused>> {
        let failed = |code| explain(&self.producer, "rows were not written", &KafkaError::MessageProduction(code));
        if let Some((code, _)) = self.producer.client().fatal_error() {
            return Err(failed(code));
        }
        let mut refused = Vec::new();
        for (idx, code) in failures {
            match code {
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidMessageSize => {
                    refused.push(records.refused(*idx, format!("the broker refuses the row: {}", words(*code))));
                }
                // Failed only because others did.
                RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => {}
                _ => return Err(failed(*code)),
            }
        }
        match refused.is_empty() {
            true => Err(failed(RDKafkaErrorCode::PurgeQueue)),
            false => Ok(refused),
        }
    }
}

/// Makes a call again that librdkafka says may be made again.
fn retried(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    for _ in 0..RETRIES {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            result => return result,
        }
    }
    call()
}

/// Why a call failed: `Lost` when another owner has taken over.
fn explain(producer: &BaseProducer<ProducerNotes>, what: &str, error: &KafkaError) -> StageError {
    let is_fenced = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::TransactionCoordinatorFenced
        )
    );
    if is_fenced {
        return StageError::lost(format!("{what}: another owner has taken over the task"));
    }
    // What librdkafka has reported of its connections says more than the call does.
    producer.poll(EVENTS_TIMEOUT);
    producer.context().health.explain(what, error)
}
