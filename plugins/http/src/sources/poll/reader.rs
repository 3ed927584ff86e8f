//! Hands over what came as rows, and tells how the requests do.

use std::sync::Arc;

use async_trait::async_trait;
use pipeline_inbox::{Arrival, Inbox, now};
use pipeline_stage::{Partition, Position, Reader, Result, SourceBatch, StageError};
use tokio::time::sleep;

use super::LOOK_AT_LOGGED;
use super::request::Outcome;
use super::rounds::Rounds;
use super::told::Told;

/// Its rounds begin while it is asked for rows, and at no other time.
pub(super) struct PollReader {
    pub(super) inbox: Arc<Inbox<()>>,
    pub(super) partition: Partition,
    pub(super) rounds: Rounds,
    pub(super) told: Told,
    /// How many answers, or none, came since it was told how the requests are.
    pub(super) n_untold: usize,
    /// When the last round began, as text.
    pub(super) last_round: Option<String>,
    pub(super) once: bool,
}

impl PollReader {
    /// Takes what has come; gives a batch without rows when nothing came but the news that the source works again.
    fn take(&mut self, number: usize, outcome: Outcome) -> Result<Option<SourceBatch>> {
        let is_answer = !matches!(outcome, Outcome::Failed(_));
        if let Some(body) = self.rounds.take(number, outcome) {
            let key = self.rounds.name(number).map(|name| name.to_owned().into());
            self.inbox.put(Arrival { rows: vec![body], key, at: now(), receipt: () });
        }
        let is_back = is_answer && self.told.is_back();
        self.n_untold += 1;
        // Requests may be so many that there is always one under way.
        if self.rounds.is_quiet() || self.rounds.states().len() <= self.n_untold {
            self.n_untold = 0;
            self.told.tell(self.rounds.states())?;
        }
        let is_silent = is_back && self.inbox.waiting() == 0;
        Ok(is_silent.then(SourceBatch::empty))
    }

    /// The end of a run with `--once`: what came is on disk before it is said that something did not.
    async fn end(&self) -> Result<Option<SourceBatch>> {
        let Some(refused) = self.rounds.refused() else { return Ok(None) };
        while !self.inbox.is_empty() {
            sleep(LOOK_AT_LOGGED).await;
        }
        Err(StageError::fatal(refused))
    }
}

#[async_trait]
impl Reader for PollReader {
    async fn next(&mut self, _until: Option<&Position>) -> Result<Option<SourceBatch>> {
        loop {
            if self.once && self.inbox.waiting() == 0 && self.rounds.is_over() {
                return self.end().await;
            }
            let (number, outcome) = tokio::select! {
                biased;
                batch = self.inbox.next(&self.partition) => return Ok(Some(batch)),
                answered = self.rounds.next() => answered,
            };
            if let Some(batch) = self.take(number, outcome)? {
                return Ok(Some(batch));
            }
        }
    }

    fn position(&self) -> Position {
        let began = self.rounds.began().map(|began| began.to_rfc3339());
        Position { offset: self.inbox.position(), detail: began.or_else(|| self.last_round.clone()) }
    }

    /// Rows that were not given, and requests that are due and have no answer.
    fn lag(&self) -> Option<u64> {
        Some(self.inbox.waiting() + self.rounds.n_failing())
    }
}
