//! TLS: whom the connection trusts, and how it shows who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_stage::{Result, StageError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Files in PEM, as absolute paths.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Who vouches for the broker; none: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate that the broker is shown, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the files. They may have been renewed since the last time.
    pub fn connector(&self) -> Result<TlsConnector> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| StageError::fatal("TLS cannot be set up").because(error))?;
        let config = config.with_root_certificates(self.roots()?);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, "tls_certificate")?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "tls_key", error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| {
                    let words = "the certificate of `tls_certificate` and the key of `tls_key` do not fit";
                    StageError::config(words).at_option("tls_key").because(error)
                })?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in certificates(ca, "tls_ca")? {
                    roots.add(certificate).map_err(|error| unreadable(ca, "tls_ca", error))?;
                }
            }
            // Some of a system's certificates may be unreadable for us: the others are as good.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        Ok(roots)
    }
}

fn certificates(file: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let all = all.map_err(|error| unreadable(file, option, error))?;
    match all.is_empty() {
        true => Err(StageError::config(format!("`{}` holds no certificate in PEM", file.display())).at_option(option)),
        false => Ok(all),
    }
}

fn unreadable(file: &Path, option: &str, error: impl std::error::Error + Send + Sync + 'static) -> StageError {
    StageError::config(format!("`{}` cannot be read as PEM", file.display())).at_option(option).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_missing_or_hold_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
        std::fs::write(&empty, "no certificate").unwrap();
        for (file, words) in [(missing, "cannot be read as PEM"), (empty, "holds no certificate in PEM")] {
            let error = TlsFiles { ca: Some(file), client: None }.connector().err().expect("no certificates");
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.option(), Some("tls_ca"));
        }
    }
}
