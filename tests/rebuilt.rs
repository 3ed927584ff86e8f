//! A file that is changed so that its state does not fit any more: told, refused, and rebuilt from the topic.

use std::time::Duration;

use crate::production::{Anomaly, Motes, Production};
use pipeline_services::Finished;

const LONG: Duration = Duration::from_secs(120);
const CHANGED: [&str; 2] = ["--set", "detectors.spikes.key=[sensor_id]"];

async fn finished(production: &Production, command: &str, args: &[&str]) -> Finished {
    production.command(command, args).start().wait_with_timeout(LONG).await
}

async fn run_once(production: &Production, args: &[&str]) -> Finished {
    finished(production, "run", &[&["--once"], args].concat()).await
}

/// Those that came later.
fn gained(before: &[Anomaly], after: Vec<Anomaly>) -> Vec<Anomaly> {
    let mut before = before.iter().peekable();
    after.into_iter().filter(|anomaly| before.next_if(|was| *was == anomaly).is_none()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_rebuilt_from_the_topic() {
    let motes = Motes::load();
    let production = Production::start(2).await;
    production.replay(&motes.file).await.assert_code(0);
    run_once(&production, &[]).await.assert_code(0);

    let compared = finished(&production, "diff", &CHANGED).await;
    compared.assert_code(1);
    let line = compared.stdout.lines().find(|line| line.contains("spikes")).expect("a line for the detector");
    assert!(line.contains("rebuild") && line.contains("makes its series of [sensor_id] now"), "{line}");
    assert!(compared.stderr.contains("`pipeline run FILE --rebuild spikes` computes"), "{}", compared.stderr);
    let refused = run_once(&production, &CHANGED).await;
    refused.assert_code(1);
    assert!(refused.stderr.contains("`pipeline run FILE --rebuild spikes` computes"), "{}", refused.stderr);

    let before = production.anomalies().await;
    let rebuilt = run_once(&production, &[&CHANGED[..], &["--rebuild", "spikes"]].concat()).await;
    rebuilt.assert_code(0);
    assert!(rebuilt.stderr.contains("rebuilt from"), "{}", rebuilt.stderr);
    assert_eq!(production.anomalies().await, before, "what is rebuilt is not written again");

    // Another pipeline that has always had this key, over the same topic.
    let other = Production { topic: production.topic.clone(), ..Production::start(1).await };
    let of_other = [&CHANGED[..], &["--set", "sources.readings.group=other"]].concat();
    run_once(&other, &of_other).await.assert_code(0);
    let others_before = other.anomalies().await;
    production.replay(&motes.file).await.assert_code(0);
    run_once(&production, &CHANGED).await.assert_code(0);
    run_once(&other, &of_other).await.assert_code(0);
    let found = gained(&before, production.anomalies().await);
    assert!(!found.is_empty());
    assert_eq!(found, gained(&others_before, other.anomalies().await));
}
