//! The sink `sqlite` against real files.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod fixture;
mod history;
mod laws;
mod marks;
mod rows;
mod tables;
