//! When it is asked, and what a restart goes on with.

use super::*;

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
