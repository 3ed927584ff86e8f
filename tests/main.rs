//! The built binary as users run it: on real Kafka, PostgreSQL, HTTP and files.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]
#![allow(clippy::print_stdout, reason = "a test may say what it has seen, also in the functions it calls")]

mod bad_input;
mod band;
mod bench;
mod changed_input;
mod command_line;
mod composed;
mod crowded;
mod cut;
mod disk;
mod every_sink;
mod exact;
mod explain;
mod faults;
mod fenced;
mod fleet;
mod instructions;
mod killed;
mod looking;
mod metrics;
mod mqtt;
mod packaged;
mod page;
mod plugin_kit;
mod plugins;
mod polled;
mod production;
mod pushed;
mod python;
mod rebuilt;
mod scale_out;
mod scraped;
mod soak;
mod tokens;
mod traces;
mod turned_away;
mod unnested;
mod views;
mod weather;
