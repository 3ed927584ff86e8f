//! Where a broker is: `mqtt://host:1883` or `mqtts://host:8883`.

use std::fmt;

use pipeline_stage::{Result, StageError};

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, that of version 6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Reads it. The words of an error do not repeat the text: it may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let wrong = |message: &str| StageError::config(message).at_option("url");
        let none = "`url` is no address of a broker, it would be like `mqtt://localhost:1883` or `mqtts://broker:8883`";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(none))?;
        let is_tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(wrong(none)),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(wrong("`url` holds a user, which is said with `user` and `password`"));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| wrong(none))?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong(none))?,
            None if port.is_empty() => {
                if is_tls {
                    8883
                } else {
                    1883
                }
            }
            None => return Err(wrong(none)),
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(wrong(none));
        }
        Ok(Address { host: host.to_owned(), port, is_tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (url, host, port, is_tls, shown) in [
            ("mqtt://localhost", "localhost", 1883, false, "localhost:1883"),
            ("mqtts://broker.example/", "broker.example", 8883, true, "broker.example:8883"),
            ("mqtt://10.0.0.7:11883", "10.0.0.7", 11883, false, "10.0.0.7:11883"),
            ("mqtts://[::1]:8884", "::1", 8884, true, "[::1]:8884"),
            ("mqtt://[::1]", "::1", 1883, false, "[::1]:1883"),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address, Address { host: host.into(), port, is_tls });
        }
    }

    #[test]
    fn what_is_none_is_refused_without_its_text() {
        for url in ["", "localhost:1883", "tcp://a", "mqtt://", "mqtt://a:0", "mqtt://a:x", "mqtt://[::1", "mqtt://a/b"]
        {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.starts_with("`url` is no address of a broker"), "{url}: {error}");
        }
        let error = Address::parse("mqtt://me:hush@broker").unwrap_err().to_string();
        assert_eq!(error, "`url` holds a user, which is said with `user` and `password`");
    }
}
