//! The dashboard of a pipeline that runs, as `pipeline top` and `pipeline tap` ask it.

use std::time::Duration;

use clap::Args;
use pipeline_runtime::plan::Plan;
use pipeline_runtime::store::open_beside;
use pipeline_stage::{Result, StageError};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;

use crate::dashboard::{noted, token};

/// Where the run is.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Where the run's dashboard is, like `http://127.0.0.1:8080`; without it, where the last run has noted in the state.
    /// A token that it wants is taken from PIPELINE_DASHBOARD_TOKEN, or from the file PIPELINE_DASHBOARD_TOKEN_FILE names
    #[arg(long, value_name = "URL", value_parser = dashboard_url)]
    connect: Option<Url>,
}

/// The URL of a dashboard, as an argument.
///
/// # Errors
/// In words, for any other text.
pub fn dashboard_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| format!("`{text}` is no URL of a dashboard, it would be like `http://127.0.0.1:8080`"))
}

/// A dashboard that can be asked.
pub struct Remote {
    client: Client,
    url: Url,
    token: Option<String>,
}

/// For the connection: it is on this machine or near.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);
/// A dashboard says something every 15 seconds: then nothing has come for three times as long, so nothing will.
const SILENT_FOR: Duration = Duration::from_secs(45);
/// Of an event; the largest there are hold some hundred rows.
const MAX_EVENT_BYTES: usize = 64 << 20;

impl Remote {
    /// Finds the dashboard of the pipeline.
    ///
    /// # Errors
    /// `Config` when no run has noted one, or what was noted belongs to another pipeline; `Transient` when nothing answers.
    pub async fn find(plan: &Plan, args: &ConnectArgs) -> Result<Self> {
        let url = match &args.connect {
            Some(url) => url.clone(),
            None => noted_url(plan).await?,
        };
        let remote = Remote { client: client(&url)?, url, token: token("PIPELINE_DASHBOARD_TOKEN")? };
        let name = remote.pipeline().await?["name"].as_str().unwrap_or_default().to_owned();
        if name != plan.settings.name {
            let wanted = &plan.settings.name;
            return Err(StageError::config(format!(
                "`{name}` runs on {}, not `{wanted}`: that has ended, or `--connect` says where it is",
                remote.url()
            )));
        }
        Ok(remote)
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// What the pipeline consists of.
    ///
    /// # Errors
    /// As [`Remote::find`].
    pub async fn pipeline(&self) -> Result<Value> {
        let answer = self.ask("api/pipeline", &[]).await?;
        answer.json().await.map_err(|error| self.broken(error))
    }

    /// What is told from now on.
    ///
    /// # Errors
    /// `Config` with what the dashboard says against the request; `Transient` when it does not answer.
    pub async fn events(&self, path: &str, query: &[(&str, String)]) -> Result<Events<'_>> {
        Ok(Events { answer: self.ask(path, query).await?, remote: self, unread: Vec::new() })
    }

    async fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Response> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| self.broken(error))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(StageError::config(format!(
                "{} wants another token: set PIPELINE_DASHBOARD_TOKEN, or PIPELINE_DASHBOARD_TOKEN_FILE",
                self.url()
            ))),
            status if status.is_client_error() => {
                Err(StageError::config(answer.text().await.unwrap_or_else(|_| status.to_string())))
            }
            status => Err(StageError::transient(format!("{} answers with {status}", self.url()))),
        }
    }

    fn broken(&self, error: reqwest::Error) -> StageError {
        let message = match error.is_connect() {
            true => format!("nothing answers on {}: the pipeline does not run, or has no dashboard", self.url()),
            false => format!("the connection to {} broke off", self.url()),
        };
        StageError::transient(message).because(error.without_url())
    }
}

async fn noted_url(plan: &Plan) -> Result<Url> {
    let store = open_beside(&plan.state_location(), &plan.settings.name).await?;
    let url = noted(store.as_ref()).await?;
    let url = url.and_then(|url| Url::parse(&url).ok());
    url.ok_or_else(|| {
        let words = "the last run has no dashboard (`--dashboard off`); `--connect` names that of another process";
        StageError::config(words)
    })
}

/// A client that asks this URL.
///
/// # Errors
/// `Config` when the machine has no root certificates for TLS.
pub fn client(url: &Url) -> Result<Client> {
    // Of no matter if the process has one already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECTS_WITHIN)
        .read_timeout(SILENT_FOR)
        .redirect(reqwest::redirect::Policy::none());
    if url.scheme() == "http" {
        // Without TLS there is no need for root certificates, nor for a proxy.
        client = client.tls_certs_only([]).no_proxy();
    }
    client.build().map_err(|error| StageError::config("no HTTPS client can be made").because(error))
}

/// Server-sent events.
pub struct Events<'r> {
    answer: Response,
    remote: &'r Remote,
    unread: Vec<u8>,
}

/// One of them.
#[derive(Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What it says.
    pub data: Value,
}

impl Events<'_> {
    /// The next one; none when the dashboard has ended. Cancel-safe.
    ///
    /// # Errors
    /// `Transient` when the connection has broken.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(text) = take_event(&mut self.unread) {
                if let Some(event) = parse(&text) {
                    return Ok(Some(event));
                }
            }
            if MAX_EVENT_BYTES < self.unread.len() {
                return Err(StageError::transient(format!("{} says too much at once", self.remote.url())));
            }
            match self.answer.chunk().await.map_err(|error| self.remote.broken(error))? {
                Some(bytes) => self.unread.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// Takes what stands before the first empty line.
fn take_event(unread: &mut Vec<u8>) -> Option<String> {
    let end = unread.windows(2).position(|bytes| bytes == b"\n\n")?;
    let event: Vec<u8> = unread.drain(..end + 2).collect();
    Some(String::from_utf8_lossy(&event).into_owned())
}

/// None for comments, which keep the connection open.
fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).ok()?;
    Some(Event { name: field("event").unwrap_or("message").to_owned(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_when_they_are_whole() {
        let mut unread = b"event: rows\ndata: {\"missed\":1}\n".to_vec();
        assert_eq!(take_event(&mut unread), None);
        unread.extend_from_slice(b"\n:\n\nevent: p");
        let event = parse(&take_event(&mut unread).expect("a whole event"));
        assert_eq!(event, Some(Event { name: "rows".into(), data: serde_json::json!({ "missed": 1 }) }));
        assert_eq!(parse(&take_event(&mut unread).expect("a comment")), None);
        assert_eq!(unread, b"event: p");
    }
}
