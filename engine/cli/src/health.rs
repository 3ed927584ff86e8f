//! `pipeline health`: asks a pipeline that runs whether it is well, for images that have no `curl`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pipeline_stage::{Result, StageError};
use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::args::finish;
use crate::dashboard::token;
use crate::print;
use crate::remote::{client, dashboard_url};

/// Ask a running pipeline whether it is alive
///
/// For the health check of a container, and for scripts: exits with 0 if it is, with 1 if it is not or nothing answers.
/// A token is taken from PIPELINE_DASHBOARD_TOKEN or PIPELINE_METRICS_TOKEN, or from the file that the same name with
/// _FILE at its end names; only the first one lets it say why a pipeline is not ready.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Where its dashboard is
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = dashboard_url)]
    url: Url,
    /// Ask whether rows flow, too: sources and sinks are connected, and state is restored
    #[arg(long)]
    ready: bool,
}

/// A pipeline that is well answers at once; one that takes longer than a health check may is not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// Runs the command.
pub fn run(args: &HealthArgs) -> ExitCode {
    finish(async {
        print(ask(args).await?);
        Ok(ExitCode::SUCCESS)
    })
}

/// What there is to say of a pipeline that is well.
async fn ask(args: &HealthArgs) -> Result<&'static str> {
    let (path, well) = if args.ready { ("ready", "ready") } else { ("health", "alive") };
    let mut url = args.url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push(path);
    }
    let mut request = client(&url)?.get(url.clone()).timeout(ANSWERS_WITHIN);
    for name in ["PIPELINE_DASHBOARD_TOKEN", "PIPELINE_METRICS_TOKEN"] {
        if let Some(token) = token(name)? {
            request = request.bearer_auth(token);
            break;
        }
    }
    let no_answer =
        |error: reqwest::Error| StageError::transient(format!("no answer from {url}")).because(error.without_url());
    let answer = request.send().await.map_err(no_answer)?;
    match answer.status() {
        StatusCode::OK => Ok(well),
        StatusCode::UNAUTHORIZED => Err(StageError::config(format!(
            "{url} wants another token: set PIPELINE_DASHBOARD_TOKEN or PIPELINE_METRICS_TOKEN"
        ))),
        StatusCode::SERVICE_UNAVAILABLE if args.ready => {
            let readiness: Value = answer.json().await.map_err(no_answer)?;
            Err(StageError::transient(not_ready(&readiness)))
        }
        status => Err(StageError::transient(format!("{url} answers with {status}"))),
    }
}

/// The reasons, if they were told.
fn not_ready(readiness: &Value) -> String {
    let reasons = readiness["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
    match reasons.is_empty() {
        true => "not ready".into(),
        false => format!("not ready: {}", reasons.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_if_there_are_any() {
        let readiness = |reasons: &[&str]| serde_json::json!({ "is_ready": false, "reasons": reasons });
        assert_eq!(not_ready(&readiness(&[])), "not ready");
        assert_eq!(not_ready(&readiness(&["a: down", "b: down"])), "not ready: a: down; b: down");
    }
}
