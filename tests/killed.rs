//! Killed at random moments: after the restarts the tables are those of an undisturbed run.

use std::time::Duration;

use crate::production::{Binary, Motes, Production};
use pipeline_services::eventually;

/// The moments are spread over what is written, so that each kill comes while there is work in flight.
const KILLS: usize = 20;
/// The boundary to plugins adds few moments of its own.
const KILLS_OF_SLIM: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_do_not_matter() {
    kills_do_not_matter(KILLS, Binary::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_do_not_matter_with_everything_loaded() {
    kills_do_not_matter(KILLS_OF_SLIM, Binary::Slim).await;
}

async fn kills_do_not_matter(kills: usize, binary: Binary) {
    let motes = Motes::load();
    let production = Production::start(4).await.with(binary);
    production.replay(&motes.file).await.assert_code(0);
    let mut resumed = 0;
    for kill in 0..kills {
        // Fewer rows than the whole are there at each kill; the pace makes the moments differ from run to run.
        let target = motes.rows * (kill + 1) / (kills + 2);
        let mut running =
            production.run(&["--once", "--set", "commit_every=5ms", "--set", "checkpoint_every=300ms"]).start();
        eventually(Duration::from_secs(60), "rows before the kill", async || {
            !running.is_running() || target as i64 <= count(&production).await
        })
        .await;
        if running.is_running() {
            let killed = running.kill().await;
            resumed += usize::from(killed.stderr.contains("again in"));
        }
    }
    let finished = production.run(&["--once"]).start().wait_with_timeout(Duration::from_secs(240)).await;
    finished.assert_code(0);
    assert!(0 < resumed, "no run had anything to compute again");

    assert_eq!(production.history().await.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
    let alerts = production.slack.requests().len();
    // An alert may be repeated when the kill comes between its delivery and the note of it: at most one a kill.
    assert!((motes.anomalies.len()..=motes.anomalies.len() + kills).contains(&alerts), "{alerts} alerts");
}

pub async fn count(production: &Production) -> i64 {
    let sql = "SELECT CASE WHEN to_regclass('sensor_data') IS NULL THEN 0 ELSE
               (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM sensor_data', false, true, '')))[1]::text::bigint END";
    production.database.count(sql).await
}
