#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::convert::Infallible;

use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::*;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

/// Nobody loses a place in the time of a test.
const PATIENT: Limits =
    Limits { connections: 4, begun_within: LONG, request_within: LONG, taken_within: LONG, head_bytes: 16 << 10 };

async fn served(limits: Limits) -> SocketAddr {
    served_until(limits, None, std::future::pending()).await
}

async fn served_until(
    limits: Limits,
    per_address: Option<PerAddress>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endless = get(|| async {
        Body::from_stream(futures::stream::repeat_with(|| Ok::<_, Infallible>([b'x'; 65_536].to_vec())))
    });
    let slow = get(|| async {
        sleep(SHORT).await;
        "late"
    });
    let routes = Router::new().route("/", get(async || "here")).route("/endless", endless).route("/slow", slow);
    tokio::spawn(serve(listener, Door { what: "the test".into(), routes, limits, per_address }, stop));
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

/// `connection: close`, and the body that was announced is not waited for.
fn two_for_each() -> Option<PerAddress> {
    let refusal =
        Router::new().fallback(async || (StatusCode::TOO_MANY_REQUESTS, [("connection", "close")], "too many"));
    Some(PerAddress { most: 2, refusal })
}

/// From another address of this machine.
async fn asked_from(from: &str, address: SocketAddr, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn who_has_too_many_connections_is_told_and_keeps_out_nobody_else() {
    let limits = Limits { connections: 20, ..PATIENT };
    let address = served_until(limits, two_for_each(), std::future::pending()).await;
    let mut idle = vec![asked(address, "GET ").await, asked(address, "GET ").await];
    for question in [QUESTION, "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n"] {
        let answer = all_of(&mut asked(address, question).await).await;
        assert!(answer.starts_with("HTTP/1.1 429") && answer.ends_with("too many"), "{answer}");
    }
    // Many that ask nothing, beyond those that are told, take no place for longer than it takes to close them.
    let mut more = Vec::new();
    for _ in 0..60 {
        more.push(asked(address, "").await);
    }
    assert!(all_of(&mut asked_from("127.0.0.2", address, QUESTION).await).await.ends_with("here"));
    for mut closed in more {
        assert_eq!(all_of(&mut closed).await, "");
    }
    drop(idle.pop());
    // The server may see the end of the one after the beginning of the next.
    let next = async || all_of(&mut asked(address, QUESTION).await).await;
    timeout(LONG, async { while !next().await.ends_with("here") {} }).await.expect("its place is free again");
}

#[tokio::test]
async fn at_the_end_who_has_asked_is_answered_and_who_has_not_is_not_waited_for() {
    let (stop, stopped) = oneshot::channel::<()>();
    let address = served_until(PATIENT, None, async { drop(stopped.await) }).await;
    let mut silent = asked(address, "").await;
    let mut idle = asked(address, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut here = [0; 4];
    while &here != b"here" {
        here.rotate_left(1);
        here[3] = timeout(LONG, idle.read_u8()).await.expect("an answer").unwrap();
    }
    let mut asks = asked(address, "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    sleep(SHORT / 2).await;
    stop.send(()).unwrap();
    assert!(all_of(&mut asks).await.ends_with("late"));
    assert_eq!((all_of(&mut idle).await, all_of(&mut silent).await), (String::new(), String::new()));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}
