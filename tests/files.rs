//! Pipeline files without anything running: what is said of wrong ones, and the schemas that editors check them with.

mod bad_files;
mod schemas;
