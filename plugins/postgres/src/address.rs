//! The URL of a database: checked before anything is opened, and never printed.

use std::str::FromStr;

use pipeline_stage::{Result, Secret, StageError};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// The parameters a URL may have. An unknown one would be ignored and printed by the driver, with its value.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Where the database is and how to get in.
#[derive(Clone)]
pub struct Address {
    options: PgConnectOptions,
}

impl Address {
    /// Reads a URL. What it does not say comes from PostgreSQL's own variables (`PGUSER`) and password file.
    ///
    /// # Errors
    /// Of kind `Config`, at the option `url`. Their words hold no part of the URL but names of parameters.
    pub fn parse(url: &Secret) -> Result<Self> {
        let wrong = |message: String| StageError::config(message).at_option("url");
        let text = url.expose();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(wrong("`url` is not that of a PostgreSQL database, it would be like `postgres://user:password@host:5432/database`".into()));
        }
        let parameters = text.split_once('?').map_or("", |(_, parameters)| parameters);
        for (name, _) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
            if !PARAMETERS.contains(&name) && !name.starts_with("options[") {
                return Err(wrong(format!(
                    "`url` has an unknown parameter `{name}`; there is {}",
                    PARAMETERS.join(", ")
                )));
            }
        }
        let options = PgConnectOptions::from_str(text).map_err(|error| {
            // The driver wraps its own error about a parameter in another one.
            wrong(format!("`url` cannot be read: {}", error.to_string().replace("error with configuration: ", "")))
        })?;
        // The brackets of an IPv6 address belong to the URL, not to the address.
        let host = options.get_host().trim_matches(['[', ']']).to_owned();
        Ok(Address { options: options.host(&host).disable_statement_logging() })
    }

    /// The driver's options, for a connection of this name.
    pub fn connect_options(&self, application_name: &str) -> PgConnectOptions {
        self.options.clone().application_name(application_name)
    }

    /// Host and port, for messages.
    pub fn place(&self) -> String {
        let host = self.options.get_host();
        match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None if host.starts_with('/') => host.to_owned(),
            None if host.contains(':') => format!("[{host}]:{}", self.options.get_port()),
            None => format!("{host}:{}", self.options.get_port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_host_and_port_without_secrets() {
        for (url, place) in [
            ("postgres://iot:hush@db.example.com/iot", "db.example.com:5432"),
            ("postgresql://iot:hush@10.0.0.5:5433/iot?sslmode=require", "10.0.0.5:5433"),
            ("postgres://iot:hush@[::1]:5440/iot", "[::1]:5440"),
            ("postgres:///iot?host=/run/postgresql", "/run/postgresql"),
        ] {
            assert_eq!(Address::parse(&Secret::new(url)).ok().unwrap().place(), place);
        }
    }

    #[test]
    fn refuses_other_urls_without_printing_them() {
        for (url, message) in [
            ("mysql://iot:hush@db/iot", "`url` is not that of a PostgreSQL database"),
            ("host=db password=hush", "`url` is not that of a PostgreSQL database"),
            ("postgres://iot:hush@db:port/iot", "`url` cannot be read: invalid port number"),
            ("postgres://iot@db/iot?pasword=hush", "`url` has an unknown parameter `pasword`; there is sslmode"),
            (
                "postgres://iot:hush@db/iot?sslmode=maybe",
                "`url` cannot be read: unknown value \"maybe\" for `ssl_mode`",
            ),
        ] {
            let error = Address::parse(&Secret::new(url)).err().unwrap();
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(!error.chain().contains("hush"), "{}", error.chain());
            assert_eq!(error.option(), Some("url"));
        }
    }
}
