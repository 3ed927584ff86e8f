//! The page that asks for a token, and what makes a session of it.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use crate::access::{Access, Role};

/// What the form sends.
#[derive(Deserialize)]
pub struct Login {
    token: String,
}

/// Whoever has the token gets a session.
pub async fn login(State(access): State<Arc<Access>>, Form(login): Form<Login>) -> Response {
    let role = access.role_of(login.token.trim());
    if role == Role::Nobody {
        return page(StatusCode::UNAUTHORIZED, Some("This is not the token."));
    }
    match access.sessions().begin(role) {
        Ok(cookie) => (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, "/".into())]).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("no session can be made: {error}")).into_response(),
    }
}

/// The page for those who may look and want to do more.
pub async fn form() -> Response {
    page(StatusCode::OK, None)
}

/// Ends the session.
pub async fn logout(State(access): State<Arc<Access>>, headers: HeaderMap) -> Response {
    let cookie = access.sessions().end(&headers);
    (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, "/".into())]).into_response()
}

/// The page that asks.
pub fn page(status: StatusCode, complaint: Option<&'static str>) -> Response {
    let complaint = complaint.map_or(String::new(), |words| format!("<p role=\"alert\" class=\"bad\">{words}</p>"));
    (status, Html(PAGE.replace("COMPLAINT", &complaint))).into_response()
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · pipeline</title>
<link rel="stylesheet" href="/assets/style.css">
</head>
<body>
<main class="login">
<h1>pipeline</h1>
COMPLAINT
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
<p>It is what <code>PIPELINE_DASHBOARD_TOKEN</code> was when the pipeline was started.</p>
</main>
</body>
</html>
"#;
