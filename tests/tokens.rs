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

/// What a browser sends after an answer: the cookie, without its attributes.
fn cookie_of(answer: &reqwest::Response) -> String {
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    cookie.split_once(';').expect("attributes").0.to_owned()
}

async fn login(dashboard: &Dashboard, token: &str) -> reqwest::Response {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form =
        client.post(format!("{}/login", dashboard.url)).header("content-type", "application/x-www-form-urlencoded");
    form.body(format!("token={token}")).send().await.unwrap()
}

#[tokio::test]
async fn a_browser_is_let_in_until_it_logs_out() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |folder: &tempfile::TempDir| run(folder.path()).env("PIPELINE_DASHBOARD_TOKEN", VIEW).start();
    let (mut first, mut second) = (start(&folders[0]), start(&folders[1]));
    let (one, other) = (Dashboard::of(&mut first).await, Dashboard::of(&mut second).await);
    assert_eq!(login(&one, "wrong").await.status(), StatusCode::UNAUTHORIZED);

    // The same browser, logged in to two dashboards of one machine, and once more to one of them.
    let cookies = [login(&one, VIEW).await, login(&other, VIEW).await, login(&one, VIEW).await].map(|answer| {
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        cookie_of(&answer)
    });
    assert_ne!(cookies[0], cookies[2]);
    let names: Vec<&str> = cookies.iter().map(|cookie| cookie.split_once('=').unwrap().0).collect();
    assert_ne!(names[0], names[1], "they would overwrite each other");
    let is_let_in = async |dashboard: &Dashboard, cookies: &str| {
        let answer = dashboard.ask("/api/pipeline").header("cookie", cookies).send().await.unwrap();
        answer.status() == StatusCode::OK
    };
    let both = format!("{}; {}", cookies[0], cookies[1]);
    assert!(is_let_in(&one, &both).await && is_let_in(&other, &both).await);
    assert!(!is_let_in(&other, &cookies[0]).await, "each has sessions of its own");

    let mut told = one.ask("/api/live").header("cookie", &cookies[0]).send().await.unwrap();
    assert!(told.chunk().await.unwrap().is_some());
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    client.post(format!("{}/logout", one.url)).header("cookie", &cookies[0]).send().await.unwrap();
    assert!(!is_let_in(&one, &cookies[0]).await, "it is over");
    assert!(is_let_in(&one, &cookies[2]).await, "that of another window is not");
    // The events of the one that is over end, too.
    let rest = async { while told.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(30), rest).await.expect("an end");
    for run in [first, second] {
        run.interrupt();
        let finished = run.wait_with_timeout(Duration::from_secs(60)).await;
        finished.assert_code(0);
        assert!(
            !finished.stderr.contains(VIEW) && cookies.iter().all(|cookie| !finished.stderr.contains(&cookie[40..]))
        );
    }
}
