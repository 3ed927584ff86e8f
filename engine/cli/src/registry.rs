//! Which plugins are built in; nothing else in the engine names one.

use pipeline_stage::{Registry, StageType};

/// What needs no client library.
pub fn slim() -> Registry {
    registry([pipeline_builtin::stages()])
}

/// All stages of all plugins.
#[cfg(feature = "full")]
pub fn full() -> Registry {
    registry([
        pipeline_builtin::stages(),
        pipeline_kafka::stages(),
        pipeline_postgres::stages(),
        pipeline_sqlite::stages(),
        pipeline_http::stages(),
    ])
}

fn registry(plugins: impl IntoIterator<Item = Vec<StageType>>) -> Registry {
    let mut registry = Registry::default();
    for stage in plugins.into_iter().flatten() {
        registry.add(stage).expect("no two built-in stages have the same kind and name");
    }
    registry
}
