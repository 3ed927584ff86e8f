//! The sink `postgres` against a real server.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod fixture;
mod history;
mod history_tables;
mod marks;
mod outages;
mod refusals;
mod tables;
mod values;
