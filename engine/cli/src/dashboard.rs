//! The dashboard of `pipeline run`: where it is, and the tokens it wants.

use std::net::SocketAddr;
use std::str::FromStr;

use pipeline_dashboard::{Address, Server, Tokens};
use pipeline_runtime::store::StateStore;
use pipeline_stage::{Result, StageError};
use tracing::warn;

/// `--dashboard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DashboardArg {
    /// None.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for DashboardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(DashboardArg::Off);
        }
        let address = text.parse().map(DashboardArg::At);
        address.map_err(|_| format!("`{text}` is no address, it would be like `127.0.0.1:8080`, or `off`"))
    }
}

/// Takes the address; none when there is to be no dashboard.
///
/// # Errors
/// `Config` when the address cannot be had, or needs a token.
pub fn bind(wanted: Option<DashboardArg>) -> Result<Option<Server>> {
    let address = match wanted {
        Some(DashboardArg::Off) => return Ok(None),
        Some(DashboardArg::At(address)) => Address::At(address),
        None => Address::Default,
    };
    let tokens = Tokens {
        view: token("PIPELINE_DASHBOARD_TOKEN")?,
        admin: token("PIPELINE_ADMIN_TOKEN")?,
        metrics: token("PIPELINE_METRICS_TOKEN")?,
    };
    Server::bind(address, tokens).map(Some)
}

/// The setting under which a run notes where its dashboard is; empty when it has none.
const NOTED: &str = "dashboard";

/// Notes in the state where the dashboard is, for `pipeline top` and `pipeline tap`. Of several processes on one state
/// the last one is noted. A pipeline runs without the note, too.
pub async fn note(store: &dyn StateStore, url: Option<&str>) {
    if let Err(error) = try_to_note(store, url.unwrap_or_default()).await {
        warn!("where the dashboard is was not noted: {}; `top` and `tap` need `--connect`", error.chain());
    }
}

async fn try_to_note(store: &dyn StateStore, url: &str) -> Result<()> {
    if store.setting(NOTED).await?.unwrap_or_default() == url {
        return Ok(());
    }
    store.set_setting(NOTED, url).await
}

/// What a run has noted; none when no run has, or the last one has no dashboard.
///
/// # Errors
/// Those of the store.
pub async fn noted(store: &dyn StateStore) -> Result<Option<String>> {
    Ok(store.setting(NOTED).await?.filter(|url| !url.is_empty()))
}

/// A token of the environment: itself, or in a file, as secrets are given to containers. It is never an argument, which
/// everybody on the machine could read.
pub fn token(name: &str) -> Result<Option<String>> {
    let of_file = format!("{name}_FILE");
    let found = match (std::env::var(name), std::env::var(&of_file)) {
        (Ok(token), _) => token,
        (_, Ok(path)) => std::fs::read_to_string(&path)
            .map_err(|error| StageError::config(format!("{of_file}: `{path}` cannot be read: {error}")))?,
        _ => return Ok(None),
    };
    match found.trim() {
        "" => Err(StageError::config(format!("{name} is empty, it must be a token"))),
        token => Ok(Some(token.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_off() {
        assert_eq!("off".parse(), Ok(DashboardArg::Off));
        assert_eq!("127.0.0.1:80".parse(), Ok(DashboardArg::At(([127, 0, 0, 1], 80).into())));
        let error = "localhost".parse::<DashboardArg>().unwrap_err();
        assert_eq!(error, "`localhost` is no address, it would be like `127.0.0.1:8080`, or `off`");
    }
}
