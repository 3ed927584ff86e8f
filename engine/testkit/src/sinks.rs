//! The laws of sinks: who claims a task writes it alone, and a mark says what is there.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use pipeline_stage::{
    Alert, BuiltSink, Claim, Commit, Delivery, EpochRows, ErrorKind, MAX_BATCH_ROWS, Make, Mark, Origins, Owner,
    Refused, Rows, Sink, SinkContext, StageType, row_to_json,
};
use serde_json::Value;

use crate::broken::{Broken, guarded, says_why};
use crate::readings::{scored_schema, stage_context};
use crate::sink_rows::{hostile_rows, scored, without};

/// A sink with its options.
#[derive(Clone, Copy)]
pub struct SinkSubject<'a> {
    /// What is tested.
    pub stage: &'a StageType,
    /// Its options.
    pub options: &'a Value,
    /// Where relative paths start.
    pub directory: &'a Path,
}

/// A life of a task's state: no two trials share marks.
struct Life {
    pipeline: String,
    delivery: Delivery,
}

impl SinkSubject<'_> {
    fn build(&self) -> Result<BuiltSink, Broken> {
        let StageType { name, kind, make, .. } = self.stage;
        let Make::Sink(make) = make else {
            return Err(Broken::new(format!("{name} is a {}, these laws are of sinks", kind.name())));
        };
        let mut stage = stage_context();
        stage.directory = self.directory.into();
        let context = SinkContext { stage, schema: scored_schema(), detector: None };
        let built = guarded(|| make(self.options.clone(), context))?;
        built.map_err(|error| Broken::new(format!("it cannot be built: {}", error.chain())))
    }

    /// As after a restart.
    fn start(&self) -> Result<Box<dyn Sink>, Broken> {
        match self.build()? {
            BuiltSink::Epochs(sink) => Ok(sink),
            BuiltSink::Outbox(_) => Err(Broken::new("it delivers single rows from an outbox")),
        }
    }

    /// Why the laws of epochs are not for it; none when they are.
    fn is_outbox(&self) -> Result<bool, Broken> {
        Ok(matches!(self.build()?, BuiltSink::Outbox(_)))
    }

    fn life(&self) -> Result<Life, Broken> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Life { pipeline: format!("trial_{}", since.as_nanos()), delivery: self.start()?.delivery() })
    }
}

impl Life {
    fn owner(&self, generation: u64, stored: Option<&Mark>) -> Owner {
        // A transactional sink has to know its mark by itself.
        let stored = stored.filter(|_| self.delivery != Delivery::Transactional).cloned();
        Owner {
            pipeline: self.pipeline.clone(),
            sink: "sink".into(),
            task: "0".into(),
            state_id: "0123456789abcdef".into(),
            generation,
            stored,
            takes_over: false,
        }
    }

    fn epoch(&self, generation: u64, epoch: u64, rows: &[RecordBatch]) -> EpochRows {
        let mark = Mark {
            pipeline: self.pipeline.clone(),
            sink: "sink".into(),
            task: "0".into(),
            state_id: "0123456789abcdef".into(),
            generation,
            epoch,
            positions: format!("{{\"readings\":{epoch}}}"),
            detail: None,
        };
        let with_origins = |batch: &RecordBatch| {
            let offsets: Arc<[u64]> = (0..batch.num_rows() as u64).map(|row| epoch * 100_000 + row).collect();
            Rows { batch: batch.clone(), origins: Origins::new("readings/0".into(), offsets) }
        };
        EpochRows { mark, rows: rows.iter().map(with_origins).collect() }
    }

    fn is_kept(&self) -> bool {
        self.delivery != Delivery::AtLeastOnce
    }
}

/// Whole epochs are taken, and after each the mark says so: a start after a crash finds it. Gives what was tried, in
/// words; so do the others.
///
/// # Errors
/// With what was found and what it must be.
pub async fn a_mark_says_what_is_there(subject: SinkSubject<'_>) -> Result<String, Broken> {
    if subject.is_outbox()? {
        return an_alert_is_delivered(subject).await;
    }
    let life = subject.life()?;
    let mut sink = subject.start()?;
    expect_new(sink.claim(&life.owner(1, None)).await?)?;
    let epochs = [
        life.epoch(1, 1, &[scored(5, 1)]),
        life.epoch(1, 2, &[]),
        life.epoch(1, 3, &[scored(3, 2), scored(MAX_BATCH_ROWS, 3)]),
    ];
    let marks = commit(&mut *sink, &epochs).await?;
    let mut again = subject.start()?;
    let claim = again.claim(&life.owner(2, marks.last())).await?;
    expect_at(claim, marks.last(), &life)?;
    let next = life.epoch(2, 4, &[scored(2, 4)]);
    let marks = commit(&mut *again, std::slice::from_ref(&next)).await?;
    // Nothing but the process was lost: the engine claims again after every error that may pass.
    let claim = again.claim(&life.owner(2, marks.last())).await?;
    expect_at(claim, marks.last(), &life)?;
    Ok(format!("{:?}, 4 epochs, {} rows", life.delivery, 5 + 3 + MAX_BATCH_ROWS + 2))
}

/// Who was overtaken writes nothing any more.
///
/// # Errors
/// With what was found and what it must be.
pub async fn an_earlier_owner_is_shut_out(subject: SinkSubject<'_>) -> Result<String, Broken> {
    if subject.is_outbox()? {
        return Ok("the engine's outbox sees to it".into());
    }
    let life = subject.life()?;
    if !life.is_kept() {
        return Ok("it promises no more than at least once".into());
    }
    let (mut earlier, mut later) = (subject.start()?, subject.start()?);
    expect_new(earlier.claim(&life.owner(1, None)).await?)?;
    let first = commit(&mut *earlier, &[life.epoch(1, 1, &[scored(4, 1)])]).await?;
    expect_at(later.claim(&life.owner(2, first.last())).await?, first.last(), &life)?;
    if life.delivery == Delivery::Transactional {
        let refused = earlier.commit(&[life.epoch(1, 2, &[scored(4, 2)])]).await;
        expect_lost(refused.map(|_| ()), "a commit of an earlier owner")?;
    }
    let second = commit(&mut *later, &[life.epoch(2, 2, &[scored(4, 2)])]).await?;
    let mut late = subject.start()?;
    expect_lost(late.claim(&life.owner(1, second.last())).await.map(|_| ()), "a claim of an earlier owner")?;
    if life.delivery == Delivery::Transactional {
        let twice = later.commit(&[life.epoch(2, 2, &[scored(4, 2)])]).await;
        expect_lost(twice.map(|_| ()), "an epoch that the mark has already")?;
        expect_at(subject.start()?.claim(&life.owner(3, None)).await?, second.last(), &life)?;
    }
    Ok("a lower generation is refused".into())
}

/// Rows that can never be taken come back in words, and nothing was written then; or they are taken.
///
/// # Errors
/// With what was found and what it must be.
pub async fn refused_rows_come_back(subject: SinkSubject<'_>) -> Result<String, Broken> {
    if subject.is_outbox()? {
        return Ok("the engine's outbox sees to it".into());
    }
    let life = subject.life()?;
    let mut sink = subject.start()?;
    expect_new(sink.claim(&life.owner(1, None)).await?)?;
    let mut last = commit(&mut *sink, &[life.epoch(1, 1, &[scored(3, 1)])]).await?.pop();
    let (mut refused_rows, mut number) = (0, 1);
    for batch in hostile_rows() {
        number += 1;
        let epoch = life.epoch(1, number, &[scored(2, number), batch.clone()]);
        let refused = match sink.commit(std::slice::from_ref(&epoch)).await? {
            Commit::Done(details) => {
                last = marks_of(std::slice::from_ref(&epoch), details)?.pop();
                continue;
            }
            Commit::Refused(refused) => refused,
        };
        check_refused(&refused, &epoch)?;
        refused_rows += refused.len();
        if life.is_kept() {
            let claim = sink.claim(&life.owner(1, last.as_ref())).await?;
            expect_at(claim, last.as_ref(), &life).map_err(|broken| broken.about("after rows were refused"))?;
        }
        let without = life.epoch(1, number, &[scored(2, number), without(&batch, &refused)]);
        last = commit(&mut *sink, &[without]).await.map_err(|broken| broken.about("without the refused rows"))?.pop();
    }
    Ok(format!("{refused_rows} rows of {} hostile batches", number - 1))
}

/// Its pace can be kept, and it takes an alert or says in words why not now. Where its options lead is its user's choice.
async fn an_alert_is_delivered(subject: SinkSubject<'_>) -> Result<String, Broken> {
    let BuiltSink::Outbox(mut sink) = subject.build()? else { return Err(Broken::new("it changed its form")) };
    let pace = guarded(|| Ok(sink.pace()))??;
    if pace.timeout.is_zero() || pace.max_pending == 0 {
        return Err(Broken::new(format!("its pace is {pace:?}: `timeout` and `max_pending` must be above 0")));
    }
    let rows = scored(1, 1);
    let alert = Alert { id: "0000-0000-0000-0000".into(), row: row_to_json(&rows, 0), digest_of: None };
    let delivered = tokio::time::timeout(pace.timeout, sink.deliver(&alert)).await;
    let words = match delivered {
        Ok(Ok(())) => "it took an alert".to_owned(),
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::Transient | ErrorKind::Data) => {
            format!("it did not take an alert: {}", error.chain())
        }
        Ok(Err(error)) => return Err(Broken::new(error.chain()).about("when an alert was delivered")),
        Err(_) => return Err(Broken::new("an alert took longer than its `timeout`")),
    };
    Ok(format!("delivers single rows from the engine's outbox; {words}"))
}

async fn commit(sink: &mut dyn Sink, epochs: &[EpochRows]) -> Result<Vec<Mark>, Broken> {
    match sink.commit(epochs).await? {
        Commit::Done(details) => marks_of(epochs, details),
        Commit::Refused(refused) => {
            let why = refused.first().map_or("without saying which", |refused| refused.why.as_str());
            Err(Broken::new(format!("it refused ordinary rows: {why}")))
        }
    }
}

/// The marks as the engine keeps them: with what the sink wants to know after a restart.
fn marks_of(epochs: &[EpochRows], details: Vec<Option<String>>) -> Result<Vec<Mark>, Broken> {
    if !details.is_empty() && details.len() != epochs.len() {
        return Err(Broken::new(format!("it gave {} details for {} epochs", details.len(), epochs.len())));
    }
    let mut details = details.into_iter();
    let marks = epochs.iter().map(|epoch| Mark { detail: details.next().flatten(), ..epoch.mark.clone() });
    Ok(marks.collect())
}

fn expect_new(claim: Claim) -> Result<(), Broken> {
    match claim {
        Claim::New => Ok(()),
        Claim::At(mark) => {
            Err(Broken::new(format!("a first claim found the mark of epoch {}, it must find none", mark.epoch)))
        }
    }
}

fn expect_at(claim: Claim, expected: Option<&Mark>, life: &Life) -> Result<(), Broken> {
    let Some(expected) = expected else { return expect_new(claim) };
    let found = match claim {
        Claim::At(found) => found,
        // The engine passes no mark to a sink that makes no promise.
        Claim::New if !life.is_kept() => return Ok(()),
        Claim::New => {
            return Err(Broken::new(format!("the claim found no mark, it must find that of epoch {}", expected.epoch)));
        }
    };
    let of = |mark: &Mark| (mark.epoch, mark.state_id.clone(), mark.task.clone(), mark.pipeline.clone());
    if of(&found) != of(expected) {
        return Err(Broken::new(format!("the claim found {found:?}, it must find {expected:?}")));
    }
    Ok(())
}

fn expect_lost(outcome: pipeline_stage::Result<()>, what: &str) -> Result<(), Broken> {
    match outcome {
        Ok(()) => Err(Broken::new(format!("{what} was taken, it must be refused as `Lost`"))),
        Err(error) if error.kind() == ErrorKind::Lost => says_why(&error),
        Err(error) => Err(Broken::new(format!(
            "{what} is refused with an error of kind {:?}, it must be `Lost`: {}",
            error.kind(),
            error.chain()
        ))),
    }
}

fn check_refused(refused: &[Refused], epoch: &EpochRows) -> Result<(), Broken> {
    if refused.is_empty() {
        return Err(Broken::new("it refused the commit, but no row"));
    }
    for row in refused {
        let rows = epoch.rows.get(row.batch).filter(|_| row.epoch == 0).map_or(0, |rows| rows.batch.num_rows());
        if rows <= row.row {
            return Err(Broken::new(format!("it refused a row that there is not: {row:?}")));
        }
        if row.why.trim().is_empty() {
            return Err(Broken::new(format!("it refused a row without words: {row:?}")));
        }
    }
    Ok(())
}
