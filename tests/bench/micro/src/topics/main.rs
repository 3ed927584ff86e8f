//! Fills a topic with readings of many shapes, and says how many of them are anomalies.
//!
//!     bench-topics BROKERS TOPIC SETTINGS
//!
//! SETTINGS is one of the objects of `tests/bench/topics/topics.json`; `tests/bench/topics/load` makes the topic and calls
//! this. The same settings give the same messages for ever. Prints one line of JSON: the rows and the anomalies in them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people who measure")]

mod message;
mod random;
mod reading;
mod send;
mod series;
mod settings;

use std::error::Error;
use std::process::ExitCode;

use serde_json::json;

use crate::message::Messages;
use crate::reading::Readings;
use crate::send::Sender;
use crate::settings::Settings;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, settings] = arguments.as_slice() else {
        eprintln!("usage: bench-topics BROKERS TOPIC SETTINGS");
        return ExitCode::from(2);
    };
    match run(brokers, topic, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(brokers: &str, topic: &str, settings: &str) -> Result<(), Box<dyn Error>> {
    let settings: Settings = serde_json::from_str(settings)?;
    let mut sender = Sender::connect(brokers, topic, &settings)?;
    let mut readings = Readings::new(&settings);
    let mut messages = Messages::new(&settings);
    let mut n_anomalies = 0;
    for row in 0..settings.rows {
        let reading = readings.next_reading();
        n_anomalies += u64::from(reading.is_anomaly);
        let message = messages.write(row, &reading)?;
        sender.send(row, message)?;
    }
    sender.finish()?;
    println!("{}", json!({ "rows": settings.rows, "anomalies": n_anomalies }));
    Ok(())
}
