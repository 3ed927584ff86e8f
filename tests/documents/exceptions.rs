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

// The workflow is .github/workflows/docker.yml; tests/workflows.rs finds each of these commands in it, word for word.
const IN_DOCKER: &str = "needs Docker: a workflow runs it, and tests/composed.rs starts the same by hand";
const IN_KUBERNETES: &str =
    "needs Kubernetes: a workflow runs it in a cluster, and `make chart` checks what it renders";

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
        "sudo apt-get install ./pipeline_0.1.0",
        "needs root: tests/packaged.rs installs the package in a folder",
    ),
    exception(
        "docs/install.md",
        "systemctl enable",
        "needs systemd: tests/packaged.rs starts and stops what the unit says",
    ),
    exception("docs/install.md", "pipeline-as iot top", "needs the package: tests/packaged.rs looks with it"),
    exception(
        "docs/install.md",
        "cp --archive",
        "needs systemd and root: tests/packaged.rs exports with `pipeline-as`",
    ),
    exception(
        "docs/install.md",
        "--in iot.jsonl",
        "needs systemd and root: tests/packaged.rs imports with `pipeline-as`",
    ),
    exception(
        "docs/install.md",
        "dpkg-deb --extract",
        "needs the next package: tests/packaged.rs names another binary",
    ),
    exception("docs/install.md", "docker run", IN_DOCKER),
    exception("docs/install.md", "make up", IN_DOCKER),
    exception("docs/install.md", "helm install", IN_KUBERNETES),
    exception("docs/install.md", "cargo build", "many minutes: .github/workflows/release.yml does it"),
    exception("docker/README.md", "make up", IN_DOCKER),
    exception("docker/README.md", "make down", IN_DOCKER),
    exception(CHART, "OWNER/pipeline\n", IN_KUBERNETES),
    exception(CHART, "pipeline.file=iot.yaml", IN_KUBERNETES),
    exception(CHART, "--set push.source", IN_KUBERNETES),
    exception(CHART, "kubectl create secret", IN_KUBERNETES),
];
