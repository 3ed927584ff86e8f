//! Connections to PostgreSQL that die around a commit: nobody knows whether it was made, and no row is there twice.

use std::time::Duration;

use crate::production::{Motes, Production};
use pipeline_services::{CommitCutter, Postgres};

/// The least that a test must have cut of each kind, or it has tested nothing.
const MANY: usize = 5;

/// Small epochs and frequent checkpoints, so that there are many commits.
const SMALL_EPOCHS: [&str; 5] = ["--once", "--set", "commit_every=5ms", "--set", "checkpoint_every=100ms"];

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_commits_of_rows_may_be_lost() {
    let (motes, production) = filled().await;
    let tables = CommitCutter::start(production.database.url(), 2).await;
    is_exact(&motes, &production, tables.url(), None).await;
    assert_many(&tables);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_commits_of_state_may_be_lost() {
    let (motes, production) = filled().await;
    let database = Postgres::shared().await.create_database().await;
    let state = CommitCutter::start(database.url(), 20).await;
    is_exact(&motes, &production, production.database.url(), Some(state.url())).await;
    assert_many(&state);
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
    assert!(finished.stderr.contains("books balance"), "{}", finished.stderr);
    assert_eq!(production.history().await.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
    assert_eq!(production.slack.requests().len(), motes.anomalies.len(), "each alert once");
}

fn assert_many(cutter: &CommitCutter) {
    let cut = (cutter.lost_answers(), cutter.lost_commits());

    assert!(MANY <= cut.0 && MANY <= cut.1, "{cut:?} answers and commits were lost");
}
