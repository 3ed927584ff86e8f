//! The connection: a thread of its own, which connects again when it has lost the broker.
//!
//! It does not wait for the task that reads: acknowledgements and signs of life go on while that is busy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use pipeline_stage::{ErrorKind, Result, StageError};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::link::Broker;
use crate::session::{Session, Shared};

/// Long enough to leave a broker alone that starts, short enough that nobody waits for us once it is there.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that has lasted so long is a good one: after its end it is tried again at once.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// So many that were not, one after the other, are no accident.
const SUSPICIOUS: u32 = 3;

/// A connection that lasts until it is stopped or dropped, or the broker refuses it for good.
pub struct Connection {
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    failure: Failure,
}

/// Why it has ended by itself, for the reader.
#[derive(Clone, Default)]
pub struct Failure(Arc<FailureState>);

#[derive(Default)]
struct FailureState {
    error: Mutex<Option<StageError>>,
    news: tokio::sync::Notify,
}

impl Failure {
    fn set(&self, error: StageError) {
        *self.0.error.lock().expect("no holder of this lock panics") = Some(error);
        self.0.news.notify_one();
    }

    /// Waits for it. Cancel-safe.
    pub async fn wait(&self) -> StageError {
        loop {
            let news = self.0.news.notified();
            if let Some(error) = self.0.error.lock().expect("no holder of this lock panics").take() {
                return error;
            }
            news.await;
        }
    }
}

impl Connection {
    /// Connects and subscribes, and serves from then on.
    ///
    /// # Errors
    /// What the first attempt fails by; nothing goes on then.
    pub async fn start(shared: Arc<Shared>, broker: Broker) -> Result<Self> {
        let cannot = |error: std::io::Error| StageError::fatal("the connection cannot be started").because(error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let ((stop, stopped), (end, ended)) = (watch::channel(false), oneshot::channel());
        let (first, answer) = oneshot::channel();
        let failure = Failure::default();
        let told = failure.clone();
        let run = move || {
            runtime.block_on(run(&shared, &broker, stopped, first, told));
            let _ = end.send(());
        };
        std::thread::Builder::new().name("mqtt".into()).spawn(run).map_err(cannot)?;
        let connection = Connection { stop, ended, failure };
        match answer.await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StageError::fatal("the connection has ended")),
        }
    }

    /// Why it has ended by itself.
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// Acknowledges what is logged and says good-bye.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // An error: the thread has ended otherwise.
        let _ = self.ended.await;
    }
}

async fn run(
    shared: &Shared,
    broker: &Broker,
    mut stop: watch::Receiver<bool>,
    first: oneshot::Sender<Result<()>>,
    failure: Failure,
) {
    let mut outage = Outage { broker, first: Some(first), since: None, began: None, n_short: 0, pauses: pauses() };
    loop {
        let begun = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            begun = Session::begin(shared, broker) => begun,
        };
        let served = match begun {
            Ok(session) => session.serve(stop.clone(), || outage.is_over()).await,
            Err(error) => Err(error),
        };
        let Err(error) = served else { return };
        if let Some(first) = outage.first.take() {
            // The engine tries again, and says so.
            let _ = first.send(Err(error));
            return;
        }
        if error.kind() != ErrorKind::Transient {
            return failure.set(error);
        }
        let pause = outage.pause(&error);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(pause) => {}
        }
    }
}

/// The time without a broker, of which the log has two lines.
struct Outage<'b> {
    broker: &'b Broker,
    /// Who waits for the first connection.
    first: Option<oneshot::Sender<Result<()>>>,
    since: Option<Instant>,
    /// Since when the connection is well.
    began: Option<Instant>,
    /// Connections in a row that were soon over.
    n_short: u32,
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
}

fn pauses() -> Box<dyn Iterator<Item = Duration> + Send> {
    let builder = ExponentialBuilder::new().with_min_delay(Duration::from_millis(50)).with_max_delay(LONGEST_PAUSE);
    Box::new(builder.with_jitter().without_max_times().build())
}

impl Outage<'_> {
    fn is_over(&mut self) {
        if self.began.is_some() {
            return;
        }
        self.began = Some(Instant::now());
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
        if let Some(since) = self.since.take()
            && self.n_short < SUSPICIOUS
        {
            let (broker, seconds) = (&self.broker.address, since.elapsed().as_secs());
            info!(%broker, "the broker is back after {seconds} s; it delivers what has come since");
        }
    }

    fn pause(&mut self, error: &StageError) -> Duration {
        match self.began.take().map(|began| began.elapsed() < STEADY_AFTER) {
            Some(true) => self.n_short += 1,
            Some(false) => (self.n_short, self.pauses) = (0, pauses()),
            None => {}
        }
        if self.since.is_none() {
            self.since = Some(Instant::now());
            match self.n_short {
                ..SUSPICIOUS => warn!("{}; trying again, the broker keeps what is not acknowledged", error.chain()),
                SUSPICIOUS => warn!(
                    "{}, again and again, as when another client connects as `{}`: each process needs a `client_id` of \
                     its own; trying again",
                    error.chain(),
                    self.broker.hello.client_id
                ),
                _ => {}
            }
        }
        self.pauses.next().unwrap_or(LONGEST_PAUSE)
    }
}
