//! Certificates for a broker and its clients, made by OpenSSL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::install::{Packages, on_path};
use crate::server::fresh_folder;

const OPENSSL: Packages = Packages {
    debian: &["openssl"],
    before: "true",
    what: "OpenSSL, which makes certificates,",
    otherwise: "https://www.openssl.org",
};

/// The usual kind of key.
const RSA: &[&str] = &["-newkey", "rsa:2048"];

/// An authority (`ca.pem`), and what it vouches for: `broker` at `localhost`, and `client`, each with `.pem` and `.key`, and
/// `.both` with the two in one file. Of `client` also the key behind a password (`client.locked`), key and certificate
/// together as PKCS#12 (`client.p12`, and as tools of ten years ago wrote it, `client.old.p12`), and other kinds of keys
/// (`elliptic`, `edwards`).
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// What opens `client.locked` and `client.p12`.
    pub const PASSWORD: &str = "behind-a-password";

    /// Makes them.
    pub fn make() -> Self {
        OPENSSL.require(|| on_path("openssl").is_some());
        let certificates = Certificates { folder: fresh_folder() };
        let it = &certificates;
        let authority = ["req", "-x509", "-nodes", "-subj", "/CN=authority", "-days", "30", "-keyout", "ca.key"];
        it.openssl(&[&authority[..], RSA].concat(), "ca.pem");
        it.vouch("broker", RSA);
        it.vouch("client", RSA);
        it.vouch("elliptic", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        it.vouch("edwards", &["-newkey", "ed25519"]);
        let password = format!("pass:{}", Self::PASSWORD);
        it.openssl(&["pkcs8", "-topk8", "-in", "client.key", "-passout", &password], "client.locked");
        let pair = ["pkcs12", "-export", "-in", "client.pem", "-inkey", "client.key", "-passout", &password];
        it.openssl(&pair, "client.p12");
        it.openssl(&[&pair[..], &["-legacy"]].concat(), "client.old.p12");
        certificates
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vouch(&self, name: &str, key: &[&str]) {
        let of = |ending: &str| format!("{name}.{ending}");
        let subject = format!("/CN={name}");
        self.openssl(&[&["req", "-nodes", "-subj", &subject, "-keyout", &of("key")], key].concat(), &of("csr"));
        fs::write(self.file("names"), "subjectAltName=DNS:localhost\n").expect("the folder was just made");
        let sign = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
        self.openssl(&[&sign[..], &["-extfile", "names", "-in", &of("csr")]].concat(), &of("pem"));
        let both = [of("key"), of("pem")].map(|name| fs::read(self.file(&name)).expect("it was just made"));
        fs::write(self.file(&of("both")), both.concat()).expect("the folder was just made");
    }

    fn openssl(&self, args: &[&str], out: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(args).args(["-out", out]).current_dir(self.folder.path()).output();
        let output = output.unwrap_or_else(|error| panic!("`openssl` does not start: {error}"));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
