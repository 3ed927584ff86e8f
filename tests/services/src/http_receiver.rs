//! An HTTP server that records what it is sent and answers as a test says: it stands for Slack and for webhooks.

mod reply;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request as AxumRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::waiting::becomes_true;

use reply::Act;
pub use reply::Reply;

/// Larger than anything a test sends; without a limit a mistake could fill the memory.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A request that was received, whatever the answer was.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST`, for example.
    pub method: String,
    /// What follows the host, with the query: `/alerts?team=a`.
    pub path: String,
    /// The headers; look up by name with `headers.get("content-type")`.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("not JSON: {error}\n{}", String::from_utf8_lossy(&self.body)))
    }
}

/// A receiver on a free port of this machine; dropping it closes the port.
pub struct HttpReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// The replies still to give, the next one first; the last one stays. Empty: `Reply::ok`.
    replies: Mutex<Vec<Reply>>,
    /// What gives the replies, if a test has set it.
    judge: Mutex<Option<Judge>>,
}

type Judge = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

impl HttpReceiver {
    /// Starts a receiver that answers 200 `ok`.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same on a port that is known already: another server had it.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let service = Router::new().fallback(receive).with_state(shared.clone());
        let service = service.into_make_service_with_connect_info::<Connection>();
        let server = tokio::spawn(async move {
            axum::serve(listener, service).await.expect("axum::serve never ends");
        });
        HttpReceiver { address, shared, server }
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests().clone()
    }

    /// Sets the replies to the requests from now on, one each; the last one is given for ever.
    ///
    /// `[Reply::status(429).header("Retry-After", "1"), Reply::ok()]` refuses once.
    pub fn set_behaviour(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.shared.replies() = replies.into_iter().collect();
    }

    /// Replies from now on as `judge` says of each request.
    pub fn answer_by(&self, judge: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.shared.judge.lock().expect("nobody panics with this lock") = Some(Arc::new(judge));
    }

    /// Waits until the requests so far fulfil `condition` and gives them; panics after `timeout`, showing them.
    pub async fn wait_until(&self, condition: impl Fn(&[Request]) -> bool, timeout: Duration) -> Vec<Request> {
        let came_true = becomes_true(timeout, || condition(&self.requests())).await;
        let requests = self.requests();
        assert!(came_true, "the receiver waited {timeout:?} in vain; it has {}", Summary(&requests));
        requests
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().expect("nobody panics with this lock")
    }

    fn replies(&self) -> MutexGuard<'_, Vec<Reply>> {
        self.replies.lock().expect("nobody panics with this lock")
    }

    fn reply_to(&self, request: &Request) -> Reply {
        let judge = self.judge.lock().expect("nobody panics with this lock").clone();
        if let Some(judge) = judge {
            return judge(request);
        }
        let mut replies = self.replies();
        if 1 < replies.len() {
            return replies.remove(0);
        }
        replies.first().cloned().unwrap_or_else(Reply::ok)
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: AxumRequest,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body: Bytes::into(body),
    };
    let reply = shared.reply_to(&request);
    shared.requests().push(request);
    match reply.0 {
        Act::Answer { status, headers, body } => answer(status, &headers, body),
        Act::BreakOff(body) => {
            let parts = [Ok(body), Err(std::io::Error::other("it breaks off"))];
            Body::from_stream(futures::stream::iter(parts)).into_response()
        }
        Act::Hang => std::future::pending().await,
        Act::Close => {
            connection.close();
            // Goes nowhere: the connection is shut.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn answer(status: u16, headers: &[(String, String)], body: String) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body.into()).unwrap_or_else(|error| panic!("a reply of the test is not valid HTTP: {error}"))
}

/// A second grip on a connection's socket, to shut it without an answer.
#[derive(Clone)]
struct Connection(Arc<StdTcpStream>);

impl Connection {
    fn close(&self) {
        // An error means that the client was faster.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let socket = stream.io().as_fd().try_clone_to_owned().expect("a socket can be shared");
        Connection(Arc::new(StdTcpStream::from(socket)))
    }
}

/// Requests in a failure: how many, and one line each.
struct Summary<'a>(&'a [Request]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.0.len())?;
        for Request { method, path, body, .. } in self.0 {
            write!(f, "\n  {method} {path} {}", String::from_utf8_lossy(body))?;
        }
        Ok(())
    }
}
