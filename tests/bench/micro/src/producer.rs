//! Produces readings at an even rate, for measuring how long they take from here to where somebody sees them.
//!
//!     bench-producer BROKERS TOPIC RATE SECONDS
//!
//! Readings of 1,000 series are numbered in their `value`, from 0; their `timestamp` is the time of the call that
//! produces them, so that a pause of this program is not counted as one of what comes behind it. They are sent
//! millisecond by millisecond. Prints one line of JSON: how many there were, and the longest time that one was late.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people who measure")]

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;

/// How often readings are sent: the rates of interest are some per tick.
const TICK: Duration = Duration::from_millis(1);

/// How long the broker may take for the last ones.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, rate, seconds] = arguments.as_slice() else {
        eprintln!("usage: bench-producer BROKERS TOPIC RATE SECONDS");
        return ExitCode::from(2);
    };
    match run(brokers, topic, rate, seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(brokers: &str, topic: &str, rate: &str, seconds: &str) -> Result<(), Box<dyn Error>> {
    let (rate, seconds): (u64, u64) = (rate.parse()?, seconds.parse()?);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    // The readings of a tick share a request instead of having one each, and nobody asks what became of those that went well.
    config.set("linger.ms", "1").set("delivery.report.only.error", "true");
    let producer: BaseProducer = config.create()?;
    // Connections are made before the clock runs.
    producer.client().fetch_metadata(Some(topic), FLUSH_TIMEOUT)?;
    let (began, mut sent, mut latest) = (Instant::now(), 0, Duration::ZERO);
    let mut payload = String::new();
    while sent < rate * seconds {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64 + 1;
        for number in sent..due.min(rate * seconds) {
            let due_at = Duration::from_secs_f64(number as f64 / rate as f64);
            latest = latest.max(began.elapsed().saturating_sub(due_at));
            write_reading(number, &mut payload)?;
            send(&producer, topic, &payload)?;
        }
        sent = due.min(rate * seconds);
        producer.poll(Duration::ZERO);
        let next_at = Duration::from_secs_f64(sent as f64 / rate as f64);
        sleep(next_at.saturating_sub(began.elapsed()).max(TICK));
    }
    producer.flush(FLUSH_TIMEOUT)?;
    println!("{}", json!({ "rows": sent, "longest_late_ms": latest.as_millis() as u64 }));
    Ok(())
}

fn write_reading(number: u64, payload: &mut String) -> std::fmt::Result {
    let (series, at) = (number % 1_000, Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true));
    payload.clear();
    write!(payload, r#"{{"sensor_id":"s{series}","metric_type":"t","value":{number},"timestamp":"{at}"}}"#)
}

/// Hands a reading over to librdkafka; waits for room when too many are on their way.
fn send(producer: &BaseProducer, topic: &str, payload: &str) -> Result<(), KafkaError> {
    loop {
        match producer.send(BaseRecord::<(), str>::to(topic).payload(payload)) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(TICK);
            }
            Err((error, _)) => return Err(error),
        }
    }
}
