//! What becomes of an answer.

use super::*;

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
