//! The server: a thread of its own, with so many connections at a time.
//!
//! A connection takes a file descriptor of the process that runs the pipeline, so their number is limited, and one that
//! asks nothing loses its place. What a request may take is in [`super::request`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pipeline_stage::{Result, StageError};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::HttpPushOptions;
use super::request::{Posts, post};

/// The head of a request must have come by then; so long may a connection be idle, too.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// The largest head: some tokens and names of proxies.
const MOST_HEAD: usize = 16 << 10;
/// When no connection can be taken, because no file descriptor is free, it is tried again so much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);
/// Answers that are known are given by then; who takes longer to read theirs does not hold up the end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A server that runs until it is stopped or dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Server {
    /// Answers from now on.
    pub fn start(listener: std::net::TcpListener, options: &HttpPushOptions, posts: Arc<Posts>) -> Result<Self> {
        let cannot = |error: io::Error| StageError::fatal("the server cannot be started").because(error);
        let address = listener.local_addr().map_err(cannot)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let routes = Router::new().route(&options.path, routing::post(post)).with_state(posts);
        let ((stop, stopped), (end, ended)) = (watch::channel(false), oneshot::channel());
        let places = options.max_connections;
        let serve = move || {
            runtime.block_on(async {
                match TcpListener::from_std(listener) {
                    Ok(listener) => serve(listener, routes, places, stopped).await,
                    Err(error) => warn!("nobody can post: {error}"),
                }
            });
            let _ = end.send(());
        };
        std::thread::Builder::new().name("http-push".into()).spawn(serve).map_err(cannot)?;
        Ok(Server { address, stop, ended })
    }

    /// Takes no more, and waits until those that are there have their answers.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // An error: the thread has ended otherwise.
        let _ = self.ended.await;
    }
}

async fn serve(listener: TcpListener, routes: Router, count: u32, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(count as usize));
    let mut fails = false;
    let stop = stopped.clone();
    let accept = async {
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let stream = accepted(&listener, &mut fails).await;
            let _ = stream.set_nodelay(true);
            tokio::spawn(answer(stream, routes.clone(), stop.clone(), place));
        }
    };
    tokio::select! {
        () = accept => {}
        // An error: whoever could stop it is gone.
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    // The end of the last connection, or the end of the runtime.
    let _ = timeout(ENDS_WITHIN, places.acquire_many(count)).await;
}

async fn accepted(listener: &TcpListener, fails: &mut bool) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                *fails = false;
                return stream;
            }
            // The other end has given up before it was its turn.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(fails, true) {
                    warn!("no connection can be taken: {error}; trying again until it can");
                }
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, routes: Router, mut stop: watch::Receiver<bool>, _place: OwnedSemaphorePermit) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MOST_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is its other end's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
