//! The built binary as users run it: on real Kafka, PostgreSQL, HTTP and files.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]
#![allow(clippy::print_stdout, reason = "a test may show what it has measured")]

mod bad_input;
mod exact;
mod faults;
mod fenced;
mod fleet;
mod killed;
mod plugin_kit;
mod plugins;
mod production;
mod python;
mod scale_out;
