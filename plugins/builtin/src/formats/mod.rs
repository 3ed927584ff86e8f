//! How payloads become rows, one file for each format; what they share is in `rows`, `value` and `time`.

pub mod csv;
#[cfg(test)]
mod fixtures;
pub mod json;
mod rows;
pub(crate) mod time;
mod value;
