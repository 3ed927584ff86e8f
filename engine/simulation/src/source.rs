//! The simulated source: a topic with partitions, of which some are slow, some have gaps, and one is empty.

use std::sync::Arc;

use arrow::array::BinaryArray;
use async_trait::async_trait;
use pipeline_stage::{
    Assignment, Partition, Position, RawRows, Reader, Result, Source, SourceBatch, SourceContext, SourceOptions,
    SourceOutput, SourceRows, StageError, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::input::{InputRow, number_of_task, partition};
use crate::process::{Process, current};
use crate::weather::{Fate, Kind};
use crate::world::{State, World};

/// Reads the simulated topic.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    gives: Gives,
}

/// How often a row can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Gives {
    /// Until somebody says that it is never read again.
    Again,
    /// Until somebody says that it is logged: then it is gone.
    Once,
}

impl StageOptions for StreamOptions {
    const NAME: &'static str = "stream";
    const EXAMPLE: &'static str =
        "readings:\n  type: stream\n  gives: again\n  format: json\n  schema:\n    value: float\n";
}

impl SourceOptions for StreamOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        Ok(Box::new(Stream { gives: self.gives, process: current().ok(), once: context.stage.once, has_begun: false }))
    }
}

struct Stream {
    gives: Gives,
    process: Option<Arc<Process>>,
    once: bool,
    has_begun: bool,
}

impl Stream {
    fn process(&self) -> Result<&Arc<Process>> {
        self.process.as_ref().ok_or_else(|| StageError::fatal("the source was only planned"))
    }
}

fn number(partition: &Partition) -> Result<u32> {
    number_of_task(&partition.name).ok_or_else(|| StageError::fatal(format!("there is no partition `{partition}`")))
}

#[async_trait]
impl Source for Stream {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    fn is_replayable(&self) -> bool {
        self.gives == Gives::Again
    }

    fn has_partitions(&self) -> bool {
        true
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        let process = self.process()?.clone();
        loop {
            process.running().await;
            let news = process.news.notified();
            // Taken and given in one step: a call that is dropped loses nothing.
            let next = match self.has_begun {
                true => process.world.state().group.next(process.number),
                false => process.world.state().group.begin(process.number),
            };
            if let Some(next) = next {
                self.has_begun = true;
                process.world.note(|| format!("{}: is told {next:?}", process.number));
                return Ok(next);
            }
            news.await;
        }
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let process = self.process()?.clone();
        let (number, from) = (number(partition)?, from.map(|from| from.offset));
        let world = process.world.clone();
        let who = format!("open {partition} at {from:?}");
        let start = process.call(Kind::Source, &who, |state| match from {
            Some(from) => {
                let kept = state.streams.forgotten.get(&number).copied().unwrap_or(0);
                if from < kept {
                    return Err(StageError::fatal(format!("offset {from} is gone: the topic begins at {kept}")));
                }
                Ok(from)
            }
            None => Ok(latest(&world, state, number)),
        });
        let start = start.await?;
        Ok(Box::new(StreamReader { process, number, position: start, due: None, once: self.once }))
    }

    async fn logged(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        if self.gives == Gives::Again {
            return Ok(());
        }
        let number = number(partition)?;
        let (task, offset) = (partition.name.to_string(), through.offset);
        let who = format!("acknowledge {partition} before {offset}");
        self.process()?
            .call(Kind::Source, &who, |state| {
                let logged = state.store.logged_position(&task);
                if logged.is_none_or(|logged| logged < offset) {
                    state.fail(format!(
                        "task {task}: rows before {offset} are acknowledged, but the log on the disk ends at {logged:?}"
                    ));
                }
                let forgotten = state.streams.forgotten.entry(number).or_default();
                *forgotten = offset.max(*forgotten);
                state.count("rows acknowledged");
                Ok(())
            })
            .await
    }

    async fn forget(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        let number = number(partition)?;
        let (task, offset) = (partition.name.to_string(), through.offset);
        let who = format!("forget {partition} before {offset}");
        self.process()?.call(Kind::Source, &who, |state| {
            let held = state.store.durable_position(&task);
            if held.is_none_or(|held| held < offset) {
                state.fail(format!("task {task}: the source may forget rows before {offset}, but the durable checkpoint is at {held:?}"));
            }
            let forgotten = state.streams.forgotten.entry(number).or_default();
            *forgotten = offset.max(*forgotten);
            state.count("rows forgotten");
            Ok(())
        }).await
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        let process = self.process()?;
        let who = format!("release {partition}");
        let released = |state: &mut State| Ok(state.group.released(partition, process.number));
        let to = process.call(Kind::Source, &who, released).await?;
        process.world.tell(to);
        Ok(())
    }
}

/// Where reading begins when nobody knows a position: later each time, as time goes on.
fn latest(world: &World, state: &mut State, number: u32) -> u64 {
    if let Some(starts) = &state.streams.fixed_starts {
        return starts[number as usize];
    }
    let rows = &world.input.partitions[number as usize];
    let opened = state.streams.opened_anew.entry(number).or_default();
    let row = (*opened as usize * 4).min(rows.len() / 2);
    *opened += 1;
    rows.get(row).map_or(0, |row| row.offset)
}

struct StreamReader {
    process: Arc<Process>,
    number: u32,
    position: u64,
    /// When the next rows are there: kept when a call is dropped, so that waiting is not begun anew.
    due: Option<(u64, u64, usize, Fate)>,
    once: bool,
}

impl StreamReader {
    fn rows(&self) -> &[InputRow] {
        let rows = &self.process.world.input.partitions[self.number as usize];
        &rows[rows.partition_point(|row| row.offset < self.position)..]
    }

    fn draw(&self) -> (u64, u64, usize, Fate) {
        let mut random = self.process.draw(&format!("read {}", self.number));
        let (fate, latency) = self.process.world.fate(Kind::Source, &mut random);
        let weather = self.process.world.state().weather.clone();
        let factor = if self.number == 0 { weather.slow_factor } else { 1 };
        let stall = if random.once_in(60) { 400 } else { 0 };
        let at = self.process.world.driver.now() + latency * factor + stall;
        (at, random.bits(), 1 + random.below(7), fate)
    }

    fn batch(&self, rows: &[InputRow]) -> SourceBatch {
        let payloads = rows.iter().map(|row| row.payload.as_slice()).collect();
        let raw = RawRows {
            payloads: BinaryArray::from_vec(payloads),
            keys: None,
            times: None,
            header: None,
            topic: "topic".into(),
            partition: self.number,
        };
        SourceBatch { rows: SourceRows::Raw(raw), offsets: rows.iter().map(|row| row.offset).collect() }
    }
}

#[async_trait]
impl Reader for StreamReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        self.process.running().await;
        let until = until.map_or(u64::MAX, |until| until.offset);
        if self.rows().first().is_none_or(|row| until <= row.offset) {
            if until == u64::MAX && !self.once {
                std::future::pending::<()>().await;
            }
            return Ok(None);
        }
        let due = self.due.unwrap_or_else(|| self.draw());
        self.due = Some(due);
        let (at, draw, most, fate) = due;
        self.process.world.driver.turn(at, draw).await;
        self.process.running().await;
        self.due = None;
        if fate == Fate::Fails {
            return Err(StageError::transient("the source is down"));
        }
        let rows: Vec<InputRow> = self.rows().iter().take_while(|row| row.offset < until).take(most).cloned().collect();
        self.position = rows.last().map_or(self.position, |row| row.offset + 1);
        let (name, position) = (partition(self.number), self.position);
        self.process.world.note(|| format!("{}: {} rows of {name}, up to {position}", self.process.number, rows.len()));
        self.process.world.state().mix(self.process.world.driver.now(), "read", position);
        Ok(Some(self.batch(&rows)))
    }

    fn position(&self) -> Position {
        Position::at(self.position)
    }
}
