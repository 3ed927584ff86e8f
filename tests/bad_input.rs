//! Bad input: each payload is in the dead letters with its reason, or stored exactly; the run goes on.

use std::time::Duration;

use crate::production::Production;
use pipeline_services::Record;
use serde_json::Value;

/// What is to become of a payload.
enum Fate {
    /// A dead letter whose reason contains this.
    Dead(&'static str),
    /// A row with this sensor id and time, to the letter.
    Stored(&'static str, &'static str),
}
use Fate::{Dead, Stored};

const TIME: &str = "2025-06-01T12:00:00Z";
const STORED_TIME: &str = "2025-06-01 12:00:00";

fn reading(sensor: &str) -> String {
    serde_json::json!({"sensor_id": sensor, "metric_type": "temperature", "value": 21.5, "timestamp": TIME}).to_string()
}

fn with(name: &str, value: &str) -> Vec<u8> {
    let parts =
        [("sensor_id", "\"s\""), ("metric_type", "\"t\""), ("value", "1.5"), ("timestamp", "\"2025-06-01T12:00:00Z\"")];
    let members: Vec<String> =
        parts.iter().map(|(key, usual)| format!("\"{key}\": {}", if *key == name { value } else { usual })).collect();
    format!("{{{}}}", members.join(", ")).into_bytes()
}

fn without(name: &str) -> Vec<u8> {
    let text = String::from_utf8(with(name, "\"GONE\"")).unwrap();
    let start = text.find(&format!("\"{name}\"")).unwrap();
    let end = text[start..].find(", ").map_or(text.len() - 1, |end| start + end + 2);
    format!("{}{}", &text[..start], &text[end..]).replace(", }", "}").into_bytes()
}

fn deep() -> String {
    format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))
}

/// Payloads with names for messages.
fn cases() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let stored = |sensor: &'static str| (reading(sensor).into_bytes(), Stored(sensor, STORED_TIME));
    let mut cases: Vec<(&'static str, Vec<u8>, Fate)> = vec![
        ("no JSON", b"hello".to_vec(), Dead("JSON")),
        ("truncated", reading("s").as_bytes()[..40].to_vec(), Dead("JSON")),
        ("an array", b"[1, 2]".to_vec(), Dead("object")),
        ("text for a number", with("value", "\"21.5\""), Dead("`value`")),
        ("a number for text", with("sensor_id", "7"), Dead("`sensor_id`")),
        ("missing field", without("metric_type"), Dead("`metric_type`")),
        ("null", with("value", "null"), Dead("`value`")),
        ("NaN", with("value", "NaN"), Dead("JSON")),
        ("1e999", with("value", "1e999"), Dead("too large for a float")),
        ("invalid UTF-8", b"{\"sensor_id\": \"\xff\xfe\"}".to_vec(), Dead("UTF-8")),
        ("empty", Vec::new(), Dead("empty")),
        (
            "duplicate key",
            b"{\"sensor_id\": \"a\", \"sensor_id\": \"b\", \"metric_type\": \"t\", \"value\": 1, \"timestamp\": 0}"
                .to_vec(),
            Dead("`sensor_id`"),
        ),
        ("deep nesting", with("value", &deep()), Dead("`value`")),
        ("deep nesting beside", with("value", &format!("1.5, \"extra\": {}", deep())), Stored("s", STORED_TIME)),
        ("a sentence for a time", with("timestamp", "\"yesterday\""), Dead("`timestamp`")),
        ("year 0", with("timestamp", "\"0000-01-01T00:00:00Z\""), Stored("s", "0001-01-01 00:00:00 BC")),
        ("year 9999", with("timestamp", "\"9999-12-31T23:59:59Z\""), Stored("s", "9999-12-31 23:59:59")),
        ("epoch seconds", with("timestamp", "1748779200"), Stored("s", STORED_TIME)),
        ("epoch milliseconds", with("timestamp", "1748779200000"), Stored("s", STORED_TIME)),
        ("no zone", with("timestamp", "\"2025-06-01T12:00:00\""), Stored("s", STORED_TIME)),
        // PostgreSQL's text cannot hold it, so the sink refuses the row.
        ("NUL", with("sensor_id", "\"a\\u0000b\""), Dead("NUL")),
    ];
    for (name, sensor) in [
        ("quotes", r#"a"b'c\d"#),
        ("SQL", "'; DROP TABLE sensor_data; --"),
        ("emoji", "🌡️🧨"),
        ("Slack markup", "<!channel> & *bold* <https://example.org|x>"),
        ("newlines", "line one\nline two\r\n\ttab"),
        ("COPY's end", "\\."),
    ] {
        let (payload, fate) = stored(sensor);
        cases.push((name, payload, fate));
    }
    cases
}

/// Five million letters, as JSON.
fn large() -> String {
    format!("\"{}\"", "x".repeat(5_000_000))
}

async fn dead_letters(production: &Production) -> Vec<Value> {
    let list = production.command("dead-letters", &["list", "--json", "--limit", "1000"]);
    let finished = list.start().wait_with_timeout(Duration::from_secs(30)).await;
    finished.assert_code(0);
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_kept_with_its_reason_and_the_run_goes_on() {
    let production = Production::start(1).await;
    let cases = cases();
    let mut records: Vec<Record> =
        cases.iter().map(|(_, payload, _)| Record::new(payload.clone()).partition(0)).collect();
    records.push(Record::tombstone("key").partition(0));
    for column in ["sensor_id", "metric_type"] {
        records.push(Record::new(with(column, &large())).partition(0));
    }
    records.push(Record::new(reading("the last one")).partition(0));
    pipeline_services::Kafka::shared().await.produce(&production.topic, records).await;

    let finished = production.run(&["--once"]).start().wait_with_timeout(Duration::from_secs(120)).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    let letters = dead_letters(&production).await;
    for (offset, (name, payload, fate)) in cases.iter().enumerate() {
        let letter = letters.iter().find(|letter| letter["offset"] == offset);
        match fate {
            Dead(reason) => {
                let letter = letter.unwrap_or_else(|| panic!("{name}: no dead letter"));
                assert!(letter["reason"].as_str().unwrap().contains(reason), "{name}: {letter}");
                assert_bytes(name, letter, payload);
            }
            Stored(sensor, time) => {
                assert!(letter.is_none(), "{name}: {letter:?}");
                assert_stored(&production, name, sensor, time).await;
            }
        }
    }
    let tombstone = letters.iter().find(|letter| letter["offset"] == cases.len()).expect("the tombstone");
    assert!(tombstone["reason"].as_str().unwrap().contains("tombstone"), "{tombstone}");
    assert_stored(&production, "the last one", "the last one", STORED_TIME).await;
    // The indexes by which a series is found do not take five million letters; the reason says so.
    for (number, column) in ["sensor_id", "metric_type"].into_iter().enumerate() {
        let offset = cases.len() + 1 + number;
        let large = letters.iter().find(|letter| letter["offset"] == offset).expect("the large one");
        assert!(large["reason"].as_str().unwrap().contains("index"), "{column}: {}", large["reason"]);
    }
}

/// The bytes are those that came: a payload's, or for a sink's refusal the row as JSON.
fn assert_bytes(name: &str, letter: &Value, payload: &[u8]) {
    if letter["stage"] != "readings" {
        return assert!(letter["text"].as_str().unwrap().starts_with('{'), "{name}: {letter}");
    }
    let found = match letter["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => letter["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect(),
    };
    assert_eq!(found, payload, "{name}");
}

async fn assert_stored(production: &Production, name: &str, sensor: &str, time: &str) {
    let rows = production.database.query("SELECT sensor_id, timestamp AT TIME ZONE 'UTC' FROM sensor_data").await;
    let wanted = [Some(sensor.to_string()), Some(time.to_string())];
    let found = rows.iter().any(|row| row[..] == wanted);
    let alike: Vec<_> = rows.iter().filter(|row| row[0].as_ref().is_some_and(|id| id.len() < 1_000)).collect();
    assert!(found, "{name}: {wanted:?} is not among {alike:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_processed_again_after_a_fix() {
    let production = Production::start(1).await;
    let renamed = reading("late").replace("value", "reading");
    let records = vec![Record::new(renamed).partition(0), Record::new(reading("first")).partition(0)];
    pipeline_services::Kafka::shared().await.produce(&production.topic, records).await;
    let run = |args: &[&str]| production.run(args).start().wait_with_timeout(Duration::from_secs(60));
    run(&["--once"]).await.assert_code(0);
    let letters = dead_letters(&production).await;
    assert_eq!((letters.len(), &letters[0]["beside"]["topic"]), (1, &production.topic.as_str().into()));

    let dead_letters_command = async |args: &[&str]| {
        production.command("dead-letters", args).start().wait_with_timeout(Duration::from_secs(30)).await
    };
    let number = letters[0]["number"].to_string();
    let refused = dead_letters_command(&["replay", &number, "99"]).await;
    refused.assert_code(2);
    assert!(refused.stderr.contains("there is no dead letter 99; none is processed again"), "{}", refused.stderr);
    dead_letters_command(&["list", "--limit", "0"]).await.assert_code(2);
    let replay = dead_letters_command(&["replay"]).await;
    assert_eq!(
        replay.stdout.lines().next().map(|line| line.starts_with("1 dead letter is")),
        Some(true),
        "{}",
        replay.stdout
    );
    let fix = "sources.readings.schema={ sensor_id: string, metric_type: string, value: { type: float, from: reading }, timestamp: timestamp }";
    run(&["--once", "--set", fix]).await.assert_code(0);
    assert_eq!(dead_letters(&production).await.len(), 0);
    assert_stored(&production, "replayed", "late", STORED_TIME).await;
    assert_eq!(production.history().await.values().sum::<usize>(), 2, "nothing twice");
}
