#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

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
async fn each_round_gives_a_row_and_asks_as_the_file_says() {
    let more = json!({ "headers": { "X-Key": HUSH }, "query": { "appid": HUSH, "q": "São Paulo&x" } });
    let mut it = Polling::start([answer("{\n}"), answer(""), Reply::status(204), answer("3")], more).await;
    assert_eq!(it.reader.position(), Position::at(FROM));
    assert_eq!(it.rows().await, [(FROM, None, "{\n}".into())]);
    let detail = it.reader.position().detail.unwrap();
    DateTime::parse_from_rfc3339(&detail).unwrap();
    // An empty body is for the format to judge, no content is none.
    assert_eq!(it.rows().await, [(FROM + 1, None, String::new())]);
    assert_eq!(it.rows().await, [(FROM + 2, None, "3".into())]);
    let asked = it.server.requests();
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", "/?appid=hush-4711&q=S%C3%A3o+Paulo%26x"));
    assert_eq!(asked[0].headers["x-key"], HUSH);
    assert!(!asked[1].headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn what_is_not_new_is_no_row_where_that_is_wanted() {
    let replies = || {
        let tagged = answer("a").header("ETag", "\"1\"");
        [tagged.clone(), Reply::status(304), answer("a"), answer("b"), answer("a"), tagged]
    };
    let mut it = Polling::start(replies(), json!({ "unchanged": "skip" })).await;
    let mut found = Vec::new();
    for _ in 0..3 {
        found.extend(it.rows().await.into_iter().map(|(_, _, payload)| payload));
    }
    assert_eq!(found, ["a", "b", "a"]);
    let asked = it.server.requests();
    assert_eq!(asked[1].headers["if-none-match"], "\"1\"");
    assert!(!asked[3].headers.contains_key("if-none-match"), "the last document had no tag");
    let mut it = Polling::start([answer("a")], json!({})).await;
    assert_eq!((it.rows().await[0].2.as_str(), it.rows().await[0].2.as_str()), ("a", "a"));
}

#[tokio::test]
async fn when_nothing_is_answered_the_source_says_why_once_and_comes_back() {
    let limited = Reply::status(429).header("Retry-After", "0").body("slow down");
    let replies = [answer("1"), limited, Reply::status(500), Reply::close(), Reply::status(204), answer("2")];
    let mut it = Polling::start(replies, json!({})).await;
    assert_eq!(it.rows().await.len(), 1);
    let error = it.next().await.unwrap_err();
    assert_eq!((error.kind(), error.pause()), (ErrorKind::Transient, Some(Duration::ZERO)));
    assert!(error.chain().ends_with("answered 429 Too Many Requests: `slow down`"), "{}", error.chain());
    assert_eq!(it.reader.lag(), Some(1));
    // No row can say that it works again.
    assert!(it.next().await.unwrap().unwrap().is_empty());
    assert_eq!(it.reader.lag(), Some(0));
    assert_eq!(it.rows().await, [(FROM + 1, None, "2".into())]);
}

#[tokio::test]
async fn every_answer_has_its_words_and_no_secret() {
    for (reply, words) in [
        (
            Reply::status(401).body(&format!("no key {HUSH} here: /?appid={HUSH}")),
            "answered 401 Unauthorized: `no key *** here: /?***`; the key or token is missing, wrong, or not valid yet",
        ),
        (Reply::status(404), "answered 404 Not Found; `url` or a parameter is wrong, or what they name is gone"),
        (Reply::status(400), "answered 400 Bad Request; `url`, a parameter or a header is wrong"),
        (
            Reply::status(302).header("Location", "/x"),
            "302 Found; redirects are not followed: `url` must name the place itself",
        ),
        (answer("0123456789x"), "answered with more than `max_body` (10B)"),
        (answer("x").header("Content-Encoding", "gzip"), "answered with a compressed body, which it was not asked for"),
        (Reply::status(503), "answered 503 Service Unavailable"),
        (Reply::hang(), "has not answered within 200ms"),
        (Reply::close(), "broke off"),
        (Reply::breaks_off("x"), "broke off"),
    ] {
        let mut it = Polling::start([reply], json!({ "max_body": "10B", "timeout": "200ms" })).await;
        let error = it.next().await.unwrap_err();
        let found = error.chain();
        assert!(found.contains(words) && !found.contains(HUSH), "`{words}` is not in: {found}");
        assert_eq!((error.kind(), it.reader.lag()), (ErrorKind::Transient, Some(1)));
    }
}

#[tokio::test]
async fn a_request_that_is_refused_holds_up_no_other() {
    let requests = json!({ "A": { "q": "a" }, "B": { "q": "b" }, "C": { "q": "c" } });
    let mut it = Polling::start([Reply::status(404), answer("x")], json!({ "requests": requests })).await;
    let mut found = Vec::new();
    while found.len() < 20 {
        found.extend(it.rows().await);
    }
    let keys: BTreeSet<String> = found.iter().filter_map(|(_, key, _)| key.clone()).collect();
    assert_eq!((keys.len(), it.reader.lag()), (2, Some(1)));
    let offsets: Vec<u64> = found.iter().map(|(offset, _, _)| *offset).collect();
    assert_eq!(offsets, (FROM..FROM + found.len() as u64).collect::<Vec<u64>>());
}

#[tokio::test]
async fn parameters_stand_where_the_url_has_braces() {
    let requests = json!({ "A": { "id": "a/b ?", "units": "si" }, "B": { "id": "7" } });
    let server = HttpReceiver::start().await;
    let more = json!({ "requests": requests, "query": { "units": "metric" } });
    let options = options(&format!("{}/stations/{{id}}/latest", server.url()), more);
    let mut source = Http::new(options, "weather".into(), true).unwrap();
    let mut reader = source.open(&partition(), None).await.unwrap();
    while reader.next(None).await.unwrap().is_some() {}
    let paths: BTreeSet<String> = server.requests().into_iter().map(|request| request.path).collect();
    let expected = ["/stations/7/latest?units=metric", "/stations/a%2Fb%20%3F/latest?units=si"];
    assert_eq!(paths, expected.map(String::from).into());
}

#[tokio::test]
async fn slow_rounds_do_not_pile_up_and_no_more_than_eight_requests_are_under_way() {
    let mut it = Polling::start([Reply::hang()], json!({ "timeout": "300ms" })).await;
    let error = it.next().await.unwrap_err();
    assert!(error.to_string().contains("has not answered"), "{error}");
    assert_eq!(it.server.requests().len(), 1, "one, in thirty rounds");

    let requests: serde_json::Map<String, Value> = (0..20).map(|n| (format!("r{n}"), json!({}))).collect();
    let mut it = Polling::start([Reply::hang()], json!({ "requests": requests, "timeout": "20s" })).await;
    tokio::select! {
        _ = it.reader.next(None) => panic!("nothing is answered"),
        _ = it.server.wait_until(|requests| requests.len() == 8, SOON) => {}
    }
    let more = tokio::time::timeout(Duration::from_millis(200), it.reader.next(None)).await;
    assert!(more.is_err() && it.server.requests().len() == 8, "{}", it.server.requests().len());
}

#[tokio::test]
async fn a_run_once_asks_until_it_is_answered_and_fails_when_it_is_refused() {
    let mut it = Polling::once([Reply::status(503), answer("1"), answer("2")], json!({})).await;
    assert_eq!(it.next().await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(it.rows().await, [(FROM, None, "1".into())]);
    assert!(it.next().await.unwrap().is_none());
    assert_eq!(it.server.requests().len(), 2);

    let requests = json!({ "A": { "q": "a" }, "B": { "q": "b" } });
    let mut it = Polling::once([answer("1"), Reply::status(401)], json!({ "requests": requests })).await;
    let mut given = it.rows().await.len() as u64;
    while given == 0 {
        given += it.rows().await.len() as u64;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), it.reader.next(None)).await;
    assert!(early.is_err(), "what came is not on disk yet");
    it.logged(FROM + given).await;
    let error = it.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().starts_with("1 of 2 requests have no answer: `"), "{error}");
}

#[tokio::test]
async fn what_is_not_logged_is_given_again_to_another_reader() {
    let mut it = Polling::start([answer("1"), answer("2"), Reply::hang()], json!({})).await;
    assert_eq!(it.rows().await, [(FROM, None, "1".into())]);
    assert_eq!(it.rows().await, [(FROM + 1, None, "2".into())]);
    it.reader = it.source.open(&partition(), Some(&Position::at(FROM + 1))).await.unwrap();
    assert_eq!(it.rows().await, [(FROM + 1, None, "2".into())]);
    it.logged(FROM + 2).await;
    assert!(it.source.inbox.is_empty());
    it.reader = it.source.open(&partition(), None).await.unwrap();
    assert!(1_000_000_000_000_000 < it.reader.position().offset, "without state it begins high");
}

#[test]
fn a_restart_keeps_the_rhythm() {
    let every = Duration::from_secs(60);
    let before = |seconds: i64| pipeline_stage::Timestamp(now().0 - seconds * 1_000_000).to_rfc3339();
    for (last, least, most) in [
        (None, 0, 0),
        (Some("yesterday".to_owned()), 0, 0),
        (Some(before(3_600)), 0, 0),
        (Some(before(20)), 30, 40),
        (Some(before(-3_600)), 60, 60),
    ] {
        let wait = until_next(last.as_deref(), every);
        assert!((Duration::from_secs(least)..=Duration::from_secs(most)).contains(&wait), "{last:?}: {wait:?}");
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_waits_for_its_round() {
    let mut it = Polling::start([answer("1")], json!({ "every": "1h" })).await;
    assert_eq!(it.rows().await.len(), 1);
    let from = it.reader.position();
    it.logged(from.offset).await;
    it.reader = it.source.open(&partition(), Some(&from)).await.unwrap();
    assert_eq!(it.reader.position(), from);
    let early = tokio::time::timeout(Duration::from_millis(200), it.reader.next(None)).await;
    assert!(early.is_err() && it.server.requests().len() == 1);
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

#[test]
fn refuses_bad_options() {
    let url = "https://api.example.com/x";
    let many: serde_json::Map<String, Value> = (0..1_001).map(|n| (format!("r{n}"), json!({}))).collect();
    for (url, more, option, message) in [
        (url, json!({ "every": "9ms" }), "every", "`every` is 9ms, it must be at least 10ms"),
        (url, json!({ "timeout": "0s" }), "timeout", "`timeout` is 0s, it must be above 0s"),
        (url, json!({ "max_body": "65MiB" }), "max_body", "`max_body` is 65MiB, it must be 1B to 64MiB"),
        (
            url,
            json!({ "query": { "appid": "" } }),
            "query.appid",
            "`query.appid` is empty; a parameter without a value can stand in `url` itself",
        ),
        (
            url,
            json!({ "requests": { "Berlin": { "q": "" } } }),
            "requests.Berlin.q",
            "`requests.Berlin.q` is empty; a parameter without a value can stand in `url` itself",
        ),
        (url, json!({ "requests": many }), "requests", "`requests` has 1001 of them, it may have 1000"),
        (
            "https://api.example.com/{id}",
            json!({}),
            "url",
            "`url` has braces around what is no parameter of `query` or `requests`",
        ),
        (HUSH, json!({}), "url", "`url` is no URL (relative URL without a base), it would be like `https://host/path`"),
        (
            url,
            json!({ "headers": { "a b": "x" } }),
            "headers.a b",
            "`a b` is not the name of a header, it would be like `X-Api-Key`",
        ),
    ] {
        let error = Http::new(options(url, more), "weather".into(), false).err().expect("bad options");
        assert_eq!((error.to_string().as_str(), error.option()), (message, Some(option)));
    }
    let shown = format!("{:?}", options(url, json!({ "headers": { "X-Key": HUSH } })));
    assert!(!shown.contains(HUSH) && !shown.contains("example"), "{shown}");
}
