//! The blocks that this test does not run, each with the reason and with what does it instead.

/// One block.
#[derive(Debug)]
pub struct Exception {
    pub page: &'static str,
    /// What stands in the block and in no other one of the page.
    pub block: &'static str,
    #[allow(dead_code, reason = "it is for people")]
    pub why: &'static str,
}

const fn exception(page: &'static str, block: &'static str, why: &'static str) -> Exception {
    Exception { page, block, why }
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    exception("README.md", "make test", "it is the test that this one is part of"),
    exception("README.md", "export KAFKA_BROKERS", "needs Kafka, PostgreSQL and Slack: tests/production does it"),
    exception("CONTRIBUTING.md", "cargo build", "builds and tests everything: .ci/run does these, one after the other"),
    exception(
        "docs/decisions/0011-simulation.md",
        "pipeline-simulation",
        "many minutes: `make simulate-some` is in .ci/run",
    ),
    exception("docs/explain.md", "pipeline explain", "needs an alert of the past: tests/explain.rs"),
    exception(
        "docs/stages/source.kafka.md",
        "sasl_ssl",
        "needs a secret's file and a build with TLS: plugins/kafka's tests",
    ),
    exception("docs/writing-a-plugin.md", "plugin new heartbeat", "builds a crate: tests/plugin_kit.rs follows it"),
    exception("docs/writing-a-plugin.md", "plugin check ./libheartbeat.so", "needs that crate: tests/plugin_kit.rs"),
    exception("docs/writing-a-plugin.md", "plugin test ./libheartbeat.so", "needs that crate: tests/plugin_kit.rs"),
    exception("docs/writing-a-plugin.md", "plugin bench ./libheartbeat.so", "needs that crate: tests/plugin_kit.rs"),
    exception("docs/writing-a-plugin.md", "python3 -m venv", "fetches packages: tests/python.rs follows the section"),
    exception("docs/writing-a-plugin.md", "stages --plugins ./jump.py", "needs them: tests/python.rs"),
    exception("docs/writing-a-plugin.md", "# jump.yaml", "needs them: tests/python.rs"),
    exception("docs/writing-a-plugin.md", "pipeline validate jump.yaml", "needs them: tests/python.rs"),
];
