//! Connections: how many there are at a time, and for how long each may be of no use.
//!
//! Each takes a file descriptor of the process that runs the pipeline, which needs them for its databases. So their
//! number is limited, and whoever neither asks nor takes an answer loses its place to the next one that waits.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::warn;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many at a time; more wait in the operating system's queue, which takes nothing of this process.
    pub connections: usize,
    /// One on which nothing at all has come for so long after it was taken is closed: whoever connects has a question.
    pub begun_within: Duration,
    /// One on which no whole head of a request has come for so long is closed, be it the first or another one; in a crowd,
    /// when less than a fourth of the places is free, after `begun_within` already.
    pub request_within: Duration,
    /// One whose other end takes nothing of an answer for so long is closed.
    pub taken_within: Duration,
}

/// A fourth of the file descriptors that a process usually has, and more than all pages and taps that may be open.
/// Prometheus asks every 15 s and keeps its connection.
impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 256,
            begun_within: Duration::from_secs(3),
            request_within: Duration::from_secs(20),
            taken_within: Duration::from_secs(30),
        }
    }
}

/// When no connection can be taken, because no file descriptor is free, it is tried again so much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);

/// Answers for ever.
pub async fn serve(listener: TcpListener, routes: Router, limits: Limits) -> Infallible {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut fails = false;
    loop {
        let place = places.clone().acquire_owned().await.expect("nobody closes it");
        let stream = accepted(&listener, &mut fails).await;
        // Events are small and must not wait for more.
        let _ = stream.set_nodelay(true);
        // In a crowd nobody keeps a place for a question that does not come: whoever asks how the process is gets one soon.
        let is_crowded = places.available_permits() < limits.connections / 4;
        let request_within = if is_crowded { limits.begun_within } else { limits.request_within };
        tokio::spawn(answer(stream, routes.clone(), Limits { request_within, ..limits }, place));
    }
}

async fn accepted(listener: &TcpListener, fails: &mut bool) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                *fails = false;
                return stream;
            }
            // The other end has given up before it was its turn.
            Err(error) if is_about_one(error.kind()) => {}
            Err(error) => {
                if !std::mem::replace(fails, true) {
                    warn!("the dashboard takes no connection: {error}; trying again until it can");
                }
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn is_about_one(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(kind, ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn answer(stream: TcpStream, routes: Router, limits: Limits, _place: OwnedSemaphorePermit) {
    let Ok(Ok(1)) = timeout(limits.begun_within, stream.peek(&mut [0])).await else { return };
    let connection = TokioIo::new(Patient::new(stream, limits.taken_within));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.request_within);
    // How a connection ends is its other end's business.
    let _ = http.serve_connection(connection, TowerToHyperService::new(routes)).await;
}

/// A connection that fails when its other end takes nothing for some time.
struct Patient<S> {
    stream: S,
    within: Duration,
    until: Pin<Box<Sleep>>,
    waits: bool,
}

impl<S> Patient<S> {
    fn new(stream: S, within: Duration) -> Self {
        Patient { stream, within, until: Box::pin(sleep_until(Instant::now())), waits: false }
    }

    fn in_time<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waits = false;
            return polled;
        }
        if !std::mem::replace(&mut self.waits, true) {
            self.until.as_mut().reset(Instant::now() + self.within);
        }
        self.until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, from);
        self.in_time(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, from);
        self.in_time(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

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
