//! Mosquitto, for tests that publish and subscribe by MQTT.

mod publisher;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

pub use publisher::Publisher;

use crate::certificates::Certificates;
use crate::install::{Packages, on_path};
use crate::server::{Place, Server, free_ports, fresh_folder, start_on_free_ports, words};
use crate::waiting::{becomes_true, blocking};

/// The package would start a broker of its own, on the port of all brokers.
const MOSQUITTO: Packages = Packages {
    debian: &["mosquitto"],
    before: "mkdir -p /etc/systemd/system && ln -sf /dev/null /etc/systemd/system/mosquitto.service",
    what: "Mosquitto, a broker of MQTT,",
    otherwise: "https://mosquitto.org/download",
};

/// What has to be on disk is there by then.
const SAVED_WITHIN: Duration = Duration::from_secs(30);

/// A Mosquitto for one test, with its default settings unless the test changes them: sessions and what waits for them
/// outlive it, and it lets everybody in.
///
/// ```no_run
/// # use pipeline_services::Mosquitto;
/// # async fn example() {
/// let mosquitto = Mosquitto::start().await;
/// let mut publisher = mosquitto.publisher("sensor-1").await;
/// assert!(publisher.publish("plant/hall-4/temperature", "{\"value\":21.5}").await);
/// # }
/// ```
pub struct Mosquitto {
    server: Option<Server>,
    port: u16,
    tls_port: u16,
    folder: PathBuf,
}

impl Mosquitto {
    /// Starts one.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further lines of its file, such as `max_inflight_messages 100`. It lets everybody in unless they say
    /// otherwise.
    pub async fn start_with(lines: &[&str]) -> Self {
        Self::start_from(lines, None).await
    }

    /// Starts one that also takes encrypted connections, of clients with a certificate, at [`tls_url`](Self::tls_url).
    pub async fn start_encrypted(certificates: &Certificates) -> Self {
        let lines = ["per_listener_settings true"];
        Self::start_from(&lines, Some(certificates.folder())).await
    }

    async fn start_from(lines: &[&str], certificates: Option<&Path>) -> Self {
        let lines = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let certificates = certificates.map(Path::to_owned);
        blocking(move || {
            MOSQUITTO.require(|| program().is_some());
            let program = program().expect("just required");
            start_on_free_ports("Mosquitto", || start(&program, &lines, certificates.as_deref()))
        })
        .await
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the option `url` says.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The same with TLS.
    pub fn tls_url(&self) -> String {
        format!("mqtts://localhost:{}", self.tls_port)
    }

    /// A client that publishes; it connects when it first does.
    pub async fn publisher(&self, client_id: &str) -> Publisher {
        Publisher::new(self.address(), client_id)
    }

    /// Stops it; it writes down what it has.
    pub async fn stop(&mut self) {
        self.with_server(|server| server.stop("TERM")).await;
    }

    /// Kills it; what it has not written down is gone.
    pub async fn kill(&mut self) {
        self.with_server(|server| server.stop("KILL")).await;
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub async fn pause(&mut self) {
        self.with_server(|server| server.pause()).await;
    }

    /// Ends a [`pause`](Self::pause).
    pub async fn resume(&mut self) {
        self.with_server(|server| server.resume()).await;
    }

    /// Makes it write down what it has, and waits for that.
    pub async fn save(&mut self) {
        let file = self.folder.join("mosquitto.db");
        let written = move || fs::metadata(&file).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let before = written();
        self.with_server(|server| server.signal("USR1")).await;
        assert!(becomes_true(SAVED_WITHIN, || before < written()).await, "Mosquitto has written nothing down");
    }

    /// Starts it again, where it was.
    pub async fn start_again(&mut self) {
        let port = self.port;
        self.with_server(move |server| {
            if let Err(log) = server.start(|| answers(port)) {
                panic!("Mosquitto does not start again; its log ends with\n{log}");
            }
        })
        .await;
    }

    async fn with_server(&mut self, work: impl FnOnce(&mut Server) + Send + 'static) {
        let mut server = self.server.take().expect("it is put back");
        let server = blocking(move || {
            work(&mut server);
            server
        });
        self.server = Some(server.await);
    }
}

/// Debian has it where only root looks.
fn program() -> Option<PathBuf> {
    let beside = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].map(PathBuf::from);
    on_path("mosquitto").or_else(|| beside.into_iter().find(|program| program.is_file()))
}

fn start(program: &Path, lines: &str, certificates: Option<&Path>) -> Result<Mosquitto, String> {
    let [port, tls_port] = free_ports();
    let folder = fresh_folder();
    let path = folder.path().to_owned();
    // As root it becomes another user otherwise, who may not write there.
    let user = if crate::install::is_root() { "user root\n" } else { "" };
    let everybody = if lines.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" };
    let mut file = format!(
        "{user}persistence true\npersistence_location {}/\n{lines}listener {port} 127.0.0.1\n{everybody}",
        path.display(),
    );
    if let Some(certificates) = certificates {
        let of = |name: &str| certificates.join(name).display().to_string();
        file += &format!(
            "listener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\nallow_anonymous false\n",
            of("ca.pem"),
            of("broker.pem"),
            of("broker.key")
        );
    }
    let settings = path.join("mosquitto.conf");
    fs::write(&settings, file).expect("the folder was just made");
    let command = words(&[program.as_os_str(), "-c".as_ref(), settings.as_os_str()]);
    let mut server = Server::new(Place::Process(command), folder);
    server.start(|| answers(port))?;
    Ok(Mosquitto { server: Some(server), port, tls_port, folder: path })
}

fn answers(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// Writes a file of Mosquitto's with names and passwords, as its line `password_file` wants it.
pub fn write_passwords(file: &Path, users: &[(&str, &str)]) {
    fs::write(file, "").unwrap_or_else(|error| panic!("cannot write `{}`: {error}", file.display()));
    for (user, password) in users {
        let mut command = Command::new("mosquitto_passwd");
        let output = command.arg("-b").arg(file).args([user, password]).output();
        let output = output.unwrap_or_else(|error| panic!("`mosquitto_passwd` does not start: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_published_is_acknowledged_unless_it_is_down() {
        let mut mosquitto = Mosquitto::start().await;
        let mut publisher = mosquitto.publisher("one").await;
        assert!(publisher.publish("a/b", "1").await && publisher.publish("a/b", "2").await);
        mosquitto.save().await;
        mosquitto.kill().await;
        assert!(!publisher.publish("a/b", "3").await);
        mosquitto.start_again().await;
        assert!(publisher.publish("a/b", "3").await);
        mosquitto.stop().await;
    }
}
