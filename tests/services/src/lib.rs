//! Real services for tests: Apache Kafka, PostgreSQL, Mosquitto, an HTTP receiver, and the binary under test.
//!
//! A test asks for what it needs and gets it, whatever is installed:
//!
//! | service | 1st choice | 2nd choice | 3rd choice |
//! |---|---|---|---|
//! | [`Kafka`] | `PIPELINE_TEST_KAFKA` (brokers) | Docker, if it answers | jars from Maven Central |
//! | [`Postgres`] | `PIPELINE_TEST_DATABASE_URL` | Docker, if it answers | the server binaries of the system |
//!
//! [`Mosquitto`] is that of the system.
//!
//! [`Browser`] is the Chromium of the system, and [`breaks_wcag`] asks axe-core in it, which npm fetches.
//!
//! On Debian, root also gets missing packages installed. If all of this fails, the test fails and says what
//! to install: no test is skipped.
//!
//! `shared()` gives the tests of one binary the same server; they keep apart by [`unique_name`]. `start()` gives
//! a test its own server, which it may stop, start again, pause and resume; it never is the one of the environment
//! variable. Every process started here ends with the test, even if the test is killed.
//!
//! This crate is for tests only: **everything in it panics, in words, when something does not work.**
//! It may wait by polling; tests wait with [`eventually`] and the `wait_…` methods and never sleep themselves.

mod axe;
mod browser;
mod certificates;
mod commit_cutter;
mod http_receiver;
mod install;
mod kafka;
mod mosquitto;
mod pipeline_run;
mod postgres;
mod server;
mod small_disk;
mod waiting;
mod watched;

pub use axe::breaks_wcag;
pub use browser::Browser;
pub use certificates::Certificates;
pub use commit_cutter::CommitCutter;
pub use http_receiver::{HttpReceiver, Reply, Request};
pub use kafka::{EncryptedKafka, Group, Kafka, Record, StoredRecord};
pub use mosquitto::{Mosquitto, Publisher, write_passwords};
pub use pipeline_run::{Finished, PipelineRun, RunningPipeline};
pub use postgres::{Database, Postgres, StopMode};
pub use server::free_address;
pub use small_disk::SmallDisk;
pub use waiting::{eventually, unique_name};
