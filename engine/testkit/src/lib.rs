//! What the tests of every stage share, and `pipeline plugin test` with them: the laws, made-up readings, hostile
//! ones, and what a stage must say about itself.
//!
//! ```text
//! obeys_laws(&stage, &options, &readings(1, 5_000));   // batching and crashes do not matter
//! checks_out(&stage);                                  // documentation, schema and example fit together
//! for trial in trials(&asked) { … }                    // all there is, for a stage of any kind
//! ```

mod broken;
mod changed;
mod check;
mod columns;
pub mod faulty;
mod hostile;
mod laws;
mod log_lines;
pub mod mailbox;
pub mod posted;
mod python;
mod random;
mod read_back;
mod readings;
mod same;
mod scores;
mod sink_rows;
mod sinks;
mod source_rows;
mod sources;
mod subject;
mod trials;

pub use arrow::array::RecordBatch;
pub use broken::Broken;
pub use changed::options_may_change;
pub use check::{Checked, EXAMPLE_VARIABLES, checked, checks_out, example_options, options_in, problems};
pub use hostile::{Hostile, dictionaries_are_refused, hostile_batches, survives, unused_columns_do_not_matter};
pub use laws::{
    Effort, Evidence, a_crash_does_not_matter, batching_does_not_matter, laws_hold, obeys_laws, obeys_laws_briefly,
};
pub use log_lines::LogLines;
pub use python::python;
pub use random::Random;
pub use read_back::{HOSTILE_COLUMN, is_read_back, rows_to_read_back, schema_to_read_back};
pub use readings::{reading_schema, readings, scored_schema, stage_context, steady_readings};
pub use same::gives_the_same_as;
pub use sinks::{SinkSubject, a_mark_says_what_is_there, an_earlier_owner_is_shut_out, refused_rows_come_back};
pub use sources::{
    SourceSubject, a_read_given_up_loses_nothing, it_goes_on_where_it_was_left, the_same_is_read_twice, until_is_obeyed,
};
pub use subject::{Store, Subject};
pub use trials::{Asked, Trial, trials};
