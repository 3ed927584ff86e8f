//! Which plugins are built in; nothing else in the engine names one.

use pipeline_stage::Registry;

/// All stages of the built-in plugins.
pub fn built_in() -> Registry {
    let mut registry = Registry::default();
    let stages = [
        pipeline_builtin::stages(),
        pipeline_kafka::stages(),
        pipeline_postgres::stages(),
        pipeline_sqlite::stages(),
        pipeline_http::stages(),
    ];
    for stage in stages.into_iter().flatten() {
        registry.add(stage).expect("no two built-in stages have the same kind and name");
    }
    registry
}
