//! Sources and sinks whose calls block, as stages: each gets a thread of its own.
//!
//! For plugins in other languages and for clients that know no `async`. A source or sink implements one of the traits
//! here, which are those of `pipeline-stage` without waiting for ever: a call that could wait is told how long it may.
//!
//! | trait | becomes | by |
//! |---|---|---|
//! | [`BlockingSource`], [`BlockingReader`] | `Source`, `Reader` | [`source`] |
//! | [`BlockingSink`] | `Sink` | [`sink`] |
//! | [`BlockingOutbox`] | `OutboxSink` | [`outbox`] |
//!
//! Calls into plugins, blocking or not, are watched by [`InFlight`]: one that does not come back is told.
//!
//! Nothing is started before the first call that does I/O: what is only planned costs no thread.

mod in_flight;
mod reader;
mod sink;
mod source;
mod worker;

pub use in_flight::{InFlight, stuck};
pub use reader::{BlockingReader, Read};
pub use sink::{BlockingOutbox, BlockingSink, outbox, sink};
pub use source::{BlockingSource, source};
