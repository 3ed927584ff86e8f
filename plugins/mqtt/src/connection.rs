//! The connection: a thread of its own, which connects again when it has lost the broker.
//!
//! It does not wait for the task that reads: acknowledgements and signs of life go on while that is busy.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use pipeline_stage::{ErrorKind, Result, StageError};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::link::{Broker, Greeting};
use crate::news::{News, TellsPanic};
use crate::session::{Ended, Session};
use crate::shared::Shared;

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
    news: News,
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
        let news = News::default();
        let told = news.clone();
        let run = move || {
            let _panic = TellsPanic(told.clone());
            runtime.block_on(run(&shared, &broker, stopped, first, told));
            let _ = end.send(());
        };
        std::thread::Builder::new().name("mqtt".into()).spawn(run).map_err(cannot)?;
        let connection = Connection { stop, ended, news };
        match answer.await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StageError::fatal("the connection has ended")),
        }
    }

    /// How it does.
    pub fn news(&self) -> News {
        self.news.clone()
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
    news: News,
) {
    let mut outage = Outage::of(broker, first, news);
    loop {
        let begun = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            begun = Session::begin(shared, broker) => begun,
        };
        let served = match begun {
            Ok(session) => {
                let greeting = session.greeting();
                session.serve(stop.clone(), || outage.is_over(greeting)).await
            }
            Err(error) => Err(error.into()),
        };
        let Err(Ended { error, is_for_good }) = served else { return };
        if let Some(first) = outage.first.take() {
            // The engine tries again, and says so.
            let _ = first.send(Err(error));
            return;
        }
        if is_for_good {
            return outage.news.failed(error);
        }
        let pause = outage.pause(&error);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(pause) => {}
        }
    }
}

/// The time without a broker. The engine tells when it begins and ends, here it is told what it means.
///
/// Who was let in once and is refused now meets a broker that is being set up, or certificates that are being renewed: that
/// is an outage, too.
struct Outage<'b> {
    broker: &'b Broker,
    /// Who waits for the first connection.
    first: Option<oneshot::Sender<Result<()>>>,
    news: News,
    since: Option<Instant>,
    /// It was told that the broker refuses.
    is_refused: bool,
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

impl<'b> Outage<'b> {
    fn of(broker: &'b Broker, first: oneshot::Sender<Result<()>>, news: News) -> Self {
        Outage {
            broker,
            first: Some(first),
            news,
            since: None,
            is_refused: false,
            began: None,
            n_short: 0,
            pauses: pauses(),
        }
    }

    fn is_over(&mut self, greeting: Greeting) {
        if self.began.is_some() {
            return;
        }
        (self.began, self.is_refused) = (Some(Instant::now()), false);
        let broker = &self.broker.address;
        if let Some(first) = self.first.take() {
            if let Some(seconds) = greeting.short_expiry {
                let asked = self.broker.hello.session_expiry;
                warn!(%broker, "the broker keeps the session for {seconds} s only, `session_expiry` is {asked} s");
            }
            let _ = first.send(Ok(()));
        }
        self.news.is_well();
        if let Some(since) = self.since.take()
            && self.n_short < SUSPICIOUS
        {
            let seconds = since.elapsed().as_secs();
            match greeting.has_session {
                true => info!(%broker, "the broker is back after {seconds} s; it delivers what it has kept"),
                false => info!(%broker, "the broker is back after {seconds} s, with a new session"),
            }
        }
    }

    fn pause(&mut self, error: &StageError) -> Duration {
        match self.began.take().map(|began| began.elapsed() < STEADY_AFTER) {
            Some(true) => self.n_short += 1,
            Some(false) => (self.n_short, self.pauses) = (0, pauses()),
            None => {}
        }
        let (is_refusal, is_first) = (error.kind() != ErrorKind::Transient, self.since.is_none());
        if is_first {
            self.since = Some(Instant::now());
            self.tell(error);
        } else if is_refusal && !self.is_refused {
            let words = error.chain();
            if self.news.is_told() {
                warn!("{words}; trying again");
            }
            // The engine, which tells the outage, knows why it lasts.
            self.news.failed(StageError::transient(words).retry_after(Duration::ZERO));
        }
        if is_refusal {
            self.is_refused = true;
            return LONGEST_PAUSE;
        }
        self.pauses.next().unwrap_or(LONGEST_PAUSE)
    }

    /// The engine need not wait: the pauses are made here.
    fn tell(&self, error: &StageError) {
        let mut words = error.chain();
        match self.n_short {
            ..SUSPICIOUS => {}
            SUSPICIOUS if error.kind() == ErrorKind::Transient => {
                let id = &self.broker.hello.client_id;
                words += &format!(
                    ", again and again, as when another client connects as `{id}`: each process needs a `client_id` of \
                     its own"
                );
            }
            SUSPICIOUS => {}
            _ => return,
        }
        self.news.failed(StageError::transient(words).retry_after(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriptions::tests::broker;

    fn greeting() -> Greeting {
        Greeting { has_session: true, short_expiry: None }
    }

    #[tokio::test]
    async fn who_was_let_in_once_meets_an_outage_when_he_is_refused() {
        let (broker, (first, answer), news) = (broker(&["a"]), oneshot::channel(), News::default());
        let mut outage = Outage::of(&broker, first, news.clone());
        outage.is_over(greeting());
        assert!(answer.await.unwrap().is_ok());
        assert_eq!(outage.pause(&StageError::fatal("no")), LONGEST_PAUSE);
        let told = news.next().await.unwrap_err();
        assert_eq!(
            (told.kind(), told.pause(), told.to_string()),
            (ErrorKind::Transient, Some(Duration::ZERO), "no".into())
        );
        assert!(outage.pause(&StageError::transient("gone")) < LONGEST_PAUSE);
        assert_eq!(outage.pause(&StageError::config("no")), LONGEST_PAUSE);
        outage.is_over(greeting());
        assert!(news.next().await.is_ok(), "told once, and then that it is back");
    }

    #[tokio::test]
    async fn connections_that_are_soon_over_are_told_a_few_times() {
        let (broker, (first, _answer), news) = (broker(&["a"]), oneshot::channel(), News::default());
        let mut outage = Outage::of(&broker, first, news.clone());
        for nth in 1..=SUSPICIOUS {
            outage.is_over(greeting());
            outage.pause(&StageError::transient("gone"));
            let told = news.next().await.unwrap_err().to_string();
            assert_eq!(told.contains("another client"), nth == SUSPICIOUS, "{told}");
        }
        outage.is_over(greeting());
        assert!(news.next().await.is_ok());
        outage.pause(&StageError::transient("gone"));
        let more = tokio::time::timeout(Duration::from_millis(1), news.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
