//! Models of one series, one file each.

pub mod zscore;
