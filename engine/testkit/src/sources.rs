//! The laws of sources: what was read can be read again, from where it was left, and nothing is lost.
//!
//! Rows that were never read before may differ from start to start (a simulator dates them from the present); rows
//! that are read again, up to a known end, may not.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use pipeline_stage::{
    Assignment, Framing, Make, Partition, Position, Reader, Result, Role, Source, SourceContext, StageError, StageType,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::broken::{Broken, guarded};
use crate::random::Random;
use crate::readings::stage_context;
use crate::source_rows::{Row, difference, rows_of};

/// Enough for several batches, few enough for a slow source.
const ROWS: usize = 500;
/// So that there are positions between them.
const BATCHES: usize = 3;
/// A broker needs seconds to hand out partitions.
const FIRST_ROW_WITHIN: Duration = Duration::from_secs(30);
/// A source that has given rows and then is silent for this long has no more for now.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// How long rows are waited for in all.
const READ_FOR: Duration = Duration::from_secs(10);
/// More tell nothing new.
const MAX_CANCELLED: usize = 200;

/// A source with its options.
#[derive(Clone, Copy)]
pub struct SourceSubject<'a> {
    /// What is tested.
    pub stage: &'a StageType,
    /// Its options.
    pub options: &'a Value,
    /// Where relative paths start.
    pub directory: &'a Path,
}

/// What was read, and every position on the way: one more than there were batches.
struct Recording {
    partition: Partition,
    rows: Vec<Row>,
    positions: Vec<Position>,
    cancelled: usize,
}

impl SourceSubject<'_> {
    fn build(&self) -> Result<Box<dyn Source>, Broken> {
        let StageType { name, kind, make, .. } = self.stage;
        let Make::Source(make) = make else {
            return Err(Broken::new(format!("{name} is a {}, these laws are of sources", kind.name())));
        };
        let mut stage = stage_context();
        stage.directory = self.directory.into();
        let context = SourceContext { stage, framing: Some(Framing::Lines), role: Role::Leader };
        let built = guarded(|| make(self.options.clone(), context))?;
        built.map_err(|error| Broken::new(format!("it cannot be built: {}", error.chain())))
    }

    /// Its first partition, and a reader of it. The source must live as long as the reader.
    async fn open(&self, from: Option<&Position>) -> Result<(Box<dyn Source>, Partition, Box<dyn Reader>), Broken> {
        let mut source = self.build()?;
        let gained = within(FIRST_ROW_WITHIN, "`assignment`", source.assignment()).await?;
        let Assignment::Gained(partitions) = gained else {
            return Err(Broken::new(format!("its first assignment is {gained:?}, it must be `Gained`")));
        };
        let Some(partition) = partitions.into_iter().next() else {
            return Err(Broken::new("its first assignment has gained no partition"));
        };
        let reader = within(FIRST_ROW_WITHIN, "`open`", source.open(&partition, from)).await?;
        Ok((source, partition, reader))
    }

    /// Reads from the start, as a pipeline does that never ran; `cancels` gives up some of the calls.
    async fn record(&self, mut cancels: Option<Random>) -> Result<Recording, Broken> {
        let (source, partition, mut reader) = self.open(None).await?;
        let started = Instant::now();
        let mut recording = Recording { partition, rows: Vec::new(), positions: vec![reader.position()], cancelled: 0 };
        while recording.is_small() && started.elapsed() < READ_FOR {
            let may_cancel = recording.cancelled < MAX_CANCELLED;
            let (patience, is_cancelled) = match cancels.as_mut().filter(|_| may_cancel) {
                Some(random) => (patience(random), true),
                None if recording.rows.is_empty() => (FIRST_ROW_WITHIN, false),
                None => (SILENT_AFTER, false),
            };
            match timeout(patience, reader.next(None)).await {
                Ok(batch) => {
                    if !recording.add(batch?, &*reader)? {
                        break;
                    }
                }
                Err(_) if is_cancelled => recording.cancelled += 1,
                Err(_) => break,
            }
        }
        drop((reader, source));
        match recording.rows.is_empty() {
            true => Err(Broken::new("it gave no rows, so that nothing could be tried")),
            false => Ok(recording),
        }
    }

    /// Reads again what lies between two positions.
    async fn replay(&self, from: &Position, until: &Position) -> Result<Vec<Row>, Broken> {
        let (source, _, mut reader) = self.open(Some(from)).await?;
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let batch =
                within(FIRST_ROW_WITHIN, "`next` with rows that were read before", reader.next(Some(until))).await?;
            let Some(batch) = batch else { break };
            rows.extend(rows_of(&batch)?);
            if let Some(row) = rows.iter().find(|row| until.offset <= row.offset) {
                let (offset, until) = (row.offset, until.offset);
                return Err(Broken::new(format!("a row at {offset} was given, it must be below `until`, {until}")));
            }
        }
        if reader.position().offset != until.offset {
            let found = reader.position().offset;
            return Err(Broken::new(format!(
                "the position after `until` was reached is {found}, it must be {}",
                until.offset
            )));
        }
        drop((reader, source));
        Ok(rows)
    }
}

impl Recording {
    /// Takes what `next` gave; false when the stream is over.
    fn add(&mut self, batch: Option<pipeline_stage::SourceBatch>, reader: &dyn Reader) -> Result<bool, Broken> {
        let Some(batch) = batch else { return Ok(false) };
        let rows = rows_of(&batch)?;
        let before = self.positions.last().map_or(0, |position| position.offset);
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(true) };
        if first.offset < before {
            let first = first.offset;
            return Err(Broken::new(format!(
                "a row at {first} was given, the position before it was {before} already"
            )));
        }
        let position = reader.position();
        if position.offset <= last.offset {
            let (found, last) = (position.offset, last.offset);
            return Err(Broken::new(format!("the position after a row at {last} is {found}, it must be behind it")));
        }
        self.rows.extend(rows);
        self.positions.push(position);
        Ok(true)
    }

    fn is_small(&self) -> bool {
        self.rows.len() < ROWS || self.positions.len() <= BATCHES
    }

    fn start(&self) -> &Position {
        &self.positions[0]
    }

    fn end(&self) -> &Position {
        self.positions.last().unwrap_or(&self.positions[0])
    }

    /// Positions that reading may stop at and go on from: those that the reader has named, and between two rows of
    /// one batch, where the source has nothing to say but the offset.
    fn places(&self) -> Vec<Position> {
        let mut places = Vec::new();
        for pair in self.positions.windows(2) {
            let middle = self.rows.iter().filter(|row| pair[0].offset < row.offset && row.offset < pair[1].offset);
            let middle: Vec<u64> = middle.map(|row| row.offset).collect();
            if pair[0].detail == pair[1].detail && !middle.is_empty() {
                places.push(Position { offset: middle[middle.len() / 2], detail: pair[0].detail.clone() });
            }
            places.push(pair[1].clone());
        }
        // A few of them, from all over.
        let step = places.len().div_ceil(4).max(1);
        places.into_iter().step_by(step).collect()
    }

    fn between(&self, from: &Position, until: &Position) -> Vec<Row> {
        let is_between = |row: &&Row| from.offset <= row.offset && row.offset < until.offset;
        self.rows.iter().filter(is_between).cloned().collect()
    }
}

/// How long a call is waited for: half of them are given up as soon as they have to wait at all.
fn patience(random: &mut Random) -> Duration {
    match random.once_in(2) {
        true => Duration::ZERO,
        false => Duration::from_micros(random.below(3_000) as u64),
    }
}

/// The same rows and offsets are read again. Gives what was tried, in words; so do the others.
///
/// # Errors
/// With the first difference.
pub async fn the_same_is_read_twice(subject: SourceSubject<'_>) -> Result<String, Broken> {
    let first = subject.record(None).await?;
    if !subject.build()?.is_replayable() {
        return Ok(format!("{} rows; it says that they cannot be read again", first.rows.len()));
    }
    for _ in 0..2 {
        let again = subject.replay(first.start(), first.end()).await?;
        expect_same(&again, &first.rows, "read again")?;
    }
    Ok(format!(
        "{} rows of partition `{}`, in {} batches",
        first.rows.len(),
        first.partition,
        first.positions.len() - 1
    ))
}

/// Nothing beyond `until` is given, and all before it.
///
/// # Errors
/// With the first difference.
pub async fn until_is_obeyed(subject: SourceSubject<'_>) -> Result<String, Broken> {
    if !subject.build()?.is_replayable() {
        return Ok("its rows cannot be read again".into());
    }
    let all = subject.record(None).await?;
    let places = all.places();
    for until in &places {
        let found = subject.replay(all.start(), until).await?;
        expect_same(&found, &all.between(all.start(), until), &format!("until {}", until.offset))?;
    }
    Ok(format!("{} ends", places.len()))
}

/// Closed and opened at a position it goes on there, with no row twice and none lost.
///
/// # Errors
/// With the first difference.
pub async fn it_goes_on_where_it_was_left(subject: SourceSubject<'_>) -> Result<String, Broken> {
    if !subject.build()?.is_replayable() {
        return Ok("its rows cannot be read again".into());
    }
    let all = subject.record(None).await?;
    let places = all.places();
    for from in &places {
        let found = subject.replay(from, all.end()).await?;
        expect_same(&found, &all.between(from, all.end()), &format!("from {}", from.offset))?;
    }
    Ok(format!("{} starts", places.len()))
}

/// Calls of `next` that were given up lose nothing: what they had read is given by the next one.
///
/// # Errors
/// With the first difference.
pub async fn a_read_given_up_loses_nothing(subject: SourceSubject<'_>) -> Result<String, Broken> {
    let live = subject.record(Some(Random::new(1))).await?;
    let words = match live.cancelled {
        0 => "its rows never had to be waited for".to_owned(),
        n => format!("{n} reads given up, {} rows", live.rows.len()),
    };
    if !subject.build()?.is_replayable() {
        return Ok(format!("{words}; they cannot be read again, and so not be compared"));
    }
    let again = subject.replay(live.start(), live.end()).await?;
    expect_same(&live.rows, &again, "while reads were given up")?;
    Ok(words)
}

fn expect_same(found: &[Row], expected: &[Row], when: &str) -> Result<(), Broken> {
    difference(found, expected).map_or(Ok(()), |difference| Err(Broken::new(format!("{when}: {difference}"))))
}

/// Waits for a call of a source, but not for ever.
async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, StageError>>,
) -> Result<T, Broken> {
    match timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Broken::new(format!("{what} has not come back for {} s", limit.as_secs()))),
    }
}
