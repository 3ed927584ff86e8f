//! The source at a real Mosquitto: what becomes a row, and how often.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

mod support;

use std::path::Path;
use std::time::Duration;

use pipeline_services::{Mosquitto, eventually};
use pipeline_stage::{ErrorKind, Position};
use pipeline_testkit::{SourceSubject, a_read_given_up_loses_nothing, the_same_is_read_twice};
use serde_json::json;
use tokio::time::timeout;

use support::{FROM, SOON, Subscribed, VERSIONS, options, partition, row};

#[tokio::test]
async fn a_message_is_a_row_with_its_topic() {
    let mosquitto = Mosquitto::start().await;
    for version in VERSIONS {
        let mut it = Subscribed::start(options(&mosquitto, json!({ "version": version }))).await;
        assert_eq!(it.reader.position().offset, FROM);
        let mut publisher = mosquitto.publisher("sensor").await;
        assert!(publisher.publish("plant/a/heat", "1").await && publisher.publish("other", "2").await);
        publisher.publish_unsafely("plant/b", "3").await;
        assert_eq!(it.rows(2).await, [row("plant/a/heat", "1"), row("plant/b", "3")]);
        assert_eq!((it.reader.position().offset, it.reader.lag()), (FROM + 2, Some(0)));
        it.logged().await;
        it.stop().await;
    }
}

#[tokio::test]
async fn what_comes_while_it_is_away_is_kept_for_it() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let options = options(&mosquitto, json!({ "version": version, "client_id": format!("away-{version}") }));
        let first = Subscribed::start(options.clone()).await;
        first.stop().await;
        assert!(publisher.publish("plant/a", version).await);
        let mut second = Subscribed::start(options).await;
        assert_eq!(second.rows(1).await, [row("plant/a", version)]);
        second.logged().await;
        second.stop().await;
    }
}

#[tokio::test]
async fn what_was_not_logged_comes_again_and_what_was_does_not() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let options = options(&mosquitto, json!({ "version": version, "client_id": format!("again-{version}") }));
        let mut first = Subscribed::start(options.clone()).await;
        assert!(publisher.publish("plant/a", "logged").await);
        first.rows(1).await;
        let position = first.logged().await;
        eventually(SOON, "the broker has the acknowledgement", async || {
            first.reader.position().detail.is_some_and(|detail| detail.contains("\"deliveries\":\"\""))
        })
        .await;
        assert!(publisher.publish("plant/a", "not logged").await);
        first.rows(1).await;
        // Dropped without a word, as by a kill.
        drop(first);
        let mut second = Subscribed::start_at(options, &position).await;
        assert_eq!(second.rows(1).await, [row("plant/a", "not logged")]);
        second.is_silent().await;
        second.logged().await;
        second.stop().await;
    }
}

#[tokio::test]
async fn a_kill_between_the_log_and_the_acknowledgement_repeats_nothing() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let options = options(&mosquitto, json!({ "version": version, "client_id": format!("killed-{version}") }));
        let mut it = Subscribed::start(options.clone()).await;
        // By these it is seen that the broker counts.
        for _ in 0..2 {
            assert!(publisher.publish("plant/a", "before").await);
            it.rows(1).await;
            it.logged().await;
            eventually(SOON, "the broker has the acknowledgement", async || {
                it.reader.position().detail.is_some_and(|detail| detail.contains("\"deliveries\":\"\""))
            })
            .await;
        }
        for _ in 0..2 {
            assert!(publisher.publish("plant/a", "the same").await);
        }
        assert_eq!(it.rows(2).await, [row("plant/a", "the same"), row("plant/a", "the same")]);
        // On disk, but nobody was told.
        let position = it.reader.position();
        drop(it);
        assert!(publisher.publish("plant/a", "the same").await);
        let mut it = Subscribed::start_at(options, &position).await;
        assert_eq!(it.rows(1).await, [row("plant/a", "the same")]);
        it.is_silent().await;
        it.logged().await;
        it.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_is_started_again_goes_on() {
    for version in VERSIONS {
        let mut mosquitto = Mosquitto::start().await;
        let mut publisher = mosquitto.publisher("sensor").await;
        let mut it = Subscribed::start(options(&mosquitto, json!({ "version": version }))).await;
        assert!(publisher.publish("plant/a", "1").await);
        assert_eq!(it.rows(1).await, [row("plant/a", "1")]);
        mosquitto.stop().await;
        it.logged().await;
        mosquitto.start_again().await;
        assert!(publisher.publish("plant/a", "2").await || publisher.publish("plant/a", "2").await);
        // The first was logged while nobody could be told: it comes again, and is no row again.
        assert_eq!(it.rows(1).await, [row("plant/a", "2")]);
        it.is_silent().await;
        it.stop().await;
    }
}

#[tokio::test]
async fn a_retained_message_comes_once() {
    let mosquitto = Mosquitto::start().await;
    assert!(mosquitto.publisher("sensor").await.retain("plant/a", "kept").await);
    for version in VERSIONS {
        let client_id = format!("retained-{version}");
        let options = options(&mosquitto, json!({ "version": version, "client_id": client_id }));
        let mut first = Subscribed::start(options.clone()).await;
        assert_eq!(first.rows(1).await, [row("plant/a", "kept")]);
        let position = first.logged().await;
        first.stop().await;
        let mut second = Subscribed::start_at(options, &position).await;
        second.is_silent().await;
        second.stop().await;
    }
}

/// Some of what was retained waits in the session when it is killed, and all of it comes again when it subscribes again.
#[tokio::test]
async fn retained_messages_come_once_over_a_kill() {
    let mosquitto = Mosquitto::start_with(&["max_inflight_messages 2"]).await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for number in 100..130 {
        assert!(publisher.retain(&format!("plant/{number}"), "kept").await);
    }
    for version in VERSIONS {
        let client_id = format!("retained-{version}");
        let options = options(&mosquitto, json!({ "version": version, "client_id": client_id }));
        let mut first = Subscribed::start(options.clone()).await;
        let mut rows = Vec::new();
        while rows.len() < 2 {
            rows.extend(first.some_rows().await);
        }
        let position = first.logged().await;
        eventually(SOON, "the broker has the acknowledgement", async || {
            first.reader.position().detail.is_some_and(|detail| detail.contains("\"deliveries\":\"\""))
        })
        .await;
        drop(first);
        let mut second = Subscribed::start_at(options, &position).await;
        while rows.len() < 30 {
            rows.extend(second.some_rows().await);
            second.logged().await;
        }
        second.is_silent().await;
        assert!(publisher.publish("plant/130", "kept").await);
        rows.extend(second.rows(1).await);
        rows.sort();
        assert_eq!(rows, (100..131).map(|number| row(&format!("plant/{number}"), "kept")).collect::<Vec<_>>());
        second.stop().await;
    }
}

/// What it knows of itself is not what the broker knows.
#[tokio::test]
async fn a_subscription_that_the_broker_has_forgotten_is_made_again() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let of = |topics| {
            let client_id = format!("forgotten-{version}");
            options(&mosquitto, json!({ "version": version, "client_id": client_id, "topics": topics }))
        };
        let mut first = Subscribed::start(of("plant/a")).await;
        assert!(publisher.publish("plant/a", "1").await);
        assert_eq!(first.rows(1).await, [row("plant/a", "1")]);
        let position = first.logged().await;
        first.stop().await;
        Subscribed::start_at(of("plant/b"), &position).await.stop().await;
        let mut third = Subscribed::start_at(of("plant/a"), &position).await;
        assert!(publisher.publish("plant/a", "2").await);
        assert_eq!(third.rows(1).await, [row("plant/a", "2")]);
        third.logged().await;
        third.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_goes_away_and_comes_back_is_told() {
    let mut mosquitto = Mosquitto::start().await;
    let mut it = Subscribed::start(options(&mosquitto, json!({}))).await;
    mosquitto.stop().await;
    let told = timeout(SOON, it.reader.next(None)).await.expect("it is told").unwrap_err();
    assert_eq!((told.kind(), told.pause()), (ErrorKind::Transient, Some(Duration::ZERO)), "{}", told.chain());
    it.is_silent().await;
    mosquitto.start_again().await;
    let back = timeout(SOON, it.reader.next(None)).await.expect("it is told").unwrap().unwrap();
    assert!(back.offsets.is_empty());
    it.stop().await;
}

#[tokio::test]
async fn topics_that_are_left_out_come_no_more() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let of = |topics| {
            let client_id = format!("topics-{version}");
            options(&mosquitto, json!({ "version": version, "client_id": client_id, "topics": topics }))
        };
        let mut first = Subscribed::start(of(json!(["plant/a", "plant/b"]))).await;
        assert!(publisher.publish("plant/b", "1").await);
        assert_eq!(first.rows(1).await, [row("plant/b", "1")]);
        let position = first.logged().await;
        first.stop().await;
        let mut second = Subscribed::start_at(of(json!(["plant/b", "plant/c"])), &position).await;
        for topic in ["plant/a", "plant/c"] {
            assert!(publisher.publish(topic, "2").await);
        }
        assert_eq!(second.rows(1).await, [row("plant/c", "2")]);
        second.logged().await;
        second.stop().await;
    }
}

#[tokio::test]
async fn sources_of_a_group_share_the_messages() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let of = |name: &str| {
            let topics = format!("$share/group-{version}/plant/#");
            options(
                &mosquitto,
                json!({ "version": version, "client_id": format!("{name}-{version}"), "topics": topics }),
            )
        };
        let (mut one, mut other) = (Subscribed::start(of("one")).await, Subscribed::start(of("other")).await);
        for number in 0..10 {
            assert!(publisher.publish("plant/a", number.to_string()).await);
        }
        let mut rows = [one.rows(5).await, other.rows(5).await].concat();
        rows.sort();
        assert_eq!(rows, (0..10).map(|number| row("plant/a", &number.to_string())).collect::<Vec<_>>());
        for it in [&mut one, &mut other] {
            it.logged().await;
            it.is_silent().await;
        }
        one.stop().await;
        other.stop().await;
    }
}

/// The reader was dropped, as when a task is begun again, while rows wait that it was given.
#[tokio::test]
async fn another_reader_is_given_again_what_is_not_logged() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    let mut it = Subscribed::start(options(&mosquitto, json!({}))).await;
    for payload in ["1", "2"] {
        assert!(publisher.publish("plant/a", payload).await);
    }
    it.rows(2).await;
    it.reader = it.source.open(&partition(), Some(&Position::at(FROM))).await.unwrap();
    assert_eq!(it.rows(2).await, [row("plant/a", "1"), row("plant/a", "2")]);
    it.logged().await;
    it.stop().await;
}

/// More at a time than the broker sends without an acknowledgement: nothing stands still.
#[tokio::test]
async fn more_than_may_be_in_flight_comes_in_order() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    let mut it = Subscribed::start(options(&mosquitto, json!({ "in_flight": 10 }))).await;
    for number in 0..100 {
        assert!(publisher.publish("plant/a", number.to_string()).await);
    }
    let mut rows = Vec::new();
    while rows.len() < 100 {
        rows.extend(it.some_rows().await);
        it.logged().await;
    }
    assert_eq!(rows, (0..100).map(|number| row("plant/a", &number.to_string())).collect::<Vec<_>>());
    it.stop().await;
}

/// The broker sends what waits before it answers who subscribes.
#[tokio::test]
async fn more_may_wait_for_it_than_may_be_in_flight() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.publisher("sensor").await;
    for version in VERSIONS {
        let more = json!({ "version": version, "client_id": format!("waits-{version}"), "in_flight": 5 });
        let options = options(&mosquitto, more);
        Subscribed::start(options.clone()).await.stop().await;
        for number in 0..50 {
            assert!(publisher.publish("plant/a", number.to_string()).await);
        }
        let mut it = Subscribed::start(options).await;
        let mut rows = Vec::new();
        while rows.len() < 50 {
            rows.extend(it.some_rows().await);
            it.logged().await;
        }
        assert_eq!(rows, (0..50).map(|number| row("plant/a", &number.to_string())).collect::<Vec<_>>());
        it.is_silent().await;
        it.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_laws_of_sources_hold() {
    let mosquitto = Mosquitto::start().await;
    let stages = pipeline_mqtt::stages();
    let options = options(&mosquitto, json!({}));
    let subject = || SourceSubject { stage: &stages[0], options: &options, directory: Path::new(".") };
    for given_up in [false, true] {
        let mut publisher = mosquitto.publisher("sensor").await;
        let publishing = tokio::spawn(async move {
            for number in 0.. {
                publisher.publish("plant/a", number.to_string()).await;
            }
        });
        let words = match given_up {
            true => a_read_given_up_loses_nothing(subject()).await,
            false => the_same_is_read_twice(subject()).await,
        };
        publishing.abort();
        let words = words.map_err(|broken| broken.to_string()).unwrap();
        assert!(words.contains("cannot be read again"), "{words}");
    }
}
