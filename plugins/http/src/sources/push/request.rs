//! One request: what it must be, how long it may take, and what it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_ENCODING, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use pipeline_inbox::{Arrival, Outcome, now};
use pipeline_stage::Secret;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{error::Elapsed, timeout};

use super::{HttpPushOptions, Inbox};

/// A body must have come by then: it takes room that others want.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// A key is with each row of its request: it must not be what takes the room.
const LONGEST_KEY: usize = 256;
/// In seconds: a pipeline that is behind is not through with it sooner.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What has become of the rows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// They are on disk.
    Logged,
    /// They are nowhere.
    NotTaken,
    /// They may be on disk.
    Unknown,
}

/// Who waits for what has become of rows, and the room that they take until then.
pub struct Receipt {
    answer: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

/// What requests need.
pub struct Posts {
    /// What was taken and is not on disk yet.
    pub inbox: Inbox<Receipt>,
    is_open: AtomicBool,
    /// By its hash, so that comparing it takes as long for any other one.
    token: Option<[u8; 32]>,
    max_body: usize,
    /// A byte each.
    room: Arc<Semaphore>,
    within: Duration,
}

impl Posts {
    /// Nobody may post yet.
    pub fn new(options: &HttpPushOptions) -> Self {
        Posts {
            inbox: Inbox::new(&options.path),
            is_open: AtomicBool::new(false),
            token: options.token.as_ref().map(Secret::expose).map(hash),
            max_body: options.max_body.0 as usize,
            room: Arc::new(Semaphore::new(options.max_waiting.0 as usize)),
            within: options.timeout.0,
        }
    }

    /// Whether anybody may.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }

    /// Tells those that wait.
    pub fn answer(&self, outcome: Outcome<Receipt>) {
        let Outcome { logged, unknown, not_taken } = outcome;
        let all = [(logged, Answer::Logged), (unknown, Answer::Unknown), (not_taken, Answer::NotTaken)];
        for (receipts, answer) in all {
            // Who has gone is not told.
            for receipt in receipts {
                let _ = receipt.answer.send(answer);
            }
        }
    }

    fn check_sender(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(token) = &self.token else {
            // A page of the web could post to the machine of who looks at it.
            return if headers.contains_key(ORIGIN) { Err(Refused::Page) } else { Ok(()) };
        };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, shown) = shown.split_once(' ').unwrap_or_default();
        let is_right = scheme.eq_ignore_ascii_case("bearer") && hash(shown.trim()) == *token;
        if is_right { Ok(()) } else { Err(Refused::Token) }
    }

    /// Room for a body, before any of it is read.
    fn reserve(&self, body: &Body) -> Result<OwnedSemaphorePermit, Refused> {
        let size = body.size_hint();
        // Of one that does not say how large it is, as much as it may be.
        let size = usize::try_from(size.upper().unwrap_or(size.lower().max(self.max_body as u64)));
        let size = size.ok().filter(|size| *size <= self.max_body).ok_or(Refused::TooLarge(self.max_body))?;
        // At most 64 MiB.
        self.room.clone().try_acquire_many_owned(size as u32).map_err(|_| Refused::Full)
    }

    async fn take(&self, request: Request) -> Result<Taken, Refused> {
        let (head, body) = request.into_parts();
        self.check_sender(&head.headers)?;
        if !self.is_open.load(Ordering::Acquire) {
            return Err(Refused::Closed);
        }
        let encoding = head.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Refused::Compressed);
        }
        let key = head.headers.get("idempotency-key").map(|key| Bytes::copy_from_slice(key.as_bytes()));
        if key.as_ref().is_some_and(|key| LONGEST_KEY < key.len()) {
            return Err(Refused::Key);
        }
        let room = self.reserve(&body)?;
        let body = match timeout(BODY_WITHIN, to_bytes(body, self.max_body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                let is_too_large = error.into_inner().is::<LengthLimitError>();
                return Err(if is_too_large { Refused::TooLarge(self.max_body) } else { Refused::BrokenOff });
            }
            Err(_) => return Err(Refused::Slow),
        };
        let rows = lines(&body);
        if rows.is_empty() {
            return Err(Refused::Empty);
        }
        let accepted = rows.len();
        let (answer, answered) = oneshot::channel();
        let receipt = Receipt { answer, _room: room };
        let offset = self.inbox.put(Arrival { rows, key, at: now(), receipt });
        match (Waiting { posts: self, offset }.answer(answered).await) {
            Answer::Logged => Ok(Taken { accepted, offset }),
            Answer::NotTaken => Err(Refused::Closed),
            Answer::Unknown => Err(Refused::Unknown),
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The lines of a body that are not empty; a carriage return before the line feed is dropped.
fn lines(body: &Bytes) -> Vec<Bytes> {
    let lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).map(|line| body.slice_ref(line)).collect()
}

/// A request whose rows wait to be on disk. Whoever goes away has not been told that they are: they need not be.
struct Waiting<'p> {
    posts: &'p Posts,
    offset: u64,
}

impl Waiting<'_> {
    async fn answer(self, answered: oneshot::Receiver<Answer>) -> Answer {
        match timeout(self.posts.within, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::Unknown,
            Err(Elapsed { .. }) => match self.posts.inbox.withdraw(self.offset) {
                Some(_) => Answer::NotTaken,
                None => Answer::Unknown,
            },
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.posts.inbox.withdraw(self.offset);
    }
}

struct Taken {
    accepted: usize,
    offset: u64,
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        Json(json!({ "accepted": self.accepted, "offset": self.offset })).into_response()
    }
}

/// Why rows were not taken, or may not have been.
enum Refused {
    Token,
    Page,
    Compressed,
    TooLarge(usize),
    Empty,
    Key,
    BrokenOff,
    Slow,
    Full,
    /// Its address has too many connections.
    TooMany,
    Closed,
    Unknown,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, words) = match self {
            Refused::Token => (StatusCode::UNAUTHORIZED, "the token is missing or wrong".to_owned()),
            Refused::Page => (StatusCode::FORBIDDEN, "a web page may not post here without a token".into()),
            Refused::Compressed => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is compressed, it must be plain".into())
            }
            Refused::TooLarge(most) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large, it may have {most} bytes"))
            }
            Refused::Empty => (StatusCode::BAD_REQUEST, "the body has no rows: each is a line".into()),
            Refused::Key => {
                (StatusCode::BAD_REQUEST, format!("`Idempotency-Key` is too long, it may have {LONGEST_KEY} bytes"))
            }
            Refused::BrokenOff => (StatusCode::BAD_REQUEST, "the body breaks off".into()),
            Refused::Slow => (StatusCode::REQUEST_TIMEOUT, "the body has not come in time".into()),
            Refused::Full => (StatusCode::TOO_MANY_REQUESTS, "the pipeline is behind, nothing was taken".into()),
            Refused::TooMany => {
                (StatusCode::TOO_MANY_REQUESTS, "your address has too many connections, nothing was taken".into())
            }
            Refused::Closed => {
                (StatusCode::SERVICE_UNAVAILABLE, "the pipeline does not come to it, nothing was taken".into())
            }
            Refused::Unknown => (StatusCode::GATEWAY_TIMEOUT, "whether the rows were taken is not known".into()),
        };
        let mut response = (status, Json(json!({ "accepted": 0, "error": words }))).into_response();
        if matches!(self, Refused::Unknown) {
            response = (status, Json(json!({ "error": words }))).into_response();
        }
        let headers = response.headers_mut();
        if matches!(self, Refused::Full | Refused::TooMany | Refused::Closed) {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if !matches!(self, Refused::Empty | Refused::Full | Refused::Closed | Refused::Unknown) {
            // The body may not have been read to its end, which ends the connection: a client must not send another
            // request over it.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(self, Refused::Token) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Takes the rows of a request, and answers when they are on disk.
pub async fn post(State(posts): State<Arc<Posts>>, request: Request) -> Response {
    posts.take(request).await.into_response()
}

/// Takes nothing: too many connections have come from this address.
pub async fn too_many() -> Response {
    Refused::TooMany.into_response()
}
