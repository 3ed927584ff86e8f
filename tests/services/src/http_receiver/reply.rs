//! What a server of a test answers.

/// What the receiver does with a request, after it has recorded it.
#[derive(Debug, Clone)]
pub struct Reply(pub(super) Act);

/// What it comes to.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
    BreakOff(String),
    Hang,
    Close,
}

impl Reply {
    /// Status 200 and `ok`, as Slack says it.
    pub fn ok() -> Self {
        Self::status(200).body("ok")
    }

    /// This status, with an empty body.
    pub fn status(status: u16) -> Self {
        Reply(Act::Answer { status, headers: vec![], body: String::new() })
    }

    /// No answer, ever; the connection stays open until the client gives up.
    pub fn hang() -> Self {
        Reply(Act::Hang)
    }

    /// No answer; the connection is closed.
    pub fn close() -> Self {
        Reply(Act::Close)
    }

    /// Status 200 and this part of a body; then the connection is closed.
    pub fn breaks_off(body: &str) -> Self {
        Reply(Act::BreakOff(body.to_owned()))
    }

    /// Adds a header to an answer: `Reply::status(429).header("Retry-After", "2")`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Act::Answer { headers, .. } = &mut self.0 {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets the body of an answer.
    pub fn body(mut self, text: &str) -> Self {
        if let Act::Answer { body, .. } = &mut self.0 {
            *body = text.to_owned();
        }
        self
    }
}
