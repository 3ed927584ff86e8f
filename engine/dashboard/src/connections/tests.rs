use axum::Router;
use axum::middleware::from_fn;
use axum::routing::post;
use pipeline_connections::{Door, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn what_is_sent_is_small() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes =
        Router::new().route("/post", post(async |body: String| body.len().to_string())).layer(from_fn(take_body));
    let door = Door { what: "the test".into(), routes, limits: LIMITS, per_address: None };
    tokio::spawn(serve(listener, door, std::future::pending()));
    for (length, status) in [(1_000, "200 OK"), (MAX_BODY + 1, "413 Payload Too Large")] {
        let head = "POST /post HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length:";
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{head} {length}\r\n\r\n{}", "x".repeat(1_000)).as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Closing may be abrupt when something was not read.
        let _ = timeout(BODY_WITHIN, stream.read_to_string(&mut answer)).await.expect("the end");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}
