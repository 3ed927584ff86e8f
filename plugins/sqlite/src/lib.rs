//! SQLite: rows into tables of one file, exactly once.
//!
//! [`sinks::sqlite`] is the stage. Below it: `database` (one connection), `errors` (what an error means to the
//! engine), `table` (what the table is, whether it fits, how it is made), `value` (what a value becomes), `write`
//! (rows by INSERT), `marks` (who writes, and how far they got),
//! `check` (`validate --connect`) and `history` (reading back).

use pipeline_stage::StageType;

mod check;
mod database;
mod errors;
mod history;
mod marks;
pub mod sinks;
mod table;
mod value;
mod write;

/// The stages of this crate, for the registry.
pub fn stages() -> Vec<StageType> {
    vec![StageType::sink::<sinks::sqlite::SqliteOptions>()]
}
