//! Connections to PostgreSQL that die around a commit: nobody knows whether it was made, and no row is there twice.

use std::time::Duration;

use crate::production::{Motes, Production};
use pipeline_services::{CommitCutter, Postgres};

/// Small epochs and frequent checkpoints, so that there are many commits.
const SMALL_EPOCHS: [&str; 5] = ["--once", "--set", "commit_every=5ms", "--set", "checkpoint_every=100ms"];

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_commits_of_rows_may_be_lost() {
    let (motes, production) = filled().await;
    let cutter = CommitCutter::start(production.database.url(), "", 2).await;
    is_exact(&motes, &production, cutter.url(), None).await;
    assert_some(&cutter);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_commits_of_state_may_be_lost() {
    let (motes, production) = filled().await;
    let database = Postgres::shared().await.create_database().await;
    // One behind the other: most commits note deliveries, and the others are to be cut often, too.
    let deliveries = CommitCutter::start(database.url(), "pipeline_state_outbox", 50).await;
    let checkpoints = CommitCutter::start(deliveries.url(), "INSERT INTO pipeline_state_checkpoints", 2).await;
    let epochs = CommitCutter::start(checkpoints.url(), "INSERT INTO pipeline_state_epochs", 1).await;
    let tasks = CommitCutter::start(epochs.url(), "pipeline_state_tasks SET", 3).await;
    is_exact(&motes, &production, production.database.url(), Some(tasks.url())).await;
    for cutter in [deliveries, checkpoints, epochs, tasks] {
        assert_some(&cutter);
    }
}

async fn filled() -> (Motes, Production) {
    let motes = Motes::load();
    let production = Production::start(4).await;
    production.replay(&motes.file).await.assert_code(0);
    (motes, production)
}

/// Reads the topic to its end and compares.
async fn is_exact(motes: &Motes, production: &Production, tables: &str, state: Option<&str>) {
    let run = production.run(&SMALL_EPOCHS).env("DATABASE_URL", tables);
    let run = state.iter().fold(run, |run, state| run.env("STATE", state));
    let finished = run.start().wait_with_timeout(Duration::from_secs(240)).await;
    finished.assert_code(0);
    finished.assert_books_balance();
    assert_eq!(production.history().await.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
    assert_eq!(production.slack.requests().len(), motes.anomalies.len(), "each alert once");
}

/// Or the test has tested nothing.
fn assert_some(cutter: &CommitCutter) {
    let (answers, commits) = (cutter.lost_answers(), cutter.lost_commits());
    assert!(0 < answers && 0 < commits, "{answers} answers and {commits} commits were lost");
}
