//! The dashboard: a page, an API and metrics, served by the process that runs the pipeline.
//!
//! [`Server::bind`] takes an address, [`Server::serve`] answers until what it gives is dropped. Nothing here can hold up the
//! pipeline: it looks at the books, at what passes, and at the tables of the sinks, by connections and threads of its own.

mod access;
mod archive;
mod connections;
mod health;
mod letters;
mod live;
mod login;
mod metrics;
mod page;
mod scores;
mod server;
mod serving;
mod sessions;
mod shown;
mod tap;
mod watched;

pub use access::{Role, Tokens};
pub use metrics::{METRICS, Metric, Type, documentation};
pub use server::{Address, Server};
pub use serving::Serving;
pub use watched::Watched;
