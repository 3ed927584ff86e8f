//! Readers whose calls block.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pipeline_stage::{Position, Reader, Result, SourceBatch, StageError};
use tokio::sync::{mpsc as answers, oneshot};

use crate::source::{PAUSE, WAIT};
use crate::worker::gone;

/// A [`Reader`] whose calls block. A thread of its own makes them, at the same time as those of its source.
pub trait BlockingReader: Send + 'static {
    /// The next rows, never beyond `until`; without rows when there was none for `wait`, or the stream is over.
    fn read(&mut self, until: Option<&Position>, wait: Duration) -> Result<Read>;
}

/// What a read has found.
#[derive(Debug, Clone)]
pub struct Read {
    /// The rows, if there were any.
    pub rows: Option<SourceBatch>,
    /// After the rows.
    pub position: Position,
    /// See [`Reader::lag`].
    pub lag: Option<u64>,
    /// Nothing will come after these rows: the stream is over, or `until` is reached.
    pub is_over: bool,
}

/// Asks for a read up to a position, or without a limit.
type Request = Option<Position>;

/// A reader and its thread.
pub struct ThreadedReader {
    requests: mpsc::Sender<Request>,
    answers: answers::Receiver<Result<Read>>,
    /// What was asked for and not answered yet: a wait may be cut short and gone on with.
    asked: Option<Request>,
    position: Position,
    lag: Option<u64>,
    /// The last read gave rows and said that there are no more up to its limit.
    over_at: Option<Request>,
}

impl ThreadedReader {
    /// Starts the thread; the second value resolves once the reader is closed.
    pub fn start(
        name: String,
        mut reader: Box<dyn BlockingReader>,
        position: Position,
    ) -> Result<(Self, oneshot::Receiver<()>)> {
        let (requests, asked) = mpsc::channel::<Request>();
        // The engine asks for one thing at a time.
        let (sender, answers) = answers::channel(1);
        let (closed, closing) = oneshot::channel();
        let thread = thread::Builder::new().name(name).spawn(move || {
            serve(&mut *reader, &asked, &sender);
            drop(reader);
            let _ = closed.send(());
        });
        thread.map_err(|error| StageError::transient("no thread could be started").because(error))?;
        Ok((ThreadedReader { requests, answers, asked: None, position, lag: None, over_at: None }, closing))
    }

    /// The answer to what was asked, or is asked now.
    async fn answer(&mut self, until: Option<&Position>) -> Result<Read> {
        if self.asked.is_none() {
            self.requests.send(until.cloned()).map_err(|_| gone())?;
            self.asked = Some(until.cloned());
        }
        let answer = self.answers.recv().await.ok_or_else(gone)?;
        let asked = self.asked.take().flatten();
        if asked.as_ref() != until {
            return Err(StageError::fatal("a read was given up for one with another limit"));
        }
        answer
    }
}

/// Reads until the other side is gone.
fn serve(reader: &mut dyn BlockingReader, requests: &mpsc::Receiver<Request>, sender: &answers::Sender<Result<Read>>) {
    while let Ok(until) = requests.recv() {
        let answer = loop {
            let asked = Instant::now();
            match reader.read(until.as_ref(), WAIT) {
                Ok(read) if read.rows.is_none() && !read.is_over => {
                    if sender.is_closed() {
                        return;
                    }
                    // See `PAUSE`: of a reader that does not wait.
                    thread::sleep(PAUSE.saturating_sub(asked.elapsed()));
                }
                answer => break answer,
            }
        };
        if sender.blocking_send(answer).is_err() {
            return;
        }
    }
}

#[async_trait]
impl Reader for ThreadedReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        if self.over_at.as_ref().is_some_and(|limit| limit.as_ref() == until) {
            return Ok(None);
        }
        self.over_at = None;
        let read = self.answer(until).await?;
        self.position = read.position;
        self.lag = read.lag;
        if read.is_over {
            self.over_at = Some(until.cloned());
        }
        Ok(read.rows)
    }

    fn position(&self) -> Position {
        self.position.clone()
    }

    fn lag(&self) -> Option<u64> {
        self.lag
    }
}
