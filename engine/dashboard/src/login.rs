//! The page that asks for a token, and what makes a session of it.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use crate::access::{Access, COOKIE_NAME};

/// What the form sends.
#[derive(Deserialize)]
pub struct Login {
    token: String,
}

/// Whoever has the token gets a cookie: a script cannot read it, another site cannot send it.
pub async fn login(State(access): State<Arc<Access>>, Form(login): Form<Login>) -> Response {
    let Some(session) = access.session(login.token.trim()) else {
        return page(StatusCode::UNAUTHORIZED, Some("This is not the token."));
    };
    let cookie = format!("{COOKIE_NAME}={session}; Path=/; HttpOnly; SameSite=Strict");
    (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, "/".into())]).into_response()
}

/// The page for those who may look and want to do more.
pub async fn form() -> Response {
    page(StatusCode::OK, None)
}

/// Takes the cookie away.
pub async fn logout() -> Response {
    let cookie = format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
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
