//! The server: addresses and routes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use pipeline_connections::{Door, serve};
use pipeline_runtime::run::health::failing;
use pipeline_stage::{Result, StageError};
use tokio::sync::Semaphore;
use tracing::error;

use crate::access::{Access, Role, Tokens, guard};
use crate::archive::Archive;
use crate::connections::{LIMITS, take_body};
use crate::health::readiness;
use crate::live::Live;
use crate::metrics::{Exposition, exposed};
use crate::serving::{Computing, Serving};
use crate::tap::Budget;
use crate::watched::Watched;
use crate::{archive, letters, live, login, page, tap};

/// Where the dashboard is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Loopback, port 8080 or the next one that is free.
    Default,
    /// There and nowhere else.
    At(SocketAddr),
}

/// The first port that is tried, and how many: several pipelines on one machine each get one.
const FIRST_PORT: u16 = 8080;
const PORTS: u16 = 20;

/// A server that has its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tokens: Tokens,
}

/// What answers need.
#[derive(Clone)]
pub struct Shared {
    /// What is looked at.
    pub watched: Arc<Watched>,
    /// Who may look.
    pub access: Arc<Access>,
    /// What all pages are told.
    pub live: Arc<Live>,
    /// What sinks have stored.
    pub archive: Arc<Archive>,
    /// What takes long.
    pub computing: Arc<Computing>,
    /// What taps may cost.
    pub taps: Arc<Budget>,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// `Config` when it cannot be had, or is not loopback and there is no token.
    pub fn bind(address: Address, tokens: Tokens) -> Result<Self> {
        if let Address::At(address) = address
            && !address.ip().is_loopback()
            && tokens.view.is_none()
            && tokens.admin.is_none()
        {
            return Err(StageError::config(format!(
                "others can reach the dashboard on {address}, so it needs a token: set PIPELINE_DASHBOARD_TOKEN, or \
                 PIPELINE_DASHBOARD_TOKEN_FILE to a file that holds it"
            )));
        }
        let listener = match address {
            Address::At(address) => TcpListener::bind(address).map_err(|error| cannot(address, error))?,
            Address::Default => free_port()?,
        };
        let address = listener.local_addr().map_err(|error| cannot((Ipv4Addr::LOCALHOST, 0).into(), error))?;
        Ok(Server { listener, address, tokens })
    }

    /// Where it is, for people.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Answers beside the pipeline, until what it gives is dropped.
    ///
    /// # Errors
    /// `Fatal` when the operating system gives no threads.
    pub fn serve(self, watched: Watched) -> Result<Serving> {
        let no_threads = |error| StageError::fatal("the dashboard cannot be started").because(error);
        Serving::begin(async {
            if let Err(error) = self.answer(watched).await {
                error!("the dashboard has ended: {error}; the pipeline goes on");
            }
        })
        .map_err(no_threads)
    }

    async fn answer(self, watched: Watched) -> std::io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let access = Arc::new(Access::new(&watched.plan.settings.name, self.address, &self.tokens));
        let watched = Arc::new(watched);
        let live = Live::start(watched.clone());
        let archive = Arc::new(Archive::of(&watched.plan));
        let (computing, taps) = (Arc::new(Computing::new()), Arc::default());
        let routes = routes(Shared { watched, access, live, archive, computing, taps });
        // Idle ones lose their places soon, and behind a proxy everybody has one address.
        let door = Door { what: "the dashboard".into(), routes, limits: LIMITS, per_address: None };
        serve(listener, door, std::future::pending()).await;
        Ok(())
    }
}

fn free_port() -> Result<TcpListener> {
    let mut last = None;
    for port in (FIRST_PORT..FIRST_PORT + PORTS).chain([0]) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| std::io::Error::other("no port was tried"));
    Err(cannot((Ipv4Addr::LOCALHOST, FIRST_PORT).into(), error))
}

fn cannot(address: SocketAddr, error: std::io::Error) -> StageError {
    StageError::config(format!(
        "the dashboard cannot listen on {address}: {error}; `--dashboard` takes another address, or `off`"
    ))
}

fn routes(shared: Shared) -> Router {
    let access = shared.access.clone();
    let few = Arc::new(Semaphore::new(SERIES_AT_ONCE));
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{file}", get(page::asset))
        .route("/health", get(alive))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/login", get(login::form).merge(post(login::login)).with_state(access.clone()))
        .route("/logout", post(login::logout).with_state(access.clone()))
        .route("/api/pipeline", get(page::pipeline))
        .route("/api/live", get(live::events))
        .route("/api/tap/{stage}", get(tap::events))
        .route("/api/tables/{sink}/rows", get(archive::rows))
        .route("/api/tables/{sink}/counts", get(archive::counts))
        .route("/api/tables/{sink}/csv", get(archive::csv))
        .route("/api/tables/{sink}/series", get(archive::series_names))
        .route("/api/series", get(archive::points).layer(from_fn_with_state(few, in_turn)))
        .route("/api/dead-letters", get(letters::list))
        .route("/api/dead-letters/replay", post(letters::replay))
        .with_state(shared)
        .layer(from_fn(take_body))
        .layer(from_fn_with_state(access, guard))
}

/// Each reads thousands of rows: a page is as fast by one after another, and the database has other work.
const SERIES_AT_ONCE: usize = 2;

async fn in_turn(State(few): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let _turn = few.acquire().await;
    next.run(request).await
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let tasks = shared.watched.progress.view.tasks();
    let mut readiness = readiness(&shared.watched, &failing(), &tasks);
    if shared.access.role(&headers) < Role::Viewer {
        // Reasons name machines and quote what they say.
        readiness.reasons.clear();
    }
    let status = if readiness.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let exposition = Exposition::accepted(accept);
    match exposed(&shared.watched, exposition) {
        Ok(text) => ([(CONTENT_TYPE, exposition.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
