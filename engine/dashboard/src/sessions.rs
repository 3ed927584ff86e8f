//! Sessions: browsers that have shown a token, and for how long they need not show it again.
//!
//! A browser keeps a random number that says nothing of the token. What may be done with it is known here alone, until it
//! logs out, the session ends, or the process does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::access::Role;

/// A working day, after which the token is asked for again.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
/// More than people who watch one pipeline; who logs in beyond that ends the session that is nearest its end.
const MAX_SESSIONS: usize = 256;
/// Nobody guesses one of 2^256 numbers.
const RANDOM_BYTES: usize = 32;

/// The sessions of a dashboard.
pub struct Sessions {
    cookie: String,
    /// By the hashes of their numbers: how long a look-up takes tells nothing of a number.
    kept: Mutex<HashMap<[u8; 32], Session>>,
}

struct Session {
    role: Role,
    ends: Instant,
}

impl Sessions {
    /// Of the dashboard of a pipeline. Browsers send cookies to all ports of a machine, so their name has the port in it:
    /// each dashboard of a machine has sessions of its own.
    pub fn new(pipeline: &str, address: SocketAddr) -> Self {
        let name: String = pipeline.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        Sessions { cookie: format!("pipeline_session_{name}_{}", address.port()), kept: Mutex::default() }
    }

    /// Begins one: a cookie for the browser, which scripts cannot read and other sites cannot send.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn begin(&self, role: Role) -> Result<String, getrandom::Error> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let number: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut kept = self.kept();
        while MAX_SESSIONS <= kept.len() {
            let Some(oldest) = kept.iter().min_by_key(|(_, session)| session.ends).map(|(hash, _)| *hash) else {
                break;
            };
            kept.remove(&oldest);
        }
        kept.insert(hash(&number), Session { role, ends: Instant::now() + LASTS });
        Ok(self.set(&number, LASTS))
    }

    /// What the sender of a request may do by its session; nothing without one.
    pub fn role(&self, headers: &HeaderMap) -> Role {
        let kept = self.kept();
        self.numbers(headers)
            .filter_map(|number| kept.get(&hash(number)))
            .map(|session| session.role)
            .max()
            .unwrap_or(Role::Nobody)
    }

    /// Ends those that a request shows: a cookie that takes the browser's away.
    pub fn end(&self, headers: &HeaderMap) -> String {
        let mut kept = self.kept();
        for number in self.numbers(headers) {
            kept.remove(&hash(number));
        }
        self.set("", Duration::ZERO)
    }

    /// Those that have not ended.
    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        let now = Instant::now();
        kept.retain(|_, session| now < session.ends);
        kept
    }

    /// A browser may have several of the same name, which somebody else has set for it.
    fn numbers<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h str> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.cookie).map(|(_, number)| number)
    }

    fn set(&self, number: &str, lasts: Duration) -> String {
        format!("{}={number}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", self.cookie, lasts.as_secs())
    }
}

fn hash(number: &str) -> [u8; 32] {
    Sha256::digest(number.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(port: u16) -> Sessions {
        Sessions::new("iot", ([127, 0, 0, 1], port).into())
    }

    /// What a browser sends after it was told this.
    fn sent(cookie: &str) -> HeaderMap {
        let pair = cookie.split_once(';').expect("attributes").0;
        HeaderMap::from_iter([(COOKIE, format!("other=1; {pair}").parse().expect("a header"))])
    }

    #[test]
    fn dashboards_of_a_machine_do_not_take_each_others_sessions() {
        let (one, other) = (sessions(1), sessions(2));
        let cookies = [one.begin(Role::Viewer).unwrap(), other.begin(Role::Admin).unwrap()];
        let names = cookies.each_ref().map(|cookie| cookie.split_once('=').expect("a name").0);
        assert_ne!(names[0], names[1], "a browser would forget the first");
        let mut both = sent(&cookies[0]);
        both.append(COOKIE, sent(&cookies[1])[COOKIE].clone());
        assert_eq!((one.role(&both), other.role(&both)), (Role::Viewer, Role::Admin));
    }

    #[test]
    fn each_is_another_number_and_ends_when_its_browser_logs_out() {
        let sessions = sessions(1);
        let (one, other) = (sessions.begin(Role::Admin).unwrap(), sessions.begin(Role::Admin).unwrap());
        assert_ne!(one, other);
        assert!(one.contains("; HttpOnly; SameSite=Strict; Max-Age=43200"), "{one}");
        let taken_away = sessions.end(&sent(&one));
        assert!(taken_away.contains("=; ") && taken_away.ends_with("Max-Age=0"), "{taken_away}");
        assert_eq!((sessions.role(&sent(&one)), sessions.role(&sent(&other))), (Role::Nobody, Role::Admin));
    }

    #[tokio::test(start_paused = true)]
    async fn none_lasts_for_ever() {
        let sessions = sessions(1);
        let cookie = sessions.begin(Role::Viewer).unwrap();
        tokio::time::advance(LASTS - Duration::from_secs(1)).await;
        assert_eq!(sessions.role(&sent(&cookie)), Role::Viewer);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(sessions.role(&sent(&cookie)), Role::Nobody);
        assert!(sessions.kept().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_only_so_many() {
        let sessions = sessions(1);
        let first = sessions.begin(Role::Viewer).unwrap();
        for _ in 0..MAX_SESSIONS {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.begin(Role::Viewer).unwrap();
        }
        let count = sessions.kept().len();
        assert_eq!((count, sessions.role(&sent(&first))), (MAX_SESSIONS, Role::Nobody));
    }
}
