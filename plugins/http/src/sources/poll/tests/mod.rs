#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod answers;
mod options;
mod rounds;

use std::collections::BTreeSet;

use arrow::array::Array;
use pipeline_services::{HttpReceiver, Reply, eventually};
use pipeline_stage::{ErrorKind, SourceBatch, SourceRows, StageType};
use pipeline_testkit::{SourceSubject, a_read_given_up_loses_nothing, the_same_is_read_twice};
use serde_json::{Value, json};

use super::*;

const SOON: Duration = Duration::from_secs(30);
const FROM: u64 = 700;
/// In the parameters of every request; it must never be seen.
const HUSH: &str = "hush-4711";

fn options(url: &str, more: Value) -> HttpOptions {
    let mut options = json!({ "url": url, "every": "10ms", "query": { "appid": HUSH } });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(options).unwrap()
}

/// A server, and a reader that asks it.
struct Polling {
    server: HttpReceiver,
    source: Http,
    reader: Box<dyn Reader>,
}

fn partition() -> Partition {
    Partition::numbered(0)
}

impl Polling {
    async fn start(replies: impl IntoIterator<Item = Reply>, more: Value) -> Self {
        Self::start_run(replies, more, false).await
    }

    async fn once(replies: impl IntoIterator<Item = Reply>, more: Value) -> Self {
        Self::start_run(replies, more, true).await
    }

    async fn start_run(replies: impl IntoIterator<Item = Reply>, more: Value, once: bool) -> Self {
        let server = HttpReceiver::start().await;
        server.set_behaviour(replies);
        let mut source = Http::new(options(&server.url(), more), "weather".into(), once).unwrap();
        let reader = source.open(&partition(), Some(&Position::at(FROM))).await.unwrap();
        Polling { server, source, reader }
    }

    async fn next(&mut self) -> Result<Option<SourceBatch>> {
        tokio::time::timeout(SOON, self.reader.next(None)).await.expect("something comes")
    }

    /// The next rows: offset, key and payload.
    async fn rows(&mut self) -> Vec<(u64, Option<String>, String)> {
        rows(&self.next().await.unwrap().unwrap())
    }

    async fn logged(&mut self, through: u64) {
        self.source.logged(&partition(), &Position::at(through)).await.unwrap();
    }
}

fn rows(batch: &SourceBatch) -> Vec<(u64, Option<String>, String)> {
    let SourceRows::Raw(raw) = &batch.rows else { panic!("it gives payloads") };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let key = |row| raw.keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| text(keys.value(row)));
    let offsets = batch.offsets.iter().enumerate();
    offsets.map(|(row, offset)| (*offset, key(row), text(raw.payloads.value(row)))).collect()
}

fn answer(body: &str) -> Reply {
    Reply::status(200).body(body)
}

#[tokio::test]
async fn the_laws_of_sources_hold() {
    let stage = StageType::source::<HttpOptions>();
    let server = HttpReceiver::start().await;
    let options = json!({ "url": server.url(), "every": "10ms" });
    let subject = SourceSubject { stage: &stage, options: &options, directory: std::path::Path::new(".") };
    for words in [the_same_is_read_twice(subject).await, a_read_given_up_loses_nothing(subject).await] {
        let words = words.map_err(|broken| broken.to_string()).unwrap();
        assert!(words.contains("cannot be read again"), "{words}");
    }
    eventually(SOON, "it was asked", || async { 10 < server.requests().len() }).await;
}
