use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// Sends a request by hand and gives all bytes that come back until the connection is closed.
async fn post(receiver: &HttpReceiver, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(receiver.address).await.expect("the receiver listens");
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(format!("{head}X-Id: 7\r\n\r\n{body}").as_bytes()).await.expect("sent");
    let mut response = String::new();
    // A closed connection is an end or a reset.
    let _ = stream.read_to_string(&mut response).await;
    response
}

#[tokio::test]
async fn records_requests_and_says_ok() {
    let receiver = HttpReceiver::start().await;
    let response = post(&receiver, "/alerts?team=a", r#"{"text": "hot"}"#).await;
    assert!(response.starts_with("HTTP/1.1 200 OK") && response.ends_with("\r\n\r\nok"), "{response}");

    let requests = receiver.wait_until(|requests| requests.len() == 1, SOON).await;
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/alerts?team=a"));
    assert_eq!(request.headers.get("x-id").expect("sent"), "7");
    assert_eq!(request.json()["text"], "hot");
}

#[tokio::test]
async fn answers_in_the_order_of_the_script_and_stays_with_the_last() {
    let receiver = HttpReceiver::start().await;
    receiver.set_behaviour([Reply::status(429).header("Retry-After", "2"), Reply::close(), Reply::status(500)]);
    let refused = post(&receiver, "/", "").await.to_lowercase();
    assert!(refused.starts_with("http/1.1 429") && refused.contains("\r\nretry-after: 2\r\n"), "{refused}");
    assert_eq!(post(&receiver, "/", "").await, "");
    for _ in 0..2 {
        assert!(post(&receiver, "/", "").await.starts_with("HTTP/1.1 500"));
    }
    receiver.set_behaviour([Reply::ok()]);
    assert!(post(&receiver, "/", "").await.starts_with("HTTP/1.1 200"));
    assert_eq!(receiver.requests().len(), 5);
}

#[tokio::test]
async fn a_hanging_reply_keeps_the_connection_open_and_is_recorded() {
    let receiver = HttpReceiver::start().await;
    receiver.set_behaviour([Reply::hang(), Reply::ok()]);
    let hanging = async { timeout(Duration::from_millis(200), post(&receiver, "/hangs", "")).await };
    let (hung, ()) = tokio::join!(hanging, async {
        receiver.wait_until(|requests| requests.len() == 1, SOON).await;
        assert!(post(&receiver, "/next", "").await.starts_with("HTTP/1.1 200"));
    });
    assert!(hung.is_err(), "it answered");
}

#[tokio::test]
async fn shows_what_it_has_when_it_waits_in_vain() {
    let receiver = HttpReceiver::start().await;
    post(&receiver, "/a", "b").await;
    let waiting = tokio::spawn(async move {
        receiver.wait_until(|requests| requests.len() == 2, Duration::ZERO).await;
    });
    let panic = waiting.await.expect_err("in vain").into_panic();
    let words = panic.downcast_ref::<String>().expect("words");
    assert_eq!(words, "the receiver waited 0ns in vain; it has 1 requests\n  POST /a b");
}
