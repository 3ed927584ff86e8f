use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use pipeline_stage::{Origins, Rows};
use pipeline_testkit::LogLines;

use super::*;

/// What a commit does.
#[derive(Clone, Copy)]
enum Step {
    /// Writes nothing.
    Fails,
    /// Writes, but the answer is lost; meanwhile another owner has taken this task.
    LosesAnswer { taken: &'static str },
    /// Refuses the first of the two rows of the task; waits for a commit that has both.
    Refuses(&'static str),
}

/// Keeps marks like a database; does what is next in the script, and after that what it is told.
#[derive(Default)]
struct Scripted {
    steps: VecDeque<Step>,
    marks: Arc<Mutex<HashMap<String, Mark>>>,
    /// The task of each epoch that was written.
    written: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Sink for Scripted {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        match self.marks.lock().unwrap().get(&owner.task) {
            None => Ok(Claim::New),
            Some(mark) if owner.generation < mark.generation => Err(StageError::lost("somebody else owns the task")),
            Some(mark) => Ok(Claim::At(mark.clone())),
        }
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        match self.steps.front().copied() {
            Some(Step::Fails) => {
                self.steps.pop_front();
                return Err(StageError::transient("the disk is full"));
            }
            Some(Step::Refuses(task)) => {
                let has_all = |epoch: &EpochRows| epoch.mark.task == task && epoch.len() == 2;
                if let Some(epoch) = epochs.iter().position(has_all) {
                    self.steps.pop_front();
                    return Ok(Commit::Refused(vec![Refused { epoch, batch: 0, row: 0, why: "no".into() }]));
                }
            }
            Some(Step::LosesAnswer { .. }) | None => {}
        }
        let mut marks = self.marks.lock().unwrap();
        let is_lost = |epoch: &EpochRows| {
            let of_sink = marks.get(&epoch.mark.task);
            of_sink.is_some_and(|mark| epoch.mark.generation < mark.generation || epoch.mark.epoch <= mark.epoch)
        };
        if epochs.iter().any(is_lost) {
            return Err(StageError::lost("somebody else owns the task"));
        }
        for epoch in epochs {
            marks.insert(epoch.mark.task.clone(), epoch.mark.clone());
            self.written.lock().unwrap().push(epoch.mark.task.clone());
        }
        match self.steps.front() {
            Some(Step::LosesAnswer { taken }) => {
                take(&mut marks, taken);
                self.steps.pop_front();
                Err(StageError::transient("the answer was lost"))
            }
            _ => Ok(Commit::Done(Vec::new())),
        }
    }
}

fn take(marks: &mut HashMap<String, Mark>, task: &str) {
    marks.insert(task.into(), Mark { generation: 9, ..mark(task) });
}

struct NoGraves;

#[async_trait]
impl Bury for NoGraves {
    async fn bury(&self, _: &str, _: u64, _: &[RefusedRow]) -> Result<()> {
        Ok(())
    }
}

fn mark(task: &str) -> Mark {
    Mark {
        pipeline: "test".into(),
        sink: "history".into(),
        task: task.into(),
        state_id: "s".into(),
        generation: 1,
        epoch: 1,
        positions: "{}".into(),
        detail: None,
    }
}

/// An epoch of two rows.
fn epoch(task: &str) -> EpochRows {
    let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
    let rows = Rows { batch, origins: Origins::new("readings/0".into(), Arc::from([1, 2])) };
    EpochRows { mark: mark(task), rows: vec![rows] }
}

/// A worker of two tasks, `a` and `b`, and what it writes.
async fn worker(steps: impl IntoIterator<Item = Step>) -> Scene {
    let sink = Scripted { steps: steps.into_iter().collect(), ..Scripted::default() };
    let (marks, written) = (sink.marks.clone(), sink.written.clone());
    let worker = SinkWorker::start("history", Box::new(sink), Box::new(NoGraves));
    for task in ["a", "b"] {
        let owner = Owner {
            pipeline: "test".into(),
            sink: "history".into(),
            task: task.into(),
            state_id: "s".into(),
            generation: 1,
            stored: None,
            takes_over: false,
        };
        worker.claim(owner).await.unwrap();
    }
    Scene { worker, marks, written }
}

struct Scene {
    worker: SinkWorker,
    marks: Arc<Mutex<HashMap<String, Mark>>>,
    written: Arc<Mutex<Vec<String>>>,
}

#[tokio::test]
async fn a_task_that_was_taken_over_takes_no_other_along() {
    let Scene { worker, written, .. } = worker([Step::LosesAnswer { taken: "b" }]).await;
    let (a, b) = tokio::join!(worker.commit(epoch("a")), worker.commit(epoch("b")));
    assert_eq!(a.unwrap().mark, mark("a"), "it is there, though the answer was lost");
    let error = b.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::TakenOver, "history: somebody else owns the task")
    );
    assert_eq!(*written.lock().unwrap(), ["a", "b"], "both in one commit, which was not repeated");
}

#[tokio::test]
async fn a_row_that_is_refused_again_is_counted_once() {
    let Scene { worker, marks, written } = worker([Step::Refuses("a"), Step::Refuses("a")]).await;
    take(&mut marks.lock().unwrap(), "b");
    let (a, b) = tokio::join!(worker.commit(epoch("a")), worker.commit(epoch("b")));
    let refused: Vec<u64> = a.unwrap().refused.iter().map(|row| row.offset).collect();
    assert_eq!(refused, [1], "once with `b`, and again alone");
    assert_eq!(b.unwrap_err().kind(), ErrorKind::TakenOver);
    assert_eq!(*written.lock().unwrap(), ["a"]);
}

#[tokio::test]
async fn a_sink_that_can_be_claimed_but_not_written_to_is_down_until_it_is_written_to() {
    let log = LogLines::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let Scene { worker, .. } = worker([Step::Fails, Step::Fails, Step::Fails]).await;
    worker.commit(epoch("a")).await.unwrap();
    let down = "history: the disk is full; trying again until it works, reading pauses when 2 epochs wait";
    assert_eq!(log.take(), [down, "history: back after 0 s; nothing was lost"]);
}

#[tokio::test]
async fn a_refusal_of_rows_that_are_not_there_ends_in_words() {
    struct Confused;
    #[async_trait]
    impl Sink for Confused {
        fn delivery(&self) -> Delivery {
            Delivery::Transactional
        }
        async fn claim(&mut self, _: &Owner) -> Result<Claim> {
            Ok(Claim::New)
        }
        async fn commit(&mut self, _: &[EpochRows]) -> Result<Commit> {
            Ok(Commit::Refused(vec![Refused { epoch: 0, batch: 0, row: 2, why: "no".into() }]))
        }
    }
    let worker = SinkWorker::start("history", Box::new(Confused), Box::new(NoGraves));
    let error = worker.commit(epoch("a")).await.unwrap_err();
    let words = "history: it has refused a commit without naming a row of it";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, words));
}
