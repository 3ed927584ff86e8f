//! Starting a PostgreSQL server with data of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::database::answers;
use crate::install::{Packages, docker_answers, is_root, on_path};
use crate::server::{Place, Server, free_ports, fresh_folder, start_on_free_ports, words};
use crate::unique_name;

const IMAGE: &str = "postgres:17";

/// The user `nobody` and its group, whose numbers are the same everywhere: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

const POSTGRES: Packages = Packages {
    debian: &["postgresql"],
    // The package would start a server of its own.
    before: "apt-get install --yes --no-install-recommends postgresql-common && \
             sed -ri 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf",
    what: "the PostgreSQL server",
    otherwise: "start Docker, or name a running server in `PIPELINE_TEST_DATABASE_URL`",
};

/// Starts a server in Docker or from installed binaries; gives it and its port.
///
/// `settings` have the form `name=value`.
pub(super) fn start(settings: &[String]) -> (Server, u16) {
    if docker_answers() {
        return start_on_free_ports("PostgreSQL", || start_container(settings));
    }
    POSTGRES.require(|| binaries().is_some());
    let binaries = binaries().expect("just required");
    start_on_free_ports("PostgreSQL", || start_process(&binaries, settings))
}

fn start_container(settings: &[String]) -> Result<(Server, u16), String> {
    let [port] = free_ports();
    let publish = format!("127.0.0.1:{port}:5432");
    let mut run = vec!["--publish", &publish];
    run.extend(["--env", "POSTGRES_HOST_AUTH_METHOD=trust", "--env", "POSTGRES_INITDB_ARGS=--no-sync", IMAGE]);
    run.extend(settings.iter().flat_map(|setting| ["-c", setting]));
    let run = run.into_iter().map(str::to_owned).collect();
    let name = unique_name("pipeline-test-postgres");
    serving(Server::new(Place::Container { name, run }, fresh_folder()), port)
}

fn start_process(binaries: &Path, settings: &[String]) -> Result<(Server, u16), String> {
    let [port] = free_ports();
    let folder = fresh_folder();
    if is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may give a folder away");
    }
    let data = folder.path().join("data");
    initdb(binaries, folder.path(), &data);

    let mut command = as_allowed_user(&binaries.join("postgres"));
    command.extend(words(&["-D".as_ref(), data.as_os_str()]));
    let port_setting = format!("port={port}");
    // No socket file: its path could be too long for the system.
    let own = ["listen_addresses=127.0.0.1", &port_setting, "unix_socket_directories="];
    for setting in own.into_iter().chain(settings.iter().map(String::as_str)) {
        command.extend(words(&["-c", setting]));
    }
    serving(Server::new(Place::Process(command), folder), port)
}

fn serving(mut server: Server, port: u16) -> Result<(Server, u16), String> {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    server.start(|| answers(&url))?;
    Ok((server, port))
}

fn initdb(binaries: &Path, folder: &Path, data: &Path) {
    let command = as_allowed_user(&binaries.join("initdb"));
    let mut initdb = Command::new(&command[0]);
    initdb.args(&command[1..]).args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]);
    initdb.args(["--locale=C", "--pgdata"]).arg(data).current_dir(folder);
    let output = initdb.output().unwrap_or_else(|error| panic!("cannot run {initdb:?}: {error}"));
    if !output.status.success() {
        panic!("PostgreSQL cannot make its data folder:\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The words that run a program of PostgreSQL, as root by way of the user `nobody`.
fn as_allowed_user(program: &Path) -> Vec<OsString> {
    let mut command = Vec::new();
    if is_root() {
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.extend(words(&["setpriv", &user, &group, "--clear-groups"]));
    }
    command.push(program.into());
    command
}

/// The folder with `initdb` and `postgres`: Debian's newest version, or what is on the `PATH`.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let folder = version.path().join("bin");
        folder.join("postgres").is_file().then_some((number, folder))
    });
    if let Some((_, newest)) = folders.max() {
        return Some(newest);
    }
    on_path("initdb")?.parent().map(Path::to_owned)
}
