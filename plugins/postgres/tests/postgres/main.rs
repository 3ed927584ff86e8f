//! The sink `postgres` against a real server.

mod fixture;
mod marks;
mod outages;
mod refusals;
mod tables;
mod values;
