#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use bytes::Bytes;
use pipeline_services::eventually;
use pipeline_stage::SourceRows;
use pipeline_testkit::{SourceSubject, a_read_given_up_loses_nothing, the_same_is_read_twice};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

fn options(more: Value) -> HttpPushOptions {
    let mut options = json!({ "listen": "127.0.0.1:0" });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(options).unwrap()
}

/// A source that listens, and its reader.
struct Listening {
    source: HttpPush,
    reader: Box<dyn Reader>,
    url: String,
    client: Client,
}

const SOON: std::time::Duration = std::time::Duration::from_secs(30);
const FROM: u64 = 700;

fn partition() -> Partition {
    Partition::numbered(0)
}

impl Listening {
    async fn start(more: Value) -> Self {
        Self::start_with(more, |_| {}).await
    }

    async fn start_with(more: Value, change: impl FnOnce(&mut Limits)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut source = HttpPush::new(options(more), false).unwrap();
        change(&mut source.limits);
        let reader = source.open(&partition(), Some(&Position::at(FROM))).await.unwrap();
        let url = format!("http://{}/", source.server.as_ref().unwrap().address);
        Listening { source, reader, url, client: Client::new() }
    }

    fn post(&self, body: &str) -> RequestBuilder {
        self.client.post(&self.url).body(body.to_owned())
    }

    fn sent(&self, body: &str) -> JoinHandle<Response> {
        let request = self.post(body);
        tokio::spawn(async { request.send().await.unwrap() })
    }

    async fn logged(&mut self, through: u64) {
        self.source.logged(&partition(), &Position::at(through)).await.unwrap();
    }

    async fn rows(&mut self) -> Vec<(u64, String)> {
        let batch = self.reader.next(None).await.unwrap().unwrap();
        let SourceRows::Raw(raw) = batch.rows else { panic!("it gives payloads") };
        let text = |row: usize| String::from_utf8(raw.payloads.value(row).to_vec()).unwrap();
        batch.offsets.iter().enumerate().map(|(row, offset)| (*offset, text(row))).collect()
    }

    async fn waits(&self, rows: u64) {
        eventually(SOON, "the rows have come", || async { self.source.posts.inbox.waiting() == rows }).await;
    }
}

async fn json_of(response: Response) -> Value {
    response.json().await.unwrap()
}

#[tokio::test]
async fn rows_are_answered_when_they_are_logged_and_not_before() {
    let mut it = Listening::start(json!({})).await;
    let first = it.sent("{\"a\":1}\r\n\n{\"a\":2}\n");
    it.waits(2).await;
    let second = it.sent("{\"a\":3}");
    it.waits(3).await;
    let rows = [(700, "{\"a\":1}".into()), (701, "{\"a\":2}".into()), (702, "{\"a\":3}".into())];
    assert_eq!(it.rows().await, rows);
    it.logged(701).await;
    // The second half of the first request is not on disk.
    assert!(!first.is_finished() && !second.is_finished());
    it.logged(702).await;
    let answer = first.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(json_of(answer).await, json!({ "accepted": 2, "offset": 700 }));
    assert!(!second.is_finished());
    // A reader that was dropped: what is in the log by then is answered, the rest is given again.
    let late = it.sent("{\"a\":4}");
    it.waits(1).await;
    it.reader = it.source.open(&partition(), Some(&Position::at(703))).await.unwrap();
    assert_eq!(json_of(second.await.unwrap()).await, json!({ "accepted": 1, "offset": 702 }));
    assert_eq!(it.rows().await, [(703, "{\"a\":4}".into())]);
    it.logged(704).await;
    assert_eq!(late.await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_nothing_of_it_taken() {
    let it = Listening::start(json!({ "max_body": "20B", "max_waiting": "40B", "token": "s3cret" })).await;
    let with = |body: &str| it.post(body).bearer_auth("s3cret");
    let chunked = reqwest::Body::wrap(http_body_util::StreamBody::new(futures_of(5)));
    for (request, status) in [
        (it.post("{}"), 401),
        (it.post("{}").bearer_auth("s3cre"), 401),
        (it.post("{}").basic_auth("a", Some("s3cret")), 401),
        (with("123456789012345678901"), 413),
        (it.client.post(&it.url).bearer_auth("s3cret").body(chunked), 413),
        (with("{}").header("Content-Encoding", "gzip"), 415),
        (with(""), 400),
        (with("\r\n\n"), 400),
        (with("{}").header("Idempotency-Key", "k".repeat(257)), 400),
        (it.client.get(&it.url).bearer_auth("s3cret"), 405),
        (it.client.post(format!("{}other", it.url)).bearer_auth("s3cret"), 404),
    ] {
        let shown = format!("{request:?}");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{shown}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{shown}");
    }
    assert!(it.source.posts.inbox.is_empty());
    let page = Listening::start(json!({})).await;
    assert_eq!(page.post("{}").header("Origin", "http://evil.example").send().await.unwrap().status(), 403);
}

/// A body of so many parts of eight bytes whose length nobody has said.
fn futures_of(parts: usize) -> impl futures::Stream<Item = Result<hyper::body::Frame<Bytes>, std::io::Error>> {
    futures::stream::iter((0..parts).map(|_| Ok(hyper::body::Frame::data(Bytes::from_static(b"12345678")))))
}

#[tokio::test]
async fn too_much_that_waits_is_refused_until_there_is_room() {
    let mut it = Listening::start(json!({ "max_body": "10B", "max_waiting": "25B" })).await;
    let waiting = [it.sent("1234567890"), it.sent("1234567890")];
    it.waits(2).await;
    let refused = it.post("1234567890").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    it.rows().await;
    it.logged(FROM + 2).await;
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    let taken = it.sent("1234567890");
    it.waits(1).await;
    it.rows().await;
    it.logged(FROM + 3).await;
    assert_eq!(taken.await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_waits_too_long_says_whether_it_was_taken() {
    let mut it = Listening::start(json!({ "timeout": "50ms" })).await;
    let not_taken = it.post("1").send().await.unwrap();
    assert_eq!((not_taken.status(), json_of(not_taken).await["accepted"].clone()), (503.try_into().unwrap(), json!(0)));
    let unknown = it.sent("2");
    assert_eq!(it.rows().await, [(FROM + 1, "2".into())], "what was given up is not there");
    let unknown = unknown.await.unwrap();
    assert_eq!((unknown.status(), json_of(unknown).await.get("accepted").cloned()), (504.try_into().unwrap(), None));
}

#[tokio::test]
async fn who_goes_away_before_a_reader_has_the_rows_has_sent_nothing() {
    let mut it = Listening::start(json!({})).await;
    let gone = it.sent("1");
    it.waits(1).await;
    gone.abort();
    eventually(SOON, "the rows are given up", || async { it.source.posts.inbox.is_empty() }).await;
    let _stays = it.sent("2");
    assert_eq!(it.rows().await, [(FROM + 1, "2".into())]);
}

#[tokio::test]
async fn at_the_end_everybody_is_answered_and_the_address_is_free() {
    let mut it = Listening::start(json!({})).await;
    let given = it.sent("1");
    assert_eq!(it.rows().await.len(), 1);
    let waiting = it.sent("2");
    it.waits(1).await;
    it.source.release(&partition()).await.unwrap();
    assert_eq!(
        (given.await.unwrap().status(), waiting.await.unwrap().status()),
        (504.try_into().unwrap(), 503.try_into().unwrap())
    );
    let address = it.url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    drop(listen(address).unwrap());
    // It may be opened again, as a task is that comes back.
    it.source.address = address;
    it.reader = it.source.open(&partition(), Some(&Position::at(FROM + 1))).await.unwrap();
    let again = it.sent("2");
    assert_eq!(it.rows().await, [(FROM + 1, "2".into())]);
    it.logged(FROM + 2).await;
    assert_eq!(again.await.unwrap().status(), 200);
    assert_eq!(listen(address).err().map(|error| error.kind()), Some(pipeline_stage::ErrorKind::Transient));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let mut it = Listening::start(json!({ "max_connections": 1 })).await;
    let first = it.sent("1");
    it.waits(1).await;
    let second = Client::new().post(&it.url).body("2");
    let second = tokio::spawn(async { second.send().await.unwrap() });
    it.rows().await;
    it.logged(FROM + 1).await;
    assert_eq!(first.await.unwrap().status(), 200);
    it.client = Client::new();
    assert_eq!(it.rows().await, [(FROM + 1, "2".into())]);
    it.logged(FROM + 2).await;
    assert_eq!(second.await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_takes_no_answer_loses_the_connection() {
    let short = |limits: &mut Limits| limits.taken_within = std::time::Duration::from_millis(200);
    let mut it = Listening::start_with(json!({ "max_connections": 1 }), short).await;
    let address = it.source.server.as_ref().unwrap().address;
    let mut takes_nothing = TcpStream::connect(address).await.unwrap();
    let questions = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    // Answers fill what lies between the two, and then the server waits for room.
    let asking = tokio::spawn(async move { while takes_nothing.write_all(questions.as_bytes()).await.is_ok() {} });
    let next = it.sent("1");
    it.waits(1).await;
    it.rows().await;
    it.logged(FROM + 1).await;
    assert_eq!(next.await.unwrap().status(), 200);
    tokio::time::timeout(SOON, asking).await.expect("its connection is closed").unwrap();
}

#[tokio::test]
async fn who_has_too_many_connections_is_told_and_others_are_served() {
    let mut it = Listening::start(json!({ "max_connections": 9, "max_connections_per_address": 1 })).await;
    let first = it.sent("1");
    it.waits(1).await;
    let another = Client::new().post(&it.url).body("2").send().await.unwrap();
    assert_eq!((another.status().as_u16(), &another.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(
        json_of(another).await,
        json!({ "accepted": 0, "error": "your address has too many connections, nothing was taken" })
    );
    let neighbour = Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let neighbour = tokio::spawn(neighbour.post(&it.url).body("3").send());
    it.waits(2).await;
    assert_eq!(it.rows().await, [(FROM, "1".into()), (FROM + 1, "3".into())]);
    it.logged(FROM + 2).await;
    assert_eq!(
        (first.await.unwrap().status(), neighbour.await.unwrap().unwrap().status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
}

#[tokio::test]
async fn the_laws_of_sources_hold() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stage = pipeline_stage::StageType::source::<HttpPushOptions>();
    for given_up in [false, true] {
        let address = pipeline_services::free_address();
        let options = json!({ "listen": address.to_string() });
        let posting = tokio::spawn(async move {
            let client = Client::new();
            for number in 0.. {
                let request = client.post(format!("http://{address}/")).body(format!("{number}\n{number}"));
                // Nobody logs them, so nobody is answered.
                tokio::spawn(request.send());
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
        let subject = SourceSubject { stage: &stage, options: &options, directory: std::path::Path::new(".") };
        let words = match given_up {
            true => a_read_given_up_loses_nothing(subject).await,
            false => the_same_is_read_twice(subject).await,
        };
        posting.abort();
        let words = words.map_err(|broken| broken.to_string()).unwrap();
        assert!(words.contains("cannot be read again"), "{words}");
    }
}

#[test]
fn refuses_bad_options() {
    for (more, message) in [
        (json!({ "listen": "8088" }), "`8088` is no address with a port, it would be like `127.0.0.1:8088`"),
        (
            json!({ "listen": "0.0.0.0:8088" }),
            "others can reach `0.0.0.0:8088`, so it needs a `token`: `token: ${PUSH_TOKEN}`",
        ),
        (json!({ "token": "" }), "`token` is empty or has characters that no header can have"),
        (json!({ "path": "rows" }), "`rows` is no path, it would be like `/readings`"),
        (json!({ "path": "/:rows" }), "`/:rows` is no path, it would be like `/readings`"),
        (json!({ "path": "/a/*rows" }), "`/a/*rows` is no path, it would be like `/readings`"),
        (json!({ "max_body": "65MiB" }), "`max_body` is 65MiB, it must be 1B to 64MiB"),
        (json!({ "max_waiting": "1KiB" }), "`max_waiting` is 1KiB, it must be `max_body` (1MiB) to 1GiB"),
        (json!({ "max_connections": 0 }), "`max_connections` is 0, it must be 1 to 10000"),
        (
            json!({ "max_connections_per_address": 10_001 }),
            "`max_connections_per_address` is 10001, it must be 1 to 10000",
        ),
        (json!({ "timeout": "0s" }), "`timeout` is 0s, it must be above 0s"),
    ] {
        let error = HttpPush::new(options(more), false).err().expect("bad options");
        assert_eq!(error.to_string(), message);
    }
}
