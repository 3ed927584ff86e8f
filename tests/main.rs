//! The built binary as users run it: on real Kafka, PostgreSQL, HTTP and files.

mod bad_input;
mod exact;
mod faults;
mod killed;
mod production;
