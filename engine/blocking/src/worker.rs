//! A thread that owns something and does what it is asked, one thing at a time.

use std::sync::mpsc;
use std::thread;

use pipeline_stage::{Result, StageError};
use tokio::sync::oneshot;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The way to such a thread, which starts with the first job and ends when this is dropped and all jobs are done.
pub struct Worker<T> {
    name: String,
    state: State<T>,
}

enum State<T> {
    /// Nothing was asked yet.
    Idle(T),
    Running(mpsc::Sender<Job<T>>),
    /// The thread could not be started.
    Failed,
}

impl<T: Send + 'static> Worker<T> {
    /// The name is that of the thread, for people who look at the process.
    pub fn new(name: impl Into<String>, owned: T) -> Self {
        Worker { name: name.into(), state: State::Idle(owned) }
    }

    /// Lets the thread do something and waits for it. A wait that is cancelled leaves the thread to finish its job, but
    /// a job whose turn comes only afterwards is not begun: while a call hangs, others must not pile up behind it.
    pub async fn ask<R: Send + 'static>(&mut self, job: impl FnOnce(&mut T) -> R + Send + 'static) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |owned| {
            if !reply.is_closed() {
                // Nobody may be waiting any more.
                let _ = reply.send(job(owned));
            }
        }))?;
        answer.await.map_err(|_| gone())
    }

    /// Lets the thread do something without waiting for it.
    pub fn tell(&mut self, job: impl FnOnce(&mut T) + Send + 'static) -> Result<()> {
        self.send(Box::new(job))
    }

    fn send(&mut self, job: Job<T>) -> Result<()> {
        if let State::Idle(_) = self.state {
            self.start()?;
        }
        match &self.state {
            State::Running(jobs) => jobs.send(job).map_err(|_| gone()),
            _ => Err(gone()),
        }
    }

    fn start(&mut self) -> Result<()> {
        let State::Idle(mut owned) = std::mem::replace(&mut self.state, State::Failed) else { return Ok(()) };
        // Not bounded: an owner asks for one thing at a time.
        let (sender, jobs) = mpsc::channel::<Job<T>>();
        let thread = thread::Builder::new().name(self.name.clone()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                job(&mut owned);
            }
        });
        thread.map_err(|error| StageError::transient("no thread could be started").because(error))?;
        self.state = State::Running(sender);
        Ok(())
    }
}

/// A thread ends before its owner only when a call has panicked in it.
pub fn gone() -> StageError {
    StageError::fatal("a call has panicked, and its thread is gone")
}
