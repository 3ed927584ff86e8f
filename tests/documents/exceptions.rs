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

const CHART: &str = "docker/helm/pipeline/README.md";

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
    exception(
        "docs/install.md",
        "gh attestation verify",
        "needs a release: .github/workflows/release.yml makes these files",
    ),
    exception("docs/install.md", "tar --extract", "needs the archive: tests/packaged.rs makes, unpacks and runs one"),
    exception(
        "docs/install.md",
        "sudo install pipeline",
        "writes into /usr/local: tests/packaged.rs finds these files",
    ),
    exception(
        "docs/install.md",
        "sudo apt-get install",
        "needs root: tests/packaged.rs installs the package in a folder",
    ),
    exception(
        "docs/install.md",
        "systemctl enable",
        "needs systemd: tests/packaged.rs starts and stops what the unit says",
    ),
    exception("docs/install.md", "docker run", "needs Docker: .github/workflows/docker.yml runs the image"),
    exception("docs/install.md", "make up", "needs Docker: tests/composed.rs starts the same by hand"),
    exception("docs/install.md", "helm install", "needs Kubernetes: `make chart` renders and checks it"),
    exception("docs/install.md", "cargo build", "many minutes: .github/workflows/release.yml does it"),
    exception("docker/README.md", "make up", "needs Docker: tests/composed.rs starts the same by hand"),
    exception("docker/README.md", "make down", "needs Docker: .github/workflows/docker.yml does it"),
    exception(CHART, "OWNER/pipeline\n", "needs Kubernetes: `make chart` renders and checks it"),
    exception(CHART, "pipeline.file=iot.yaml", "needs Kubernetes: `make chart` renders and checks it"),
    exception(CHART, "--set push.source", "needs Kubernetes: `make chart` renders and checks it"),
    exception(CHART, "kubectl create secret", "needs Kubernetes: `make chart` checks what refers to these Secrets"),
];
