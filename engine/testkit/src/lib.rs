//! What the tests of every stage share: the laws, made-up readings, and what a stage must say about itself.
//!
//! ```text
//! obeys_laws(&stage, &options, &readings(1, 5_000));   // batching and crashes do not matter
//! checks_out(&stage);                                  // documentation, schema and example fit together
//! ```

mod check;
pub mod faulty;
mod laws;
pub mod mailbox;
mod python;
mod random;
mod readings;

pub use check::{EXAMPLE_VARIABLES, checks_out};
pub use laws::{Evidence, obeys_laws, obeys_laws_briefly};
pub use python::python;
pub use random::Random;
pub use readings::{reading_schema, readings, scored_schema, stage_context};
