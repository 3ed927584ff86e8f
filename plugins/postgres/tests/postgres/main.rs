//! The sink `postgres` against a real server.

mod fixture;
mod marks;
mod outages;
mod refusals;
mod speed_tmp;
mod tables;
mod values;
