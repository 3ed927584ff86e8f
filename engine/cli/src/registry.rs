//! Which plugins are built in; nothing else in the engine names one.

use pipeline_stage::{Kind, Registry, StageType};

/// A plugin of ours that a binary has not built in, but loads where it finds it.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// The library's name.
    pub library: &'static str,
    /// What is in it.
    pub stages: &'static [(Kind, &'static str)],
}

/// What [`slim`] leaves out.
pub const BESIDE_SLIM: [Beside; 5] = [
    Beside { library: "pipeline_kafka_plugin", stages: &[(Kind::Source, "kafka"), (Kind::Sink, "kafka")] },
    Beside { library: "pipeline_mqtt_plugin", stages: &[(Kind::Source, "mqtt")] },
    Beside { library: "pipeline_postgres_plugin", stages: &[(Kind::Sink, "postgres")] },
    Beside { library: "pipeline_sqlite_plugin", stages: &[(Kind::Sink, "sqlite")] },
    Beside {
        library: "pipeline_http_plugin",
        stages: &[(Kind::Source, "http"), (Kind::Source, "http_push"), (Kind::Sink, "slack"), (Kind::Sink, "webhook")],
    },
];

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
        pipeline_mqtt::stages(),
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

#[cfg(all(test, feature = "full"))]
mod tests {
    use super::*;

    #[test]
    fn what_slim_leaves_out_is_named() {
        let (full, slim) = (full(), slim());
        let left_out = full.all().filter(|stage| slim.find(stage.kind, &stage.name).is_none());
        let left_out: Vec<(Kind, &str)> = left_out.map(|stage| (stage.kind, stage.name.as_str())).collect();
        let mut named: Vec<(Kind, &str)> = BESIDE_SLIM.iter().flat_map(|beside| beside.stages).copied().collect();
        named.sort_by_key(|(kind, name)| {
            (Kind::ALL.iter().position(|of| of == kind), left_out.iter().position(|(_, of)| of == name))
        });
        assert_eq!(named, left_out);
    }
}
