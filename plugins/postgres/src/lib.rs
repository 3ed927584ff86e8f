//! PostgreSQL: rows into tables, exactly once.
//!
//! [`sinks::postgres`] is the stage. Below it: `address` (the URL), `database` (one connection), `connection_name`, `errors` (what an
//! error means to the engine), `table` and `create` (what the table is and how it is made), `value` (a value in
//! PostgreSQL's binary form), `target` (which value goes where), `write` (rows by INSERT or COPY),
//! `marks` (who writes, and how far they got), `check` (`validate --connect`), `history` (reading back) and `encode` (what
//! COPY is sent, for benchmarks).

use pipeline_stage::StageType;

mod address;
mod check;
mod connection_name;
mod create;
mod database;
mod encode;
mod errors;
mod history;
mod marks;
mod numeric;
pub mod sinks;
mod table;
mod target;
mod value;
mod write;

pub use encode::encode;

/// The stages of this crate, for the registry.
pub fn stages() -> Vec<StageType> {
    vec![StageType::sink::<sinks::postgres::PostgresOptions>()]
}
