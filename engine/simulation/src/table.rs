//! A transactional sink: rows and mark in one step, as a database writes them.
//!
//! What a claim does with a mark is the code of the real sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, Mark, Owner, Refused, Result, Sink, SinkContext, SinkOptions,
    StageError, StageOptions, write_json_row,
};
use pipeline_tables::{Verdict, advances, judge, lost};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::bugs::{WorldBug, is_there};
use crate::process::{Process, current};
use crate::weather::Kind;
use crate::world::State;

/// Writes rows and mark in one step.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// Whether rows of the series `refused` can never be taken.
    #[serde(default)]
    pub refuses: bool,
}

impl StageOptions for TableOptions {
    const NAME: &'static str = "table";
    const EXAMPLE: &'static str = "history:\n  type: table\n  inputs: [readings]\n";
}

impl SinkOptions for TableOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Epochs(Box::new(TableSink { process: current().ok(), refuses: self.refuses })))
    }
}

/// What all transactional sinks hold.
#[derive(Debug, Default)]
pub struct Tables {
    /// By sink and task, in the order they were written.
    pub rows: BTreeMap<(String, String), Vec<TableRow>>,
    /// By sink and task.
    pub marks: BTreeMap<(String, String), Mark>,
}

/// A row in a table or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// The offset of the row it came from; of a made row, the epoch.
    pub offset: u64,
    /// The epoch it was committed in.
    pub epoch: u64,
    /// The version of the pipeline file that computed it; none when it has no such column.
    pub version: Option<i64>,
    /// Its other columns, as JSON.
    pub text: String,
}

struct TableSink {
    process: Option<Arc<Process>>,
    refuses: bool,
}

#[async_trait]
impl Sink for TableSink {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let process = process(&self.process)?;
        let who = format!("{} is claimed for {} by generation {}", owner.sink, owner.task, owner.generation);
        process.call(Kind::Sink, &who, |state| claim(state, owner)).await
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let process = process(&self.process)?;
        let who = format!("{}", Described(epochs));
        if is_there(WorldBug::MarkBeforeRows) && self.refused(epochs).is_empty() {
            process.call(Kind::Sink, &format!("{who}: marks"), |state| advance(state, epochs)).await?;
        }
        process.call(Kind::Sink, &who, |state| self.write(state, epochs)).await
    }
}

/// The process a sink runs in.
pub fn process(process: &Option<Arc<Process>>) -> Result<&Arc<Process>> {
    process.as_ref().ok_or_else(|| StageError::fatal("the sink was only planned"))
}

/// Epochs that are committed together, for the trace.
pub struct Described<'a>(pub &'a [EpochRows]);

impl std::fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sink = self.0.first().map_or("", |epoch| &epoch.mark.sink);
        let mut parts: Vec<String> = Vec::new();
        for epoch in self.0 {
            parts.push(format!("{}/{} ({} rows)", epoch.mark.task, epoch.mark.epoch, epoch.len()));
        }
        parts.sort();
        write!(f, "{sink} commits {}", parts.join(", "))
    }
}

fn place(mark: &Mark) -> (String, String) {
    (mark.sink.clone(), mark.task.clone())
}

fn claim(state: &mut State, owner: &Owner) -> Result<Claim> {
    let place = (owner.sink.clone(), owner.task.clone());
    let found = state.tables.marks.get(&place).cloned().unwrap_or_else(|| Mark {
        pipeline: owner.pipeline.clone(),
        sink: owner.sink.clone(),
        task: owner.task.clone(),
        state_id: owner.state_id.clone(),
        generation: owner.generation,
        epoch: 0,
        positions: "{}".into(),
        detail: None,
    });
    match judge(found.clone(), owner)? {
        Verdict::Take(claim) => {
            let mine = Mark { state_id: owner.state_id.clone(), generation: owner.generation, ..found };
            state.tables.marks.insert(place.clone(), mine);
            let claimed = state.record.sink_claims.entry(place).or_default();
            *claimed = owner.generation.max(*claimed);
            Ok(claim)
        }
        Verdict::Leave(claim) => Ok(claim),
    }
}

/// Moves the marks, if all of them are the writer's.
fn advance(state: &mut State, epochs: &[EpochRows]) -> Result<()> {
    for advance in advances(epochs) {
        let mark = advance.mark;
        let is_mine = state.tables.marks.get(&place(mark)).is_some_and(|found| {
            let is_owner = found.state_id == mark.state_id && found.generation == mark.generation;
            (is_owner || is_there(WorldBug::NoFenceInSink)) && found.epoch < advance.first_epoch
        });
        if !is_mine {
            state.count("fenced commits");
            return Err(lost(mark));
        }
    }
    for advance in advances(epochs) {
        state.tables.marks.insert(place(advance.mark), advance.mark.clone());
    }
    Ok(())
}

impl TableSink {
    fn write(&self, state: &mut State, epochs: &[EpochRows]) -> Result<Commit> {
        epochs.iter().for_each(|epoch| note_offer(state, epoch));
        let refused = self.refused(epochs);
        if !refused.is_empty() {
            state.count("refused commits");
            return Ok(Commit::Refused(refused));
        }
        if !is_there(WorldBug::MarkBeforeRows) {
            advance(state, epochs)?;
        }
        for epoch in epochs {
            check_owner(state, &epoch.mark);
            state.tables.rows.entry(place(&epoch.mark)).or_default().extend(rows_of(epoch));
        }
        Ok(Commit::Done(Vec::new()))
    }

    fn refused(&self, epochs: &[EpochRows]) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (epoch, rows) in epochs.iter().enumerate().filter(|_| self.refuses) {
            for (batch, (rows, _)) in rows.batches().enumerate() {
                let series = rows.column(0).as_string::<i32>();
                let bad = (0..rows.num_rows()).filter(|row| series.value(*row) == "refused");
                refused.extend(bad.map(|row| Refused { epoch, batch, row, why: "it is refused".into() }));
            }
        }
        refused
    }
}

/// A commit that is made must be of the newest owner, and of an epoch that is in the log for good.
pub fn check_owner(state: &mut State, mark: &Mark) {
    let (sink, task, epoch) = (&mark.sink, &mark.task, mark.epoch);
    let newest = state.record.sink_claims.get(&place(mark)).copied().unwrap_or(0);
    if mark.generation < newest {
        state.fail(format!(
            "`{sink}` took epoch {epoch} of task {task} from generation {}, though generation {newest} had claimed it",
            mark.generation
        ));
    }
    if !state.store.is_durable(task, epoch) {
        state.fail(format!("`{sink}` was given epoch {epoch} of task {task}, which is not in the log for good"));
    }
}

/// An epoch that is offered again must be the same. Rows of the refused series come only the first time.
pub fn note_offer(state: &mut State, epoch: &EpochRows) {
    let mark = &epoch.mark;
    let rows = rows_of(epoch).filter(|row| !row.text.contains(r#""series":"refused""#));
    let offered: Vec<String> = rows.map(|row| format!("{} {} {:?}", row.offset, row.text, row.version)).collect();
    let place = (mark.sink.clone(), mark.task.clone(), mark.epoch);
    let Some(before) = state.record.offers.insert(place, offered.clone()) else { return };
    if before == offered {
        return state.count("epochs offered again");
    }
    let first = before.iter().zip(&offered).position(|(one, other)| one != other);
    let first = first.unwrap_or(before.len().min(offered.len()));
    state.fail(format!(
        "epoch {} of task {} was offered to `{}` again with {} rows instead of {}; row {first} is {:?} instead of {:?}",
        mark.epoch,
        mark.task,
        mark.sink,
        offered.len(),
        before.len(),
        offered.get(first),
        before.get(first)
    ));
}

/// The rows of an epoch, as they are kept.
pub fn rows_of(epoch: &EpochRows) -> impl Iterator<Item = TableRow> {
    epoch.batches().flat_map(move |(batch, origins)| {
        let versions = batch.schema().index_of("version").ok();
        let others: Vec<usize> = (0..batch.num_columns()).filter(|column| Some(*column) != versions).collect();
        let plain = batch.project(&others).expect("the columns are there");
        let version = versions.map(|column| batch.column(column).as_primitive::<Int64Type>().clone());
        (0..batch.num_rows()).map(move |row| {
            let mut text = Vec::new();
            write_json_row(&plain, row, &mut text);
            TableRow {
                offset: origins.offsets[row],
                epoch: epoch.mark.epoch,
                version: version.as_ref().map(|version| version.value(row)),
                text: String::from_utf8_lossy(&text).into_owned(),
            }
        })
    })
}
