//! What the sinks that write into tables of a database have in common.
//!
//! Which columns they write ([`Columns`]), what a claim and a commit do with a mark that stands in the same database
//! ([`judge`], [`advances`]), and how the rows are found that a database can never take ([`find_refused`]).
//! None of that speaks SQL: what differs between databases is in their own crates. Reading back ([`history`]) does, in
//! the words that they share.

mod columns;
pub mod history;
mod marks;
mod rows;

pub use columns::*;
pub use marks::*;
pub use rows::*;
