//! One request: what is asked, and what its answer means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipeline_stage::{ByteSize, Result, Secret, StageError};
use reqwest::header::{CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{StatusCode, Url};

use super::HttpOptions;
use crate::answer::{in_words, retry_after};
use crate::encoded::in_path;
use crate::endpoint::{Endpoint, Got};
use crate::headers::headers;

/// What is asked, time and again.
#[derive(Debug)]
pub struct Request {
    /// Its name; none when it is the only one.
    pub name: Option<String>,
    endpoint: Endpoint,
    headers: HeaderMap,
    max_body: ByteSize,
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The answer is a document.
    Document(Bytes, Option<HeaderValue>),
    /// There is nothing, or nothing new.
    Nothing,
    /// There is no document.
    Failed(Failure),
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words, without secrets.
    pub words: String,
    /// When it is asked again.
    pub again: Again,
}

/// When a request that failed is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Soon, then ever later.
    Soon,
    /// The same, but not before the next round.
    NextRound,
    /// As the other side has said.
    After(Duration),
    /// Now and then: it will not work before somebody has mended it.
    Seldom,
}

/// The requests that the options name.
///
/// # Errors
/// Of kind `Config`, at the option.
pub fn all(options: &HttpOptions) -> Result<Vec<Arc<Request>>> {
    let (headers, mut first) = (headers(&options.headers)?, None::<Arc<Request>>);
    let own = options.requests.iter().map(|(name, own)| (Some(name.clone()), own.clone()));
    let own = match options.requests.is_empty() {
        true => vec![(None, BTreeMap::new())],
        false => own.collect(),
    };
    let mut requests = Vec::with_capacity(own.len());
    for (name, own) in own {
        let endpoint = endpoint(options, name.as_deref(), &own)?;
        // One pool of connections for all.
        let endpoint = match &first {
            Some(first) => endpoint.sharing_with(&first.endpoint),
            None => endpoint,
        };
        let request = Arc::new(Request { name, endpoint, headers: headers.clone(), max_body: options.max_body });
        first.get_or_insert_with(|| request.clone());
        requests.push(request);
    }
    Ok(requests)
}

/// The URL with its parameters: those in braces where they stand, the others behind it.
fn endpoint(options: &HttpOptions, name: Option<&str>, own: &BTreeMap<String, Secret>) -> Result<Endpoint> {
    let at = |parameter: &str| match (name, own.contains_key(parameter)) {
        (Some(name), true) => format!("requests.{name}.{parameter}"),
        _ => format!("query.{parameter}"),
    };
    let mut parameters = options.query.clone();
    parameters.extend(own.clone());
    let mut url = options.url.expose().trim().to_owned();
    let mut behind = Vec::new();
    for (parameter, value) in &parameters {
        let option = at(parameter);
        if value.expose().is_empty() {
            let message = format!("`{option}` is empty; a parameter without a value can stand in `url` itself");
            return Err(StageError::config(message).at_option(option));
        }
        let place = format!("{{{parameter}}}");
        match url.contains(&place) {
            true => url = url.replace(&place, &in_path(value.expose())),
            false => behind.push((parameter, value.expose())),
        }
    }
    if url.contains(['{', '}']) {
        let message = "`url` has braces around what is no parameter of `query` or `requests`";
        return Err(StageError::config(message).at_option("url"));
    }
    // A URL that is wrong is found below, with words.
    if let Ok(mut whole) = Url::parse(&url)
        && !behind.is_empty()
    {
        whole.query_pairs_mut().extend_pairs(behind);
        url = whole.into();
    }
    let secrets = parameters.values().chain(options.headers.values()).map(Secret::expose);
    Ok(Endpoint::new("url", &Secret::new(url), options.timeout.0)?.hiding(secrets))
}

impl Request {
    /// Whom it asks.
    pub fn host(&self) -> &str {
        self.endpoint.host()
    }

    /// Asks. `known` is the tag of the last document, if the same one is not wanted again.
    pub async fn ask(&self, known: Option<HeaderValue>) -> Outcome {
        let mut headers = self.headers.clone();
        if let Some(known) = known {
            headers.insert(IF_NONE_MATCH, known);
        }
        match self.endpoint.get(headers, self.max_body.0 as usize).await {
            Ok(Got { status, body: None, .. }) if status.is_success() => {
                let words = format!("`{}` answered with more than `max_body` ({})", self.host(), self.max_body);
                Outcome::Failed(Failure { words, again: Again::Seldom })
            }
            Ok(Got { status, headers, body: Some(body) }) if status.is_success() => {
                self.document(status, &headers, body)
            }
            Ok(Got { status: StatusCode::NOT_MODIFIED, .. }) => Outcome::Nothing,
            Ok(Got { status, headers, body }) => {
                let body = self.endpoint.masked(&String::from_utf8_lossy(&body.unwrap_or_default()));
                Outcome::Failed(failure(self.host(), status, &headers, &body))
            }
            Err(error) => Outcome::Failed(Failure { words: error.chain(), again: Again::Soon }),
        }
    }

    fn document(&self, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Outcome {
        if [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT].contains(&status) {
            return Outcome::Nothing;
        }
        let encoding = headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let words = format!("`{}` answered with a compressed body, which it was not asked for", self.host());
            return Outcome::Failed(Failure { words, again: Again::Seldom });
        }
        Outcome::Document(body, headers.get(ETAG).cloned())
    }
}

/// What an answer that has no document means. `body` must hold no secret.
fn failure(host: &str, status: StatusCode, headers: &HeaderMap, body: &str) -> Failure {
    let mut words = in_words(host, status, body);
    // `Retry-After: 0` must not make it ask again and again.
    let pause = retry_after(headers).filter(|pause| !pause.is_zero());
    let later = |otherwise| pause.map_or(otherwise, Again::After);
    let (again, what_to_do) = match status.as_u16() {
        429 => (later(Again::NextRound), ""),
        408 | 425 | 500..=599 => (later(Again::Soon), ""),
        300..=399 => (Again::Seldom, "; redirects are not followed: `url` must name the place itself"),
        401 | 403 | 407 => (Again::Seldom, "; the key or token is missing, wrong, or not valid yet"),
        404 | 410 => (Again::Seldom, "; `url` or a parameter is wrong, or what they name is gone"),
        _ => (Again::Seldom, "; `url`, a parameter or a header is wrong"),
    };
    words.push_str(what_to_do);
    Failure { words, again }
}
