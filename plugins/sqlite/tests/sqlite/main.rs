//! The sink `sqlite` against real files.

mod fixture;
mod marks;
mod rows;
mod speed_tmp;
mod tables;
