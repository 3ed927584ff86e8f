//! Who may see what.
//!
//! On a loopback address whoever uses the machine may look; the `Host` header must name the machine, so that no page of
//! the web can ask in the name of its visitor (DNS rebinding). On any other address a token is needed for all but
//! `/health` and `/metrics`, and for those, too, if they have one of their own. Tokens are compared by their hashes and
//! never written anywhere; a browser gets a [session](crate::sessions).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::login;
use crate::sessions::Sessions;

/// The tokens, as the user has given them.
#[derive(Clone, Default)]
pub struct Tokens {
    /// Needed to look, on addresses that are not loopback.
    pub view: Option<String>,
    /// Needed to change anything: to process dead letters again. It also lets look.
    pub admin: Option<String>,
    /// Needed for `/metrics`, `/health` and `/ready`; without it anybody may ask for them.
    pub metrics: Option<String>,
}

/// Who may see what.
pub struct Access {
    address: SocketAddr,
    view: Option<Secret>,
    admin: Option<Secret>,
    metrics: Option<Secret>,
    sessions: Sessions,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    Nobody,
    /// Look.
    Viewer,
    /// Change things.
    Admin,
}

#[derive(PartialEq, Eq)]
struct Secret([u8; 32]);

impl Secret {
    fn of(token: &str) -> Self {
        Secret(Sha256::digest(token.as_bytes()).into())
    }
}

impl Access {
    /// To the dashboard of a pipeline on an address, with tokens.
    pub fn new(pipeline: &str, address: SocketAddr, tokens: &Tokens) -> Self {
        let secret = |token: &Option<String>| token.as_deref().map(Secret::of);
        let (view, admin, metrics) = (secret(&tokens.view), secret(&tokens.admin), secret(&tokens.metrics));
        Access { address, view, admin, metrics, sessions: Sessions::new(pipeline, address) }
    }

    /// Sessions of those who have shown a token.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What the holder of a token may do.
    pub fn role_of(&self, token: &str) -> Role {
        let shown = Some(Secret::of(token));
        match () {
            () if shown == self.admin => Role::Admin,
            () if shown == self.view => Role::Viewer,
            () => Role::Nobody,
        }
    }

    /// What the sender of a request may do.
    pub fn role(&self, headers: &HeaderMap) -> Role {
        let is_open = self.view.is_none() && self.address.ip().is_loopback();
        let by_itself = if is_open { Role::Viewer } else { Role::Nobody };
        let by_token = bearer(headers).map_or(Role::Nobody, |token| self.role_of(token));
        by_itself.max(by_token).max(self.sessions.role(headers))
    }

    /// Whether there is anything to log in for.
    pub fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    fn may_scrape(&self, headers: &HeaderMap) -> bool {
        let Some(metrics) = &self.metrics else { return true };
        let is_shown = |token| Secret::of(token) == *metrics || self.role_of(token) != Role::Nobody;
        bearer(headers).is_some_and(is_shown) || self.sessions.role(headers) != Role::Nobody
    }

    /// Whether the `Host` header names this machine: on loopback, by name or by address.
    fn is_meant(&self, headers: &HeaderMap) -> bool {
        if !self.address.ip().is_loopback() {
            return true;
        }
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether a request that changes something comes from a page of this server, or from no page at all.
    fn is_own_page(headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// Lets through who may, and puts the headers on that keep browsers from doing harm.
pub async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&access, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn refusal(access: &Access, request: &Request) -> Option<Response> {
    let (headers, path) = (request.headers(), request.uri().path());
    if !access.is_meant(headers) {
        let words = "this address is for the machine itself: ask for it as localhost or 127.0.0.1";
        return Some((StatusCode::MISDIRECTED_REQUEST, words).into_response());
    }
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    if changes && !Access::is_own_page(headers) {
        return Some((StatusCode::FORBIDDEN, "the request comes from a page of somebody else").into_response());
    }
    let is_allowed = match path {
        "/health" | "/ready" | "/metrics" => access.may_scrape(headers),
        "/login" | "/assets/style.css" => true,
        _ => Role::Viewer <= access.role(headers),
    };
    if is_allowed {
        return None;
    }
    let is_page = path == "/" && !changes;
    Some(if is_page { login::page(StatusCode::UNAUTHORIZED, None) } else { unauthorized() })
}

fn unauthorized() -> Response {
    let words = "a token is needed: send `Authorization: Bearer TOKEN`, or log in on the page";
    (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], words).into_response()
}

/// Scripts, styles and data come from here alone, and no other page may frame this one. Plotly sets styles in the page.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, view: Option<&str>, admin: Option<&str>) -> Access {
        let tokens = Tokens { view: view.map(Into::into), admin: admin.map(Into::into), metrics: None };
        Access::new("iot", address.parse().unwrap(), &tokens)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn loopback_is_open_and_other_addresses_are_not() {
        assert_eq!(access("127.0.0.1:1", None, None).role(&headers(&[])), Role::Viewer);
        let open = access("0.0.0.0:1", Some("secret"), Some("root"));
        for (sent, role) in [
            (headers(&[]), Role::Nobody),
            (headers(&[("authorization", "Bearer wrong")]), Role::Nobody),
            (headers(&[("authorization", "Bearer ")]), Role::Nobody),
            (headers(&[("authorization", "Bearer secret")]), Role::Viewer),
            (headers(&[("authorization", "Bearer root")]), Role::Admin),
        ] {
            assert_eq!(open.role(&sent), role, "{sent:?}");
        }
    }

    #[test]
    fn metrics_with_a_token_are_not_open_on_loopback_either() {
        let tokens = Tokens { view: None, admin: Some("root".into()), metrics: Some("m".into()) };
        let access = Access::new("iot", "127.0.0.1:1".parse().unwrap(), &tokens);
        for (sent, may) in [
            (headers(&[]), false),
            (headers(&[("authorization", "Bearer m")]), true),
            (headers(&[("authorization", "Bearer root")]), true),
        ] {
            assert_eq!(access.may_scrape(&sent), may, "{sent:?}");
        }
    }

    #[test]
    fn a_session_is_worth_what_its_token_is() {
        let access = access("0.0.0.0:1", Some("secret"), Some("root"));
        for (token, role) in [("secret", Role::Viewer), ("root", Role::Admin)] {
            assert_eq!(access.role_of(token), role);
            let cookie = access.sessions().begin(role).unwrap();
            assert!(!cookie.contains(token), "{cookie}");
            let sent = headers(&[("cookie", cookie.split_once(';').unwrap().0)]);
            assert_eq!((access.role(&sent), access.may_scrape(&sent)), (role, true));
            access.sessions().end(&sent);
            assert_eq!(access.role(&sent), Role::Nobody);
        }
        assert_eq!(access.role_of("wrong"), Role::Nobody);
    }

    #[test]
    fn a_name_that_only_points_to_this_machine_is_not_meant() {
        let access = access("127.0.0.1:8080", None, None);
        for (host, is_meant) in [
            ("127.0.0.1:8080", true),
            ("localhost:9", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
        ] {
            assert_eq!(access.is_meant(&headers(&[("host", host)])), is_meant, "{host}");
        }
        assert!(!access.is_meant(&headers(&[])));
    }

    #[test]
    fn other_peoples_pages_change_nothing() {
        for (origin, is_own) in [("http://a:1", true), ("http://evil", false), ("null", false)] {
            assert_eq!(Access::is_own_page(&headers(&[("host", "a:1"), ("origin", origin)])), is_own, "{origin}");
        }
    }
}
