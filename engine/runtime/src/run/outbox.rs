//! An outbox, as the tasks see it: they put alerts in, and wait or send fewer when it is full.

use std::fmt;
use std::sync::{Arc, Mutex};

use pipeline_stage::{Pace, Result, WhenFull};
use tokio::sync::{Notify, watch};
use tracing::debug;

use super::retry::until_store_works;
use super::view::Families;
use crate::store::{NewAlert, OutboxStore};

/// The outbox of one sink.
pub struct Outbox {
    /// The sink's id.
    pub sink: String,
    /// How it is emptied.
    pub pace: Pace,
    store: Arc<dyn OutboxStore>,
    state: watch::Sender<State>,
    /// Something was put in; only the worker waits for it.
    pub news: Notify,
    /// What became of alerts in this run.
    ends: Mutex<Ends>,
}

/// What became of alerts.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Were delivered, alone or in a digest.
    pub delivered: u64,
    /// Could never be delivered and became dead letters.
    pub refused: u64,
    /// Why, without values.
    pub reasons: Families,
}

#[derive(Clone, Copy)]
struct State {
    /// How many alerts wait, as far as this process knows: others may put in and take out, too.
    waiting: u64,
    is_stopping: bool,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outbox").field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl Outbox {
    /// The outbox of a sink with what waits in it already.
    pub async fn open(sink: &str, pace: Pace, store: Arc<dyn OutboxStore>) -> Result<Arc<Self>> {
        let waiting = until_store_works(|| store.count_pending(sink)).await?;
        let state = watch::channel(State { waiting, is_stopping: false }).0;
        Ok(Arc::new(Outbox { sink: sink.into(), pace, store, state, news: Notify::new(), ends: Mutex::default() }))
    }

    /// Waits until there is room, if the sink wants that, and decides which alerts are too many.
    pub async fn admit(&self, alerts: &mut [NewAlert]) {
        if alerts.is_empty() {
            return;
        }
        if self.pace.when_full == WhenFull::Wait {
            return self.has_room().await;
        }
        let room = self.pace.max_pending.saturating_sub(self.state.borrow().waiting) as usize;
        for alert in alerts.iter_mut().skip(room) {
            alert.is_excess = true;
        }
    }

    async fn has_room(&self) {
        let may_go_on = |state: &State| state.is_stopping || state.waiting < self.pace.max_pending;
        // The sender is ours: it cannot be gone.
        let _ = self.state.subscribe().wait_for(may_go_on).await;
    }

    /// The run is to end: nobody waits for room any more. What the last epochs put in is in the store.
    pub fn stop_waiting(&self) {
        self.state.send_modify(|state| state.is_stopping = true);
    }

    /// So many alerts are in the store now.
    pub fn put(&self, count: u64) {
        if 0 < count {
            self.state.send_modify(|state| state.waiting += count);
            self.news.notify_one();
        }
    }

    /// So many alerts wait no more.
    pub fn taken_out(&self, count: u64) {
        self.state.send_modify(|state| state.waiting = state.waiting.saturating_sub(count));
    }

    /// So many alerts were delivered.
    pub fn delivered(&self, count: u64) {
        self.taken_out(count);
        self.ends.lock().expect("no holder of this lock panics").delivered += count;
    }

    /// So many alerts became dead letters. True when they are the first.
    pub fn refused(&self, count: u64, reason: &str) -> bool {
        let mut ends = self.ends.lock().expect("no holder of this lock panics");
        ends.refused += count;
        ends.reasons.add(reason, count);
        ends.refused == count
    }

    /// What became of alerts in this run.
    pub fn ends(&self) -> Ends {
        self.ends.lock().expect("no holder of this lock panics").clone()
    }

    /// How many alerts wait, as far as this process knows.
    pub fn waiting(&self) -> u64 {
        self.state.borrow().waiting
    }

    /// So many alerts wait, says the store.
    pub fn counted(&self, waiting: u64) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.waiting, waiting) != waiting);
    }

    /// Waits until it is empty.
    ///
    /// # Errors
    /// When the store fails for good.
    pub async fn emptied(&self) -> Result<()> {
        loop {
            let _ = self.state.subscribe().wait_for(|state| state.waiting == 0).await;
            let waiting = until_store_works(|| self.store.count_pending(&self.sink)).await?;
            if waiting == 0 {
                return Ok(());
            }
            self.counted(waiting);
        }
    }

    /// How many alerts wait, says the store; if it does not answer, as far as this process knows.
    pub async fn left(&self) -> u64 {
        match self.store.count_pending(&self.sink).await {
            Ok(waiting) => waiting,
            Err(error) => {
                debug!("{}: the alerts that wait cannot be counted: {}", self.sink, error.chain());
                self.waiting()
            }
        }
    }
}
