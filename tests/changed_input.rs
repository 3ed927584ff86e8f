//! Topics and files that change between runs: what cannot be gone on with is refused in words, and one choice goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::production::{Motes, Production, pipeline};
use pipeline_services::{Finished, Kafka, Record, eventually};

const LONG: Duration = Duration::from_secs(120);

/// Small epochs, so that there are some to compute again.
const SMALL_EPOCHS: [&str; 4] = ["--set", "commit_every=5ms", "--set", "checkpoint_every=1h"];

async fn ends(production: &Production, args: &[&str]) -> Finished {
    production.run(&["--once"]).args(args).start().wait_with_timeout(LONG).await
}

/// Refuses to run, for this reason, and names the choice; with it, it runs.
async fn is_accepted_only_cold(production: &Production, reason: &str) -> Finished {
    let refused = ends(production, &[]).await;
    refused.assert_code(1);
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    let choice =
        "`--cold-start` goes on with what is there, with empty windows for this partition and all others as they are";
    assert!(refused.stderr.contains(choice), "{}", refused.stderr);
    let accepted = ends(production, &["--cold-start"]).await;
    accepted.assert_code(0);
    accepted.assert_books_balance();
    let again = ends(production, &[]).await;
    again.assert_code(0);
    accepted
}

/// The offsets of the rows of the partition that has most, and which that is.
async fn largest(kafka: &Kafka, topic: &str) -> (i32, Vec<i64>) {
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in kafka.read_all(topic).await {
        offsets.entry(record.partition).or_default().push(record.offset);
    }
    offsets.into_iter().max_by_key(|(_, offsets)| offsets.len()).expect("there are rows")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_retention_took_are_told_and_the_other_partitions_go_on() {
    let (motes, kafka) = (Motes::load(), Kafka::shared().await);
    let production = Production::start(2).await;
    production.replay(&motes.file).await.assert_code(0);
    ends(&production, &[]).await.assert_code(0);
    let (partition, read) = largest(kafka, &production.topic).await;
    production.replay(&motes.file).await.assert_code(0);
    let (_, all) = largest(kafka, &production.topic).await;
    kafka.delete_before(&production.topic, partition, all[read.len() + 500]).await;

    let accepted = is_accepted_only_cold(&production, "were deleted before they were read").await;
    let anew: Vec<&str> = accepted.stderr.lines().filter(|line| line.contains("begins anew")).collect();
    assert_eq!(anew.len(), 1, "{}", accepted.stderr);
    assert!(anew[0].contains(&format!("task `{}/{partition}` begins anew", production.topic)), "{anew:?}");
    assert_eq!(production.count().await as usize, 2 * motes.rows - 500);

    // A topic of the same name with as many rows: all positions are there, and the rows are others.
    kafka.delete_topic(&production.topic).await;
    kafka.create_topic(&production.topic, 2).await;
    for _ in 0..3 {
        production.replay(&motes.file).await.assert_code(0);
    }
    let reason = format!("`{}` was deleted and made anew: its id was", production.topic);
    is_accepted_only_cold(&production, &reason).await;
    assert_eq!(production.count().await as usize, 5 * motes.rows - 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_to_be_read_again_and_are_gone_are_told() {
    let (motes, kafka) = (Motes::load(), Kafka::shared().await);
    let production = Production::start(1).await;
    production.replay(&motes.file).await.assert_code(0);
    let running = production.run(&SMALL_EPOCHS).start();
    eventually(LONG, "rows before the kill", async || motes.rows as i64 / 10 <= production.count().await).await;
    running.kill().await;
    let written = production.count().await;
    let (_, all) = largest(kafka, &production.topic).await;
    kafka.delete_before(&production.topic, 0, all[motes.rows - 10]).await;
    let reason = format!("partition 0 of `{}` goes on at offset 0, but the rows there are from", production.topic);
    is_accepted_only_cold(&production, &reason).await;
    assert_eq!(production.count().await, written + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_may_be_added_while_it_runs() {
    let (motes, kafka) = (Motes::load(), Kafka::shared().await);
    let production = Production::start(1).await;
    production.replay(&motes.file).await.assert_code(0);
    let refresh = "sources.readings.client={ topic.metadata.refresh.interval.ms: 500 }";
    let latest = ["--set", "sources.readings.start=latest", "--set", refresh];
    ends(&production, &["--set", "sources.readings.start=earliest"]).await.assert_code(0);
    let running = production.run(&latest).start();
    let reading = r#"{"sensor_id": "s", "metric_type": "m", "value": 1, "timestamp": "2025-07-20T08:19:16Z"}"#;
    kafka.produce(&production.topic, vec![Record::new(reading).partition(0)]).await;
    eventually(LONG, "that it reads", async || motes.rows < production.count().await as usize).await;
    kafka.add_partitions(&production.topic, 3).await;
    production.replay(&motes.file).await.assert_code(0);
    eventually(LONG, "rows of all partitions", async || production.count().await as usize == 2 * motes.rows + 1).await;
    running.interrupt();
    let finished = running.wait_with_timeout(LONG).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    let words = "was added to the topic and is read from its beginning";
    assert_eq!(finished.stderr.matches(words).count(), 2, "{}", finished.stderr);
    ends(&production, &latest).await.assert_code(0);
    assert_eq!(production.count().await as usize, 2 * motes.rows + 1);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_read_from_its_start_when_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let yaml = "name: replaced
sources: { numbers: { type: file, path: in.jsonl, format: json, schema: { n: integer } } }
sinks: { out: { type: file, inputs: numbers, path: out.jsonl } }
";
    std::fs::write(folder.path().join("pipeline.yaml"), yaml).unwrap();
    let run = || pipeline().current_dir(folder.path()).args(["run", "pipeline.yaml", "--once"]);
    std::fs::write(&file, "{\"n\":1}\n{\"n\":2}\n").unwrap();
    run().start().wait().await.assert_code(0);
    std::fs::write(&file, "{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n").unwrap();
    let refused = run().start().wait().await;
    refused.assert_code(1);
    assert!(refused.stderr.contains("it was replaced; `--cold-start` reads it from its start"), "{}", refused.stderr);
    run().args(["--cold-start"]).start().wait().await.assert_code(0);
    run().start().wait().await.assert_code(0);
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(written, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n");
}
