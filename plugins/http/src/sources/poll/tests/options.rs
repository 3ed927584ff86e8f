//! What the file says.

use super::*;

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
