//! Each law of sources and sinks is broken here once.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use arrow::array::{Array, AsArray, BinaryArray};
use async_trait::async_trait;
use pipeline_stage::{
    Alert, Assignment, BuiltSink, Claim, Commit, Delivery, EpochRows, MAX_BATCH_ROWS, Mark, OutboxSink, Owner, Pace,
    Partition, Position, RawRows, Reader, Refused, Result, Sink, SinkContext, SinkOptions, Source, SourceBatch,
    SourceContext, SourceOptions, SourceOutput, SourceRows, StageError, StageOptions, StageType, WhenFull,
};
use pipeline_testkit::{Asked, Effort, trials};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

/// What each trial says: its name, and its words.
fn tried(stage: &StageType, options: &Value) -> BTreeMap<String, std::result::Result<String, String>> {
    let asked = Asked { stage, options, like: None, directory: Path::new("."), effort: Effort::Full };
    let trials = trials(&asked).into_iter();
    trials.map(|trial| (trial.name.clone(), trial.run().map_err(|broken| broken.to_string()))).collect()
}

/// Counts, in batches of ten; can be told to do it wrongly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountOptions {
    /// What is wrong with it.
    #[serde(default)]
    fault: SourceFault,
}

#[derive(Deserialize, JsonSchema, Default, PartialEq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum SourceFault {
    #[default]
    None,
    GivesOthersTheSecondTime,
    IgnoresUntil,
    StopsBeforeUntil,
    LosesTheFirstRowOfAStart,
    LosesWhatWasGivenUp,
    StandsStill,
    HasNoPartition,
    HasOffsetsThatFall,
    GivesNothing,
}

impl StageOptions for CountOptions {
    const NAME: &'static str = "count";
    const EXAMPLE: &'static str = "numbers:\n  type: count\n";
}

impl SourceOptions for CountOptions {
    fn build(self, _: SourceContext) -> Result<Box<dyn Source>> {
        Ok(Box::new(Count { fault: self.fault }))
    }
}

struct Count {
    fault: SourceFault,
}

/// How many readers there have been.
static OPENED: Mutex<u64> = Mutex::new(0);

#[async_trait]
impl Source for Count {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }
    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(Assignment::Gained(match self.fault {
            SourceFault::HasNoPartition => Vec::new(),
            _ => vec![Partition::numbered(0)],
        }))
    }
    async fn open(&mut self, _: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let mut next = from.map_or(0, |position| position.offset);
        if self.fault == SourceFault::LosesTheFirstRowOfAStart && from.is_some_and(|from| 0 < from.offset) {
            next += 1;
        }
        let mut opened = OPENED.lock().unwrap();
        *opened += 1;
        Ok(Box::new(CountReader { fault: self.fault, next, opened: *opened }))
    }
}

struct CountReader {
    fault: SourceFault,
    next: u64,
    opened: u64,
}

/// The rows of the whole stream.
const LAST: u64 = 120;

#[async_trait]
impl Reader for CountReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        if self.fault == SourceFault::GivesNothing {
            return Ok(None);
        }
        let until = until.map_or(LAST, |until| match self.fault {
            SourceFault::IgnoresUntil => LAST,
            SourceFault::StopsBeforeUntil => until.offset - 1,
            _ => until.offset,
        });
        let mut offsets: Vec<u64> = (self.next..until.min(self.next + 10)).collect();
        if offsets.is_empty() {
            return Ok(None);
        }
        if self.fault == SourceFault::LosesWhatWasGivenUp {
            self.next += offsets.len() as u64;
        }
        sleep(Duration::from_millis(2)).await;
        if self.fault != SourceFault::LosesWhatWasGivenUp {
            self.next += offsets.len() as u64;
        }
        let extra = if self.fault == SourceFault::GivesOthersTheSecondTime { self.opened } else { 0 };
        let texts: Vec<String> = offsets.iter().map(|offset| (offset + extra).to_string()).collect();
        let payloads = BinaryArray::from_iter_values(&texts);
        if self.fault == SourceFault::HasOffsetsThatFall {
            offsets.reverse();
        }
        let raw = RawRows { payloads, keys: None, times: None, header: None, topic: "count".into(), partition: 0 };
        Ok(Some(SourceBatch { rows: SourceRows::Raw(raw), offsets }))
    }

    fn position(&self) -> Position {
        match self.fault {
            SourceFault::StandsStill => Position::at(0),
            _ => Position::at(self.next),
        }
    }
}

#[test]
fn a_good_source_passes() {
    let tried = tried(&StageType::source::<CountOptions>(), &json!({}));
    assert_eq!(tried["the same is read twice"].as_deref(), Ok("120 rows of partition `0`, in 12 batches"));
    assert_eq!(tried["`until` is obeyed"].as_deref(), Ok("4 ends"));
    assert_eq!(tried["it goes on where it was left"].as_deref(), Ok("4 starts"));
    let given_up = tried["a read given up loses nothing"].as_deref().unwrap();
    let n: usize = given_up.split(' ').next().unwrap().parse().unwrap();
    assert!(2 < n && given_up.ends_with("reads given up, 120 rows"), "{given_up}");
}

#[test]
fn each_law_of_sources_can_be_broken() {
    for (fault, trial, words) in [
        ("gives_others_the_second_time", "the same is read twice", "read again: the row at 0 is `"),
        ("ignores_until", "`until` is obeyed", "it must be below `until`, "),
        ("stops_before_until", "`until` is obeyed", "the position after `until` was reached is "),
        ("loses_the_first_row_of_a_start", "it goes on where it was left", "was given, it must be the one at "),
        ("loses_what_was_given_up", "a read given up loses nothing", "while reads were given up: a row at "),
        ("stands_still", "the same is read twice", "the position after a row at 9 is 0, it must be behind it"),
        ("has_no_partition", "the same is read twice", "its first assignment has gained no partition"),
        ("has_offsets_that_fall", "the same is read twice", "offsets must rise, 8 comes after 9"),
        ("gives_nothing", "the same is read twice", "it gave no rows, so that nothing could be tried"),
    ] {
        let tried = tried(&StageType::source::<CountOptions>(), &json!({"fault": fault}));
        let broken = tried[trial].as_ref().unwrap_err();
        assert!(broken.contains(words), "{fault}: {broken}");
    }
}

/// Keeps rows in the process, for all who ask; can be told to do it wrongly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShelfOptions {
    /// What is wrong with it.
    #[serde(default)]
    fault: SinkFault,
}

#[derive(Deserialize, JsonSchema, Default, PartialEq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum SinkFault {
    #[default]
    None,
    ForgetsTheMark,
    TakesEarlierOwners,
    TakesEarlierClaims,
    TakesAnEpochTwice,
    WritesWhatItRefuses,
    RefusesWithoutWords,
    RefusesRowsThatThereAreNot,
    RefusesOrdinaryRows,
    GivesTooManyDetails,
    FindsAMarkAtFirst,
}

impl StageOptions for ShelfOptions {
    const NAME: &'static str = "shelf";
    const EXAMPLE: &'static str = "rows:\n  type: shelf\n  inputs: [readings]\n";
}

impl SinkOptions for ShelfOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Epochs(Box::new(Shelf { fault: self.fault })))
    }
}

struct Shelf {
    fault: SinkFault,
}

#[derive(Default)]
struct Kept {
    generation: u64,
    mark: Option<Mark>,
}

/// What a database would keep, by pipeline.
static SHELVES: LazyLock<Mutex<BTreeMap<String, Kept>>> = LazyLock::new(Mutex::default);

#[async_trait]
impl Sink for Shelf {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let mut shelves = SHELVES.lock().unwrap();
        let kept = shelves.entry(owner.pipeline.clone()).or_default();
        if owner.generation < kept.generation && self.fault != SinkFault::TakesEarlierClaims {
            return Err(StageError::lost("there is a later owner"));
        }
        kept.generation = owner.generation;
        let found = kept.mark.clone().filter(|_| self.fault != SinkFault::ForgetsTheMark);
        let always = Mark {
            pipeline: owner.pipeline.clone(),
            sink: owner.sink.clone(),
            task: owner.task.clone(),
            state_id: owner.state_id.clone(),
            generation: 1,
            epoch: 7,
            positions: String::new(),
            detail: None,
        };
        let found = found.or((self.fault == SinkFault::FindsAMarkAtFirst).then_some(always));
        Ok(found.map_or(Claim::New, Claim::At))
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let mut shelves = SHELVES.lock().unwrap();
        let kept = shelves.get_mut(&epochs[0].mark.pipeline).unwrap();
        for epoch in epochs {
            let is_mine = epoch.mark.generation == kept.generation || self.fault == SinkFault::TakesEarlierOwners;
            let is_there = kept.mark.as_ref().is_some_and(|mark| epoch.mark.epoch <= mark.epoch);
            if !is_mine || (is_there && self.fault != SinkFault::TakesAnEpochTwice) {
                return Err(StageError::lost("there is a later owner"));
            }
        }
        let refused = self.refused(epochs);
        if refused.is_empty() || self.fault == SinkFault::WritesWhatItRefuses {
            kept.mark = epochs.last().map(|epoch| epoch.mark.clone());
        }
        if !refused.is_empty() {
            return Ok(Commit::Refused(refused));
        }
        let n_details = if self.fault == SinkFault::GivesTooManyDetails { epochs.len() + 1 } else { 0 };
        Ok(Commit::Done(vec![None; n_details]))
    }
}

impl Shelf {
    /// It takes no NUL, as PostgreSQL.
    fn refused(&self, epochs: &[EpochRows]) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (number, epoch) in epochs.iter().enumerate() {
            for (batch, rows) in epoch.rows.iter().enumerate() {
                let names = rows.batch.column(0).as_string::<i32>();
                let is_wrong = |row: &usize| names.value(*row).contains('\0');
                let everything = self.fault == SinkFault::RefusesOrdinaryRows;
                for row in (0..names.len()).filter(|row| everything || is_wrong(row)) {
                    let why = if self.fault == SinkFault::RefusesWithoutWords { "" } else { "it has a NUL" };
                    let is_far = self.fault == SinkFault::RefusesRowsThatThereAreNot;
                    let row = if is_far { MAX_BATCH_ROWS } else { row };
                    refused.push(Refused { epoch: number, batch, row, why: why.into() });
                }
            }
        }
        refused
    }
}

#[test]
fn a_good_sink_passes() {
    let tried = tried(&StageType::sink::<ShelfOptions>(), &json!({}));
    assert_eq!(tried["a mark says what is there"].as_deref(), Ok("Transactional, 4 epochs, 8202 rows"));
    assert_eq!(tried["an earlier owner is shut out"].as_deref(), Ok("a lower generation is refused"));
    assert_eq!(tried["refused rows come back"].as_deref(), Ok("1 rows of 3 hostile batches"));
}

#[test]
fn each_law_of_sinks_can_be_broken() {
    for (fault, trial, words) in [
        ("forgets_the_mark", "a mark says what is there", "the claim found no mark, it must find that of epoch 3"),
        ("finds_a_mark_at_first", "a mark says what is there", "a first claim found the mark of epoch 7"),
        ("refuses_ordinary_rows", "a mark says what is there", "it refused ordinary rows: it has a NUL"),
        ("gives_too_many_details", "a mark says what is there", "it gave 4 details for 3 epochs"),
        ("takes_earlier_owners", "an earlier owner is shut out", "a commit of an earlier owner was taken"),
        ("takes_earlier_claims", "an earlier owner is shut out", "a claim of an earlier owner was taken"),
        ("takes_an_epoch_twice", "an earlier owner is shut out", "an epoch that the mark has already was taken"),
        ("writes_what_it_refuses", "refused rows come back", "after rows were refused: the claim found Mark"),
        ("refuses_without_words", "refused rows come back", "it refused a row without words"),
        ("refuses_rows_that_there_are_not", "refused rows come back", "it refused a row that there is not"),
    ] {
        let tried = tried(&StageType::sink::<ShelfOptions>(), &json!({"fault": fault}));
        let broken = tried[trial].as_ref().unwrap_err();
        assert!(broken.contains(words), "{fault}: {broken}");
    }
}

/// Delivers nothing, at a pace that is none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NobodyOptions {
    /// How many alerts may wait.
    max_pending: u64,
}

impl StageOptions for NobodyOptions {
    const NAME: &'static str = "nobody";
    const EXAMPLE: &'static str = "alerts:\n  type: nobody\n  inputs: [readings]\n  max_pending: 1\n";
}

impl SinkOptions for NobodyOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Outbox(Box::new(self)))
    }
}

#[async_trait]
impl OutboxSink for NobodyOptions {
    fn pace(&self) -> Pace {
        let (at_most_every, timeout) = (Duration::ZERO, Duration::from_secs(1));
        Pace { at_most_every, timeout, max_pending: self.max_pending, when_full: WhenFull::Wait }
    }
    async fn deliver(&mut self, _: &Alert) -> Result<()> {
        Ok(())
    }
}

#[test]
fn an_outbox_sink_must_have_a_pace_that_can_be_kept() {
    let stage = StageType::sink::<NobodyOptions>();
    let good = &tried(&stage, &json!({"max_pending": 5}))["a mark says what is there"];
    assert!(good.as_ref().unwrap().starts_with("delivers single rows"), "{good:?}");
    let bad = &tried(&stage, &json!({"max_pending": 0}))["a mark says what is there"];
    assert!(bad.as_ref().unwrap_err().contains("`timeout` and `max_pending` must be above 0"), "{bad:?}");
}
