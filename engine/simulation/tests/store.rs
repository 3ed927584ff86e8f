//! The simulated store answers as the real one: the same calls on both, and the same answers.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::sync::Arc;
use std::time::Duration;

use pipeline_runtime::store::{
    Append, Checkpoint, DeadLetter, EpochEntry, Judge, Judged, NewAlert, NewEvidence, Segment, StageChanges, StageOf,
    StateStore, StoredRow, open,
};
use pipeline_simulation::on_simulated_store;
use pipeline_stage::{Alert, Mark, Position, Result, Timestamp, encode};
use pipeline_testkit::Random;

const CALLS: usize = 400;
/// Epochs of the test are two of them apart, so that evidence becomes too old.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// Calls a store at random and writes down what it answers.
struct Caller {
    store: Arc<dyn StateStore>,
    random: Random,
    /// Of each of two tasks: generation, last epoch, last epoch of a checkpoint.
    tasks: [(u64, u64, u64); 2],
    /// State ids in the order they were first seen: they are random.
    ids: Vec<String>,
    answers: Vec<String>,
}

impl Caller {
    fn new(store: Arc<dyn StateStore>, seed: u64) -> Self {
        Caller { store, random: Random::new(seed), tasks: [(0, 0, 0); 2], ids: Vec::new(), answers: Vec::new() }
    }

    async fn call_all(mut self) -> Vec<String> {
        for _ in 0..CALLS {
            self.call().await;
        }
        self.answers
    }

    fn answer<T: std::fmt::Debug>(&mut self, call: &str, answer: Result<T>) -> Option<T> {
        // The words may differ, what the engine does next may not.
        let mut words = match &answer {
            Ok(value) => format!("{call}: {value:?}"),
            Err(error) => format!("{call}: {:?}", error.kind()),
        };
        for (number, id) in self.ids.iter().enumerate() {
            words = words.replace(id, &format!("id {number}"));
        }
        self.answers.push(words);
        answer.ok()
    }

    async fn call(&mut self) {
        let store = self.store.clone();
        let at = self.random.below(2);
        let task = ["a", "b"][at];
        let (current, epoch, _) = self.tasks[at];
        let generation = if self.random.once_in(6) { current.saturating_sub(1) } else { current };
        match self.random.below(22) {
            0 => {
                let claimed = store.claim(task).await.unwrap();
                self.tasks[at].0 = claimed.generation;
                self.know(&claimed.state_id);
                self.answer("claim", Ok(claimed));
            }
            1 if self.random.once_in(4) => {
                let new = store.begin_anew(task, generation, Some(epoch)).await;
                new.iter().for_each(|id| self.know(id));
                self.answer("begin_anew", new.map(drop));
            }
            2..8 => self.append(at, generation).await,
            8 => {
                let mark = self.mark(task, generation);
                let stored = store.set_marks(&[mark]).await;
                self.answer("set_marks", stored);
            }
            9 | 10 => {
                // Part 0 is what `replace_state` writes: the engine writes no more into that checkpoint.
                let part = 1 + self.random.below(2) as u64;
                let changes = changes(epoch, part);
                let written = store.write_changes(task, generation, epoch, part, &changes).await;
                self.answer("write_changes", written);
            }
            11 | 12 => self.publish(at, generation).await,
            13 if self.random.once_in(4) => {
                let stage = ["x", "y"][self.random.below(2)];
                let checkpoint = Checkpoint { epoch, ..Checkpoint::default() };
                let changes = [([self.random.below(5) as u8], Some([7]))].into_iter().collect();
                let states = [StageChanges { stage: stage.into(), changes, is_whole: true }];
                let replaced = store.replace_state(task, generation, &checkpoint, &states).await;
                self.answer("replace_state", replaced);
            }
            13 => {
                for stage in ["x", "y"] {
                    let state = store.load(task, stage).await;
                    self.answer("load", state);
                }
            }
            14 => {
                let definition = format!("file {}", self.random.below(2));
                let sinks = store.set_sinks(task, generation, &["s".into()], &definition).await;
                self.answer("set_sinks", sinks);
                let pending = store.pending_definitions().await;
                self.answer("pending_definitions", pending);
                let is_owner = store.is_owner(task, generation).await;
                self.answer("is_owner", is_owner);
            }
            15 | 16 => {
                self.letters(task).await;
                let lines = store.evidence_lines().await;
                let lines = self.answer("evidence_lines", lines).unwrap();
                let any = lines.get(self.random.below(lines.len().max(1)));
                let evidence = store.evidence(any.map_or(1, |line| line.number)).await;
                self.answer("evidence", evidence);
            }
            17..20 => self.outbox().await,
            _ => {
                let holder = ["p", "q"][self.random.below(2)];
                let lease = store.lease("l", holder, Duration::from_secs(30)).await;
                self.answer("lease", lease);
                if self.random.once_in(3) {
                    let released = store.release("l", holder).await;
                    self.answer("release", released);
                }
            }
        }
    }

    fn know(&mut self, id: &str) {
        if !self.ids.iter().any(|known| known == id) {
            self.ids.push(id.to_owned());
        }
    }

    async fn append(&mut self, at: usize, generation: u64) {
        let next = if self.random.once_in(5) { self.tasks[at].1 } else { self.tasks[at].1 + 1 };
        let task = ["a", "b"][at].to_owned();
        let segments = vec![Segment { source: "r".into(), until: Position::at(next * 10), rows: 10, kept: Vec::new() }];
        let append = Append {
            generation,
            entry: EpochEntry {
                epoch: next,
                ended_at: Timestamp(next as i64 * 2 * DAY),
                segments,
                rows: 10,
                hash: 7,
                stored: Vec::new(),
            },
            dead_letters: (0..self.random.below(3)).map(|_| self.letter(&task)).collect(),
            replayed: if self.random.once_in(3) { vec![1 + self.random.below(9) as i64] } else { Vec::new() },
            alerts: (0..self.random.below(4)).map(|_| self.alert()).collect(),
            evidence: (0..self.random.below(3)).map(|_| self.evidence()).collect(),
            marks: if self.random.once_in(3) { vec![self.mark(&task, generation)] } else { Vec::new() },
            task,
        };
        let appended = self.store.append(&[append]).await;
        if self.answer("append", appended) == Some(vec![true]) {
            self.tasks[at].1 = next;
        }
    }

    async fn publish(&mut self, at: usize, generation: u64) {
        let (task, epoch) = (["a", "b"][at], self.tasks[at].1);
        let stages = if self.random.once_in(3) { &["x"][..] } else { &["x", "y"] };
        let checkpoint = Checkpoint {
            epoch,
            ended_at: Some(Timestamp(epoch as i64 * 2 * DAY)),
            stages: stages.iter().map(|stage| stage_of(stage)).collect(),
            ..Checkpoint::default()
        };
        let published = self.store.publish(task, generation, &checkpoint).await;
        if self.answer("publish", published).is_some() && self.random.once_in(2) {
            let whole: Vec<String> =
                ["x", "y"].into_iter().filter(|_| self.random.once_in(4)).map(String::from).collect();
            let dropped = self.store.drop_log(task, generation, &checkpoint, &whole).await;
            self.answer("drop_log", dropped);
        }
    }

    async fn letters(&mut self, task: &str) {
        let store = self.store.clone();
        let letters = [self.letter(task), self.letter(task)];
        let added = store.add_dead_letters(&letters).await;
        self.answer("add_dead_letters", added);
        let numbers = if self.random.once_in(2) { Vec::new() } else { vec![1 + self.random.below(9) as i64] };
        let asked = store.request_replay(&numbers).await;
        self.answer("request_replay", asked);
        let requested = store.replay_requests(task, self.random.below(4) as i64, 3).await;
        self.answer("replay_requests", requested);
        if self.random.once_in(3) {
            let refused = store.refuse_replay(&[(1 + self.random.below(9) as i64, "why".into())]).await;
            self.answer("refuse_replay", refused);
        }
        let tasks = store.tasks_to_replay().await;
        self.answer("tasks_to_replay", tasks);
        let all = store.dead_letters(0, 100).await;
        self.answer("dead_letters", all);
    }

    async fn outbox(&mut self) {
        let store = self.store.clone();
        let pending = store.pending("m", 4).await.unwrap();
        let first = pending.first().map(|first| (first.number, first.is_excess));
        self.answer("pending", Ok(pending));
        match first {
            Some((number, true)) => {
                let digest = store.digest("m", number).await;
                let digest = self.answer("digest", digest).flatten();
                if let Some(digest) = digest.filter(|_| self.random.once_in(2)) {
                    let noted = store.digest_delivered("m", digest.number, Timestamp(9)).await;
                    self.answer("digest_delivered", noted);
                }
            }
            Some((number, false)) if self.random.once_in(5) => {
                let letters = [(number, self.letter("a"))];
                let buried = store.undeliverable(&letters).await;
                self.answer("undeliverable", buried);
            }
            Some((number, false)) => {
                let noted = store.delivered(number, Timestamp(self.random.below(20) as i64)).await;
                self.answer("delivered", noted);
            }
            None => {}
        }
        if self.random.once_in(5) {
            let dropped = store.drop_delivered("m", Timestamp(10), 2).await;
            self.answer("drop_delivered", dropped);
        }
        let count = store.count_pending("m").await;
        self.answer("count_pending", count);
    }

    fn letter(&mut self, task: &str) -> DeadLetter {
        let row = StoredRow {
            stage: ["x", "y"][self.random.below(2)].into(),
            place: "r/0".into(),
            offset: self.random.below(12) as u64,
            ..StoredRow::default()
        };
        let epoch = self.random.below(9) as u64;
        DeadLetter { row, task: task.into(), epoch, reason: format!("reason {epoch}"), at: Timestamp(3) }
    }

    fn alert(&mut self) -> NewAlert {
        NewAlert {
            sink: "m".into(),
            alert: Alert { id: self.random.bits().to_string(), row: serde_json::Map::new(), digest_of: None },
            is_excess: self.random.once_in(2),
            place: "r/0".into(),
            offset: 4,
            branch: 2,
        }
    }

    fn evidence(&mut self) -> NewEvidence {
        let judge = Judge {
            of: "detector.z".into(),
            version: "1".into(),
            options: serde_json::Map::new(),
            secrets: Vec::new(),
            key: Vec::new(),
            columns: Vec::new(),
        };
        let mut judge_bytes = Vec::new();
        encode(&judge, &mut judge_bytes).unwrap();
        let offset = self.random.below(12) as u64;
        NewEvidence {
            stage: "x".into(),
            ids: vec![self.random.bits().to_string(), "other".into()],
            series: r#"{"sensor":"a\u0000b","n":7}"#.into(),
            row_at: offset.is_multiple_of(2).then_some(Timestamp(offset as i64)),
            judge: judge_bytes.into(),
            judged: Judged {
                place: "r/0".into(),
                offset,
                branch: u64::MAX,
                row: b"{}".to_vec().into(),
                key: vec![0, 255].into(),
                before: offset.is_multiple_of(3).then(|| vec![1].into()),
                why_not: (!offset.is_multiple_of(3)).then(|| "why".into()),
            },
        }
    }

    fn mark(&mut self, task: &str, generation: u64) -> Mark {
        Mark {
            pipeline: "p".into(),
            sink: ["f", "g"][self.random.below(2)].into(),
            task: task.into(),
            state_id: "s".into(),
            generation,
            epoch: 3,
            positions: "{}".into(),
            detail: Some(self.random.below(100).to_string()),
        }
    }
}

fn stage_of(id: &str) -> StageOf {
    StageOf { id: id.into(), of: "detector.z".into(), ..StageOf::default() }
}

/// A part that is written again is the same.
fn changes(epoch: u64, part: u64) -> StageChanges {
    let mut random = Random::new(epoch * 2 + part);
    let mut change = || {
        let value = if random.once_in(3) { None } else { Some([random.below(256) as u8]) };
        ([random.below(5) as u8], value)
    };
    let changes = [change(), change()].into_iter().collect();
    StageChanges { stage: ["x", "y"][random.below(2)].into(), changes, is_whole: false }
}

#[test]
fn the_simulated_store_answers_as_the_real_one() {
    for seed in 0..12 {
        let simulated = on_simulated_store(|store| Caller::new(store, seed).call_all());
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let real = runtime.block_on(async {
            let store = open(folder.path().to_str().unwrap(), "p").await.unwrap();
            Caller::new(store, seed).call_all().await
        });
        assert_eq!(simulated.len(), real.len());
        for (number, (simulated, real)) in simulated.iter().zip(&real).enumerate() {
            assert_eq!(simulated, real, "seed {seed}, answer {number}");
        }
    }
}
