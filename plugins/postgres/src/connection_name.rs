//! What connections are called in `pg_stat_activity`.

use std::hash::{BuildHasher, Hasher, RandomState};

use pipeline_stage::StageContext;

/// The most bytes of a name that PostgreSQL keeps.
const MAX_BYTES: usize = 63;

/// The name of a process' connections that write, by which the next owner finds and ends them: random, then as much of
/// pipeline and sink as there is room for, for people.
pub fn name_of_owner(context: &StageContext) -> String {
    let random = RandomState::new().build_hasher().finish();
    printable(&format!("pipeline {random:016x} {}/{}", context.pipeline, context.id))
}

/// The name of connections that read: never that of an owner, so that nobody ends them.
pub fn name_of_reader(context: &StageContext) -> String {
    printable(&format!("pipeline history {}/{}", context.pipeline, context.id))
}

fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(MAX_BYTES).collect()
}
