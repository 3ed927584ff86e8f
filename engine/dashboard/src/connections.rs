//! What the dashboard's connections and the bodies that come over them may take.

use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pipeline_connections::Limits;
use tokio::time::timeout;

/// A fourth of the file descriptors that a process usually has, and more than all pages and taps that may be open.
/// Prometheus asks every 15 s and keeps its connection. Cookies of other servers of the machine make heads large.
pub const LIMITS: Limits = Limits {
    connections: 256,
    begun_within: Duration::from_secs(3),
    request_within: Duration::from_secs(20),
    taken_within: Duration::from_secs(30),
    head_bytes: 256 << 10,
};

/// A login, or a list of dead letters, is small.
const MAX_BODY: usize = 256 << 10;
/// What is sent must have come by then.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Takes what is sent with a request before it is answered: all of it, in time, and not much.
pub async fn take_body(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "no request here is that large");
    if MAX_BODY < usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) {
        return too_large.into_response();
    }
    match timeout(BODY_WITHIN, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(_)) => too_large.into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "what was to be sent has not come").into_response(),
    }
}

#[cfg(test)]
mod tests;
