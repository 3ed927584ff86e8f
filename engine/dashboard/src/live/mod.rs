//! What every open page is told: how the pipeline is, once a second, and the rows that pass, twice a second.
//!
//! It is made once, however many pages are open. Rows are looked at only while somebody has a page open.

mod feed;
mod pulse;
mod worst;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::BroadcastStream;

use crate::access::Role;
use crate::server::Shared;
use crate::watched::Watched;
use feed::Feed;
use pulse::Look;
pub use pulse::Pulse;

/// How often pages are told how the pipeline is.
const PULSE_EVERY: Duration = Duration::from_secs(1);
/// How often they are told which rows have passed: soon enough that a row is seen within a second.
const FEED_EVERY: Duration = Duration::from_millis(400);
/// How often it is looked whether somebody has opened a page, while none is open.
const LOOK_FOR_PAGES: Duration = Duration::from_millis(50);
/// Events that wait for a page that reads slowly; it misses older ones.
const WAITING: usize = 16;
/// More pages would take from the pipeline what they show of it.
const MAX_PAGES: usize = 100;
/// What a page that has just been opened is told of the past: five minutes.
const PAST: usize = 300;

/// What every open page is told.
pub struct Live {
    events: broadcast::Sender<Told>,
    past: Mutex<Past>,
    /// Whether rows are looked at.
    looks: watch::Sender<bool>,
}

#[derive(Clone)]
struct Told {
    name: &'static str,
    data: Arc<str>,
}

/// The last minutes, a point for each second.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Past {
    /// Milliseconds since 1970.
    at: VecDeque<i64>,
    /// Rows read a second.
    rate: VecDeque<f64>,
    /// Anomalies a second.
    anomalies: VecDeque<f64>,
    /// Rows that are there and not read yet; none when no source can know.
    lag: VecDeque<Option<u64>>,
}

impl Past {
    fn add(&mut self, pulse: &Pulse) {
        if self.at.len() == PAST {
            self.at.pop_front();
            self.rate.pop_front();
            self.anomalies.pop_front();
            self.lag.pop_front();
        }
        self.at.push_back(pulse.at);
        self.rate.push_back(pulse.rate);
        self.anomalies.push_back(pulse.anomaly_rate);
        self.lag.push_back(pulse.lag);
    }
}

impl Live {
    /// Begins to look; ends with the runtime.
    pub fn start(watched: Arc<Watched>) -> Arc<Self> {
        let live = Arc::new(Live {
            events: broadcast::channel(WAITING).0,
            past: Mutex::default(),
            looks: watch::channel(false).0,
        });
        tokio::spawn(beat(live.clone(), watched.clone()));
        tokio::spawn(feed(live.clone(), watched));
        live
    }

    fn tell(&self, name: &'static str, what: &impl Serialize) {
        if self.events.receiver_count() == 0 {
            return;
        }
        if let Ok(data) = serde_json::to_string(what) {
            // Whoever has left meanwhile misses nothing.
            let _ = self.events.send(Told { name, data: data.into() });
        }
    }
}

async fn beat(live: Arc<Live>, watched: Arc<Watched>) {
    let mut tick = interval(PULSE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Look::new(&watched);
    tick.tick().await;
    loop {
        tick.tick().await;
        let now = Look::new(&watched);
        let pulse = Pulse::between(&watched, &before, &now);
        before = now;
        live.past.lock().expect("no holder of this lock panics").add(&pulse);
        live.tell("pulse", &pulse);
    }
}

async fn feed(live: Arc<Live>, watched: Arc<Watched>) {
    loop {
        // While nobody looks, the stages are not even asked.
        while live.events.receiver_count() == 0 {
            tokio::time::sleep(LOOK_FOR_PAGES).await;
        }
        let mut feed = Feed::new(&watched);
        live.looks.send_replace(true);
        while 0 < live.events.receiver_count() {
            feed.collect(FEED_EVERY).await;
            if let Some(rows) = feed.take() {
                live.tell("rows", &rows);
                live.tell("worst", &feed.worst());
            }
        }
        live.looks.send_replace(false);
    }
}

/// `/api/live`: server-sent events `past`, `pulse`, `rows` and `worst`.
pub async fn events(
    State(shared): State<Shared>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, (StatusCode, &'static str)> {
    if MAX_PAGES <= shared.live.events.receiver_count() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many pages are open"));
    }
    let news = BroadcastStream::new(shared.live.events.subscribe());
    // A page that says it is live must not miss the next row.
    let mut looks = shared.live.looks.subscribe();
    let _ = tokio::time::timeout(PULSE_EVERY, looks.wait_for(|looks| *looks)).await;
    let past = shared.live.past.lock().expect("no holder of this lock panics").clone();
    let past = Event::default().event("past").data(serde_json::to_string(&past).unwrap_or_default());
    // Whoever was too slow goes on with what comes now.
    let news = news.filter_map(|told| async { told.ok() });
    // Whoever has logged out meanwhile is told nothing more.
    let news = news.take_while(move |_| ready(Role::Viewer <= shared.access.role(&headers)));
    let news = news.map(|told| Event::default().event(told.name).data(&*told.data));
    Ok(Sse::new(stream::iter([past]).chain(news).map(Ok)).keep_alive(KeepAlive::default()))
}
