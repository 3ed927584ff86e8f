//! Who may see the dashboard: on loopback whoever uses the machine, elsewhere whoever has a token.

use std::time::Duration;

use pipeline_services::PipelineRun;
use reqwest::StatusCode;

use crate::production::{pipeline, repository};
use crate::scraped::Dashboard;

const VIEW: &str = "token-to-look-3141";
const ADMIN: &str = "token-to-change-2718";
const METRICS: &str = "token-to-scrape-1414";

/// The simulator into a folder of the test's own.
fn run(folder: &std::path::Path) -> PipelineRun {
    let file = repository().join("pipelines/iot.yaml");
    let run = pipeline().args(["run"]).args([file]).env("STATE", folder.join("state"));
    run.env("DATABASE", folder.join("iot.db")).args(["--dashboard", "0.0.0.0:0"])
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(folder.path()).start().wait().await;
    finished.assert_code(2);
    let words = "others can reach the dashboard on 0.0.0.0:0, so it needs a token: set PIPELINE_DASHBOARD_TOKEN";
    assert!(finished.stderr.contains(words), "{}", finished.stderr);
    assert!(!folder.path().join("state").exists(), "nothing was begun");
}

#[tokio::test]
async fn only_a_token_opens_what_is_not_for_scrapers() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path()).env("PIPELINE_DASHBOARD_TOKEN", VIEW).env("PIPELINE_ADMIN_TOKEN", ADMIN);
    let mut run = run.start();
    let dashboard = Dashboard::of(&mut run).await;
    let mut pages = String::new();
    for path in ["/", "/api/pipeline", "/api/live", "/api/tap/spikes", "/api/dead-letters", "/assets/app.js"] {
        let (status, body) = dashboard.get(path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        pages.push_str(&body);
        let wrong = dashboard.ask(path).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
        for token in [VIEW, ADMIN] {
            let answer = dashboard.ask(path).bearer_auth(token).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            // What is told for ever is not waited for.
            if !path.starts_with("/api/live") && !path.starts_with("/api/tap") {
                pages.push_str(&answer.text().await.unwrap());
            }
        }
    }
    for path in ["/metrics", "/health", "/ready"] {
        let (status, body) = dashboard.get(path).await;
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{path}");
        pages.push_str(&body);
    }
    assert!(1_000 < pages.len(), "{pages}");
    run.interrupt();
    let finished = run.wait_with_timeout(Duration::from_secs(60)).await;
    finished.assert_code(0);
    for token in [VIEW, ADMIN] {
        assert!(!pages.contains(token) && !finished.stderr.contains(token) && !finished.stdout.contains(token));
    }
}

#[tokio::test]
async fn a_token_of_their_own_closes_metrics_and_health() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{METRICS}\n")).unwrap();
    let run = run(folder.path()).env("PIPELINE_DASHBOARD_TOKEN", VIEW).env("PIPELINE_METRICS_TOKEN_FILE", &file);
    let mut run = run.start();
    let dashboard = Dashboard::of(&mut run).await;
    for path in ["/metrics", "/health", "/ready"] {
        assert_eq!(dashboard.get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
        for token in [METRICS, VIEW] {
            let answer = dashboard.ask(path).bearer_auth(token).send().await.unwrap();
            assert_ne!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert!(!answer.text().await.unwrap().contains(token));
        }
    }
    let answer = dashboard.ask("/api/pipeline").bearer_auth(METRICS).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "a scraper sees figures and nothing else");
    run.interrupt();
    let finished = run.wait_with_timeout(Duration::from_secs(60)).await;
    assert!(!finished.stderr.contains(METRICS) && !finished.stdout.contains(METRICS));
}
