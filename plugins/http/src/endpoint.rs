//! Where requests go: a URL that is a secret, and the client for it.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use pipeline_stage::{Result, Secret, StageError};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::answer::refusal;
use crate::encoded::{in_path, in_query};

/// The most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 4_096;

/// A connection that nobody has used for this long may have been forgotten by a firewall on its way.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Shorter texts are no secrets, and hiding them would hide half of every answer.
const SHORTEST_SECRET: usize = 4;

/// Words and parts of a path may be secrets when they are as long.
const LONG: usize = 8;

/// A URL and the client that speaks to it. Neither its errors nor its `Debug` form show more of the URL than its host.
pub struct Endpoint {
    url: Url,
    host: String,
    timeout: Duration,
    /// What else must not be seen in an answer that is repeated.
    secrets: Vec<String>,
    client: Arc<OnceLock<Client>>,
}

/// What was answered.
pub struct Got {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body of a success, whole or, when it is too large, not at all; of anything else its first piece.
    pub body: Option<Bytes>,
}

impl Endpoint {
    /// Checks the URL; no I/O.
    ///
    /// # Errors
    /// Of kind `Config`, at the option, for what is no URL of http or https.
    pub fn new(option: &str, url: &Secret, timeout: Duration) -> Result<Self> {
        let wrong = |what: &str| {
            StageError::config(format!("`{option}` {what}, it would be like `https://host/path`")).at_option(option)
        };
        let url = Url::parse(url.expose().trim()).map_err(|error| wrong(&format!("is no URL ({error})")))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(wrong("is neither http nor https"));
        }
        let host = url.host_str().ok_or_else(|| wrong("names no host"))?.to_owned();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        let secrets = parts(&url);
        let endpoint = Endpoint { url, host, timeout, secrets: Vec::new(), client: Arc::default() };
        Ok(endpoint.hiding(secrets.iter().map(String::as_str)))
    }

    /// Hides these texts, too, where they turn up in an answer: as they are, as they stand in a URL, and the long words of
    /// them, such as the token behind `Bearer`.
    pub fn hiding<'s>(mut self, secrets: impl Iterator<Item = &'s str>) -> Self {
        for secret in secrets.filter(|secret| SHORTEST_SECRET <= secret.len()) {
            let words = secret.split_whitespace().filter(|word| LONG <= word.len()).map(str::to_owned);
            self.secrets.extend([secret.to_owned(), in_query(secret), in_path(secret)]);
            self.secrets.extend(words);
        }
        self.secrets.retain(|secret| SHORTEST_SECRET <= secret.len());
        // A secret may be a part of another one.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self
    }

    /// Speaks over the connections of another one, if that can be.
    pub fn sharing_with(mut self, other: &Endpoint) -> Self {
        let kind = |of: &Endpoint| (of.url.scheme().to_owned(), is_this_machine(&of.url), of.timeout);
        if kind(&self) == kind(other) {
            self.client = other.client.clone();
        }
        self
    }

    /// The host, with its port if the URL has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The URL. It is a secret.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Sends a request and returns once the other side has said that it has taken it.
    ///
    /// # Errors
    /// `Transient` for whatever may work later and `Data` for what the other side will never take; see [`refusal`].
    pub async fn send(&self, method: &Method, headers: HeaderMap, body: Vec<u8>) -> Result<()> {
        let client = self.client()?;
        let request = client.request(method.clone(), self.url.clone()).headers(headers).body(body);
        let mut answer = request.send().await.map_err(|error| self.in_words(error))?;
        let body = read_some(&mut answer).await;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(refusal(&self.host, answer.status(), answer.headers(), &self.masked(&body)))
    }

    /// Asks, and gives the answer, whatever its status.
    ///
    /// # Errors
    /// `Transient` when there is none, or a body that is wanted breaks off.
    pub async fn get(&self, headers: HeaderMap, max_body: usize) -> Result<Got> {
        let request = self.client()?.get(self.url.clone()).headers(headers);
        let mut answer = request.send().await.map_err(|error| self.in_words(error))?;
        let body = match answer.status().is_success() {
            true => read_whole(&mut answer, max_body).await.map_err(|error| self.in_words(error))?,
            false => Some(read_some(&mut answer).await.into()),
        };
        Ok(Got { status: answer.status(), headers: std::mem::take(answer.headers_mut()), body })
    }

    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.build_client().map_err(|error| {
            let message = "no HTTPS client can be made; are root certificates installed (`ca-certificates`)?";
            StageError::transient(message).because(self.masked(&root_cause(&error)))
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    fn build_client(&self) -> reqwest::Result<Client> {
        // Of no matter if the process has one already: then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE_CONNECTION)
            .timeout(self.timeout);
        if self.url.scheme() == "http" {
            // Without TLS there is no need for root certificates, which a small machine may not have.
            client = client.tls_certs_only([]);
        }
        if is_this_machine(&self.url) {
            client = client.no_proxy();
        }
        client.build()
    }

    fn in_words(&self, error: reqwest::Error) -> StageError {
        let host = &self.host;
        let message = match () {
            () if error.is_timeout() => {
                format!("`{host}` has not answered within {}", humantime(self.timeout))
            }
            () if error.is_connect() => format!("`{host}` cannot be reached"),
            () => format!("the connection to `{host}` broke off"),
        };
        let is_timeout = error.is_timeout();
        let cause = root_cause(&error.without_url());
        match is_timeout {
            true => StageError::transient(message),
            false => StageError::transient(message).because(self.masked(&cause)),
        }
    }

    /// Text without the URL and other secrets, should somebody have repeated them.
    pub fn masked(&self, text: &str) -> String {
        let path = self.url.path();
        let mut masked = text.replace(self.url.as_str(), "***");
        // As they stand in the URL, and as they are.
        if let Some(query) = self.url.query().filter(|query| SHORTEST_SECRET <= query.len()) {
            masked = masked.replace(query, "***");
        }
        if path.len() > 1 {
            masked = masked.replace(path, "***");
        }
        for secret in &self.secrets {
            masked = masked.replace(secret.as_str(), "***");
        }
        masked
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.host)
    }
}

fn humantime(time: Duration) -> String {
    pipeline_stage::Span(time).to_string()
}

/// What of a URL may be a secret: the values of its query, its password, and long parts of its path.
fn parts(url: &Url) -> Vec<String> {
    let long = url.path_segments().into_iter().flatten().filter(|part| LONG <= part.len());
    let mut parts: Vec<String> = long.chain(url.password()).map(str::to_owned).collect();
    parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    parts
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The whole body; none when it is larger than that.
async fn read_whole(answer: &mut Response, most: usize) -> reqwest::Result<Option<Bytes>> {
    if answer.content_length().is_some_and(|length| (most as u64) < length) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if most < body.len() + piece.len() {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.into()))
}

/// The first piece of the answer's text. What cannot be read is left out: the status says enough.
async fn read_some(answer: &mut Response) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES {
        match answer.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(MAX_ANSWER_BYTES);
    String::from_utf8_lossy(&body).into_owned()
}

/// The innermost cause: the layers around it say "error sending request" and the like.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint> {
        Endpoint::new("url", &Secret::new(url), Duration::from_secs(1))
    }

    #[test]
    fn refuses_what_is_no_url_and_does_not_repeat_it() {
        for (url, message) in [
            ("hooks/T0/hush", "`url` is no URL (relative URL without a base), it would be like `https://host/path`"),
            ("", "`url` is no URL (relative URL without a base), it would be like `https://host/path`"),
            ("ftp://hush/x", "`url` is neither http nor https, it would be like `https://host/path`"),
            ("https://", "`url` is no URL (empty host), it would be like `https://host/path`"),
        ] {
            let error = endpoint(url).unwrap_err();
            assert_eq!((error.chain().as_str(), error.option()), (message, Some("url")), "{url}");
        }
    }

    #[test]
    fn a_client_for_https_and_one_for_http_can_be_made() {
        for url in ["https://localhost/x", "http://localhost/x"] {
            endpoint(url).unwrap().client().unwrap();
        }
    }

    #[test]
    fn a_secret_is_hidden_in_whatever_form_an_answer_repeats_it() {
        let url = "https://user:passw0rd@host/bot123456:ABCdef/send?appid=k3y%2Bhush&units=metric";
        let endpoint = endpoint(url).unwrap().hiding(["Bearer tok3n-hush", "a+b&c", "two words"].into_iter());
        for (words, masked) in [
            ("invalid key k3y+hush", "invalid key ***"),
            ("invalid key k3y%2Bhush", "invalid key ***"),
            ("token tok3n-hush is invalid", "token *** is invalid"),
            ("no bot123456:ABCdef here", "no *** here"),
            ("wrong passw0rd", "wrong ***"),
            ("a%2Bb%26c or a+b&c", "*** or ***"),
            ("/two%20words?two+words", "/***?***"),
            ("the city is not found", "the city is not found"),
        ] {
            assert_eq!(endpoint.masked(words), masked);
        }
    }

    #[test]
    fn only_this_machine_is_reached_without_a_proxy() {
        for (url, expected) in [
            ("http://localhost:1/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:8080/", true),
            ("https://hooks.slack.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_this_machine(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn the_url_is_masked_wherever_it_turns_up() {
        let endpoint = endpoint("https://user:pass@host/services/T0/B0/hush").unwrap();
        assert_eq!(endpoint.masked("no route for /services/T0/B0/hush"), "no route for ***");
        assert!(!format!("{endpoint:?}").contains("hush"));
        assert_eq!(self::endpoint("https://host/").unwrap().masked("a/b"), "a/b");
    }
}
