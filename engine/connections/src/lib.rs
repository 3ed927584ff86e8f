//! Connections of whoever comes over HTTP: how many there are at a time, and for how long each may be of no use.
//!
//! Each takes a file descriptor of the process that runs the pipeline, which needs them for its databases. So their
//! number is limited, and whoever neither asks nor takes an answer loses its place to the next one that waits. The
//! dashboard and the source `http_push` answer by it; what a body may take is the matter of each.

mod patient;
mod places;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use patient::Patient;
use places::Places;

/// What whoever connects finds.
pub struct Door {
    /// What it is, for the log.
    pub what: String,
    /// What is answered.
    pub routes: Router,
    /// What connections may take.
    pub limits: Limits,
    /// What those of one address may take; none where one address may have all places.
    pub per_address: Option<PerAddress>,
}

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
    /// The largest head of a request, at least 8 KiB.
    pub head_bytes: usize,
}

/// So that one sender cannot keep out all others.
pub struct PerAddress {
    /// So many connections may one address have at a time. Of IPv6 that is a network of 64 bits, which is what one
    /// sender has.
    pub most: usize,
    /// What further ones are answered. It should end the connection, and need not read a body.
    pub refusal: Router,
}

/// When no connection can be taken, because no file descriptor is free, it is tried again so much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);
/// At the end, answers that are known are given by then; who takes longer to read theirs does not hold it up.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// So many are refused in words at a time, each within so long: they have places that others want. More are closed.
const REFUSED_AT_ONCE: usize = 8;
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// An address that has too many is told so often, however often it tries.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Answers until `stop` is over, and then those who have asked already.
pub async fn serve(listener: TcpListener, door: Door, stop: impl Future<Output = ()>) {
    let all = Arc::new(Semaphore::new(door.limits.connections));
    let (tell, told) = watch::channel(false);
    tokio::select! {
        biased;
        () = stop => {}
        () = accept(&listener, &door, &all, &told) => {}
    }
    drop(listener);
    tell.send_replace(true);
    let every = u32::try_from(door.limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(ENDS_WITHIN, all.acquire_many(every)).await;
}

async fn accept(listener: &TcpListener, door: &Door, all: &Arc<Semaphore>, told: &watch::Receiver<bool>) {
    let places = Arc::new(Places::new(door.per_address.as_ref().map_or(usize::MAX, |per_address| per_address.most)));
    let mut crowd = Crowd { refusing: Arc::new(Semaphore::new(REFUSED_AT_ONCE)), said: None };
    let mut fails = false;
    loop {
        let place = all.clone().acquire_owned().await.expect("nobody closes it");
        let (stream, from) = accepted(listener, &door.what, &mut fails).await;
        // Events are small and must not wait for more.
        let _ = stream.set_nodelay(true);
        match (places.take(from.ip()), &door.per_address) {
            (None, Some(per_address)) => {
                crowd.say(&door.what, from.ip(), per_address.most);
                // Without a turn it is closed.
                let Some(turn) = crowd.turn() else { continue };
                let (routes, limits) = (per_address.refusal.clone(), door.limits.of_the_refused());
                tokio::spawn(answer(stream, routes, limits, told.clone(), (place, turn)));
            }
            (own, _) => {
                let limits = door.limits.among(all.available_permits());
                tokio::spawn(answer(stream, door.routes.clone(), limits, told.clone(), (place, own)));
            }
        }
    }
}

async fn accepted(listener: &TcpListener, what: &str, fails: &mut bool) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                *fails = false;
                return accepted;
            }
            // The other end has given up before it was its turn.
            Err(error) if is_about_one(error.kind()) => {}
            Err(error) => {
                if !std::mem::replace(fails, true) {
                    warn!("{what} takes no connection: {error}; trying again until it can");
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

impl Limits {
    /// In a crowd nobody keeps a place for a question that does not come: whoever asks how the process is gets one soon.
    fn among(self, n_free: usize) -> Self {
        let is_crowded = n_free < self.connections / 4;
        Limits { request_within: if is_crowded { self.begun_within } else { self.request_within }, ..self }
    }

    fn of_the_refused(self) -> Self {
        Limits { begun_within: REFUSED_WITHIN, request_within: REFUSED_WITHIN, taken_within: REFUSED_WITHIN, ..self }
    }
}

/// Those whose address has too many connections already.
struct Crowd {
    refusing: Arc<Semaphore>,
    /// When it was said last.
    said: Option<Instant>,
}

impl Crowd {
    fn say(&mut self, what: &str, from: IpAddr, most: usize) {
        if self.said.is_none_or(|said| SAID_AGAIN <= said.elapsed()) {
            self.said = Some(Instant::now());
            warn!("{what}: {from} has {most} connections, further ones are refused");
        }
    }

    /// Whether one more is told.
    fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.refusing.clone().try_acquire_owned().ok()
    }
}

/// Answers what is asked on a connection, which has its places until then.
async fn answer<P>(stream: TcpStream, routes: Router, limits: Limits, mut told: watch::Receiver<bool>, _places: P) {
    let mut first = [0];
    let begun = tokio::select! {
        begun = timeout(limits.begun_within, stream.peek(&mut first)) => begun,
        _ = told.wait_for(|is_over| *is_over) => return,
    };
    let Ok(Ok(1)) = begun else { return };
    let connection = TokioIo::new(Patient::new(stream, limits.taken_within));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.request_within).max_buf_size(limits.head_bytes);
    let mut connection = std::pin::pin!(http.serve_connection(connection, TowerToHyperService::new(routes)));
    // How a connection ends is its other end's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = told.wait_for(|is_over| *is_over) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
