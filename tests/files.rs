//! Files without anything running: what is said of wrong pipelines, the schemas that editors check them with, the pages
//! and files that are generated, what boards and alert rules ask for, and who may know whom in the source.

mod architecture;
mod bad_files;
mod boards;
mod containers;
mod documents;
mod pinned;
mod schemas;
mod workflows;
