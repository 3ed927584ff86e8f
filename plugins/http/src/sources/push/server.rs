//! The server: a thread of its own, with so many connections at a time, and so many of each address.
//!
//! What connections may take is kept by [`pipeline_connections`]; what a request may take, by [`super::request`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, routing};
use pipeline_connections::{Door, Limits, PerAddress, serve};
use pipeline_stage::{Result, StageError};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tracing::warn;

use super::HttpPushOptions;
use super::request::{Posts, post, too_many};

/// The head of a request must have come by then; so long may a connection be idle, too. In a crowd it is no less: whoever
/// keeps a connection to post every some seconds should not lose it just when it posts.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// Answers are small: a sender that takes nothing of them for so long does not read them.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// The largest head: some tokens and names of proxies.
const MOST_HEAD: usize = 16 << 10;

/// What connections may take.
pub fn limits(options: &HttpPushOptions) -> Limits {
    Limits {
        connections: options.max_connections as usize,
        begun_within: HEAD_WITHIN,
        request_within: HEAD_WITHIN,
        taken_within: TAKEN_WITHIN,
        head_bytes: MOST_HEAD,
    }
}

/// A server that runs until it is stopped or dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Server {
    /// Answers from now on.
    pub fn start(
        listener: std::net::TcpListener,
        options: &HttpPushOptions,
        limits: Limits,
        posts: Arc<Posts>,
    ) -> Result<Self> {
        let cannot = |error: io::Error| StageError::fatal("the server cannot be started").because(error);
        let address = listener.local_addr().map_err(cannot)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let ((stop, mut stopped), (end, ended)) = (watch::channel(false), oneshot::channel());
        let most = options.max_connections_per_address as usize;
        let door = Door {
            what: format!("http://{address}{}", options.path),
            routes: Router::new().route(&options.path, routing::post(post)).with_state(posts),
            limits,
            per_address: Some(PerAddress { most, refusal: Router::new().fallback(too_many) }),
        };
        let serve = move || {
            runtime.block_on(async {
                let stop = async {
                    // An error: whoever could stop it is gone.
                    let _ = stopped.wait_for(|stop| *stop).await;
                };
                match TcpListener::from_std(listener) {
                    Ok(listener) => serve(listener, door, stop).await,
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
