use std::net::SocketAddr;

use axum::middleware::from_fn;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

/// Nobody loses a place in the time of a test.
const PATIENT: Limits = Limits { connections: 4, begun_within: LONG, request_within: LONG, taken_within: LONG };

async fn served(limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endless = get(|| async {
        Body::from_stream(futures::stream::repeat_with(|| Ok::<_, Infallible>([b'x'; 65_536].to_vec())))
    });
    let routes = Router::new()
        .route("/", get(async || "here"))
        .route("/endless", endless)
        .route("/post", post(async |body: String| body.len().to_string()))
        .layer(from_fn(take_body));
    tokio::spawn(serve(listener, routes, limits));
    address
}

async fn asked(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

const QUESTION: &str = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// All that comes until the other end closes.
async fn all_of(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    // Closing may be abrupt when something was not read.
    let _ = timeout(LONG, stream.read_to_string(&mut answer)).await.expect("the end");
    answer
}

#[tokio::test]
async fn there_are_only_so_many_connections_and_the_next_waits_for_a_place() {
    let address = served(PATIENT).await;
    let mut idle = Vec::new();
    for _ in 0..PATIENT.connections {
        idle.push(asked(address, "GET ").await);
    }
    // It is connected by the operating system, but nobody reads what it says.
    let mut next = asked(address, QUESTION).await;
    assert!(timeout(SHORT, next.read_u8()).await.is_err(), "no answer");
    drop(idle.pop());
    assert!(all_of(&mut next).await.ends_with("here"));
}

#[tokio::test]
async fn whoever_does_not_ask_loses_its_place() {
    let address = served(Limits { begun_within: SHORT, ..PATIENT }).await;
    assert_eq!(all_of(&mut asked(address, "").await).await, "");
    let address = served(Limits { request_within: SHORT, ..PATIENT }).await;
    for said in ["GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut stream = asked(address, said).await;
        let answer = all_of(&mut stream).await;
        assert_eq!(answer.ends_with("here"), said.ends_with("\r\n\r\n"), "{said:?}: {answer}");
    }
}

#[tokio::test]
async fn whoever_takes_no_answer_loses_its_place() {
    let address = served(Limits { connections: 1, taken_within: SHORT, ..PATIENT }).await;
    let _takes_nothing = asked(address, "GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(all_of(&mut asked(address, QUESTION).await).await.ends_with("here"));
}

#[tokio::test]
async fn what_is_sent_is_small() {
    let address = served(PATIENT).await;
    for (length, status) in [(1_000, "200 OK"), (MAX_BODY + 1, "413 Payload Too Large")] {
        let head = "POST /post HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length:";
        let mut stream = asked(address, &format!("{head} {length}\r\n\r\n{}", "x".repeat(1_000))).await;
        let answer = all_of(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}
