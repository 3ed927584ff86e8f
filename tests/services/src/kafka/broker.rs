//! Starting a broker: one node that is broker and controller, as small and fast as it gets.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MAX_RECORD_BYTES, answers};
use crate::install::{Packages, docker_answers, kept_folder, on_path, one_at_a_time};
use crate::server::{Place, Server, free_ports, fresh_folder, start_on_free_ports, words};
use crate::unique_name;

/// The newest version of which Maven Central and Docker Hub have every part.
const VERSION: &str = "4.3.1";

/// What Maven fetches.
const POM: &str = include_str!("../../kafka.pom.xml");

/// For a process that lives for seconds: no optimising compiler, no collector threads, a small heap.
const JAVA_OPTIONS: [&str; 4] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dlog4j2.level=INFO"];

/// Any 16 bytes in base64; all nodes of a cluster agree on them, and here is one node.
const CLUSTER_ID: &str = "cGlwZWxpbmUtdGVzdHMtMQ";

const JAVA: Packages = Packages {
    debian: &["default-jre-headless"],
    before: "true",
    what: "Java 17 or newer, which runs Apache Kafka,",
    otherwise: "start Docker, or name a running broker in `PIPELINE_TEST_KAFKA`",
};

const MAVEN: Packages = Packages {
    debian: &["maven"],
    before: "true",
    what: "Maven, which fetches Apache Kafka,",
    otherwise: "start Docker, or name a running broker in `PIPELINE_TEST_KAFKA`",
};

/// Starts a broker in Docker or from jars; gives it and its address.
pub(super) fn start() -> (Server, String) {
    if docker_answers() {
        return start_on_free_ports("Kafka", start_container);
    }
    let (server, brokers, ()) = start_changed(|usual| (usual, ()));
    (server, brokers)
}

/// Starts a broker from jars, with settings that `change` makes of the usual ones, and gives what it has told: it is called
/// again when a port was taken meanwhile.
pub(super) fn start_changed<T>(change: impl Fn(Properties) -> (Properties, T)) -> (Server, String, T) {
    JAVA.require(|| on_path("java").is_some());
    let kafka = one_at_a_time("kafka", installed);
    start_on_free_ports("Kafka", || start_process(&kafka, &change))
}

/// Runs one of Kafka's own programs.
pub(super) fn run_tool(args: &[&str]) {
    let java = java(&one_at_a_time("kafka", installed));
    let mut tool = Command::new(&java[0]);
    run(tool.args(&java[1..]).args(args), "one of Kafka's programs has failed");
}

fn start_container() -> Result<(Server, String), String> {
    let [port, controller_port] = free_ports();
    let mut run = vec!["--publish".to_owned(), format!("127.0.0.1:{port}:{port}")];
    let mut set = |name: &str, value: &str| run.extend(["--env".to_owned(), format!("{name}={value}")]);
    for (property, value) in properties("0.0.0.0", port, controller_port, "/var/lib/kafka/data") {
        // The image reads property `a.b` from variable `KAFKA_A_B`.
        set(&format!("KAFKA_{}", property.to_uppercase().replace('.', "_")), &value);
    }
    set("KAFKA_JVM_PERFORMANCE_OPTS", &JAVA_OPTIONS.join(" "));
    run.push(format!("apache/kafka:{VERSION}"));
    let name = unique_name("pipeline-test-kafka");
    serving(Server::new(Place::Container { name, run }, fresh_folder()), port)
}

fn start_process<T>(
    kafka: &Path,
    change: impl Fn(Properties) -> (Properties, T),
) -> Result<(Server, String, T), String> {
    let [port, controller_port] = free_ports();
    let folder = fresh_folder();
    let data = folder.path().join("data");
    copy_folder(&formatted(kafka), &data);
    let settings = folder.path().join("server.properties");
    let (properties, told) = change(properties("127.0.0.1", port, controller_port, &data.display().to_string()));
    write_settings(&settings, properties);

    let mut command = java(kafka);
    command.extend(words(&["kafka.Kafka".as_ref(), settings.as_os_str()]));
    let (server, brokers) = serving(Server::new(Place::Process(command), folder), port)?;
    Ok((server, brokers, told))
}

fn serving(mut server: Server, port: u16) -> Result<(Server, String), String> {
    let brokers = format!("127.0.0.1:{port}");
    server.start(|| answers(&brokers))?;
    Ok((server, brokers))
}

pub(super) type Properties = Vec<(&'static str, String)>;

/// The broker's settings: `listen` is where it takes connections from clients, `data` its folder.
fn properties(listen: &str, port: u16, controller_port: u16, data: &str) -> Properties {
    vec![
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "1".to_owned()),
        ("listeners", format!("PLAINTEXT://{listen}:{port},CONTROLLER://127.0.0.1:{controller_port}")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller_port}")),
        ("log.dirs", data.to_owned()),
        // One node: internal topics have one replica, and one partition each, which is made faster than 50.
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("offsets.topic.num.partitions", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("transaction.state.log.num.partitions", "1".to_owned()),
        // A group starts at once instead of waiting 3 s for more members.
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ("message.max.bytes", MAX_RECORD_BYTES.to_string()),
        // Test data is older than any retention: it carries the times of real measurements.
        ("log.retention.ms", "-1".to_owned()),
        // The default of 128 MB would not fit into the heap.
        ("log.cleaner.dedupe.buffer.size", "4000000".to_owned()),
        ("num.network.threads", "2".to_owned()),
        ("num.io.threads", "2".to_owned()),
        // A wrong topic name is an error, not a new topic.
        ("auto.create.topics.enable", "false".to_owned()),
    ]
}

fn write_settings(file: &Path, properties: Properties) {
    let lines: String = properties.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(file, lines).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", file.display()));
}

/// The words that run a Java program of Kafka, without the program.
fn java(kafka: &Path) -> Vec<OsString> {
    let class_path = kafka.join("jars/*");
    let mut java = words(&["java"]);
    java.extend(words(&JAVA_OPTIONS));
    java.extend(words(&["-cp".as_ref(), class_path.as_os_str()]));
    java
}

/// The folder with Kafka's jars and a formatted data folder, made if it is not there yet.
fn installed() -> PathBuf {
    let kafka = kept_folder().join("kafka");
    let done = kafka.join("done");
    let wanted = format!("{VERSION}\n{POM}");
    if fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        return kafka;
    }
    // Jars of another version must not stay; there may be none.
    let _ = fs::remove_dir_all(&kafka);
    fs::create_dir_all(&kafka).unwrap_or_else(|error| panic!("cannot make `{}`: {error}", kafka.display()));
    fetch_jars(&kafka);
    format_data(&kafka);
    fs::write(&done, wanted).expect("the folder was just filled");
    kafka
}

fn fetch_jars(kafka: &Path) {
    MAVEN.require(|| on_path("mvn").is_some());
    let pom = kafka.join("pom.xml");
    fs::write(&pom, POM).expect("the folder was just made");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-Dkafka.version={VERSION}")).arg(format!("-DoutputDirectory={}", kafka.join("jars").display()));
    run(maven.arg("--file").arg(pom), "Maven cannot fetch Apache Kafka");
}

/// Formatting takes a second, so it is done once: the result depends on no port and every broker gets a copy.
fn format_data(kafka: &Path) {
    let settings = kafka.join("format.properties");
    write_settings(&settings, properties("127.0.0.1", 1, 2, &formatted(kafka).display().to_string()));
    let java = java(kafka);
    let mut format = Command::new(&java[0]);
    format.args(&java[1..]).args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
    run(format.arg(&settings), "Kafka's data folder cannot be formatted");
}

fn formatted(kafka: &Path) -> PathBuf {
    kafka.join("formatted")
}

/// Copies a folder that holds nothing but files.
fn copy_folder(from: &Path, to: &Path) {
    let copy = || -> io::Result<()> {
        fs::create_dir(to)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
        Ok(())
    };
    copy().unwrap_or_else(|error| panic!("cannot copy `{}` to `{}`: {error}", from.display(), to.display()));
}

fn run(command: &mut Command, failure: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{failure}: {error}"));
    if !output.status.success() {
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        panic!("{failure}: {}\n{stdout}{stderr}", output.status);
    }
}
