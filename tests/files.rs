//! Files without anything running: what is said of wrong pipelines, the schemas that editors check them with, and who
//! may know whom in the source.

mod architecture;
mod bad_files;
mod schemas;
