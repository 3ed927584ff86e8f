//! Sinks in Python: of whole epochs, and of single rows from an outbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_ipc::writer::StreamWriter;
use pipeline_blocking::{BlockingOutbox, BlockingSink};
use pipeline_stage::{
    Alert, BuiltSink, Claim, Commit, Delivery, EpochRows, ErrorKind, Mark, Owner, Pace, Refused, Result, SinkContext,
    StageError, WhenFull,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::columns::refuse_dictionaries;
use crate::frame::{Frame, header};
use crate::plugin::Launch;
use crate::revived::Revived;
use crate::source::problems;
use crate::stage_type::build_header;

/// What a sink says about itself when it is built.
#[derive(Deserialize)]
struct Built {
    delivery: String,
    /// It keeps marks of its own.
    #[serde(default)]
    has_claim: bool,
    #[serde(default)]
    at_most_every: f64,
    #[serde(default)]
    timeout: f64,
    #[serde(default)]
    max_pending: u64,
    #[serde(default)]
    when_full: WhenFull,
}

/// Lets a process make a sink.
pub fn build_sink(launch: &Arc<Launch>, stage: &str, options: Value, context: &SinkContext) -> Result<BuiltSink> {
    refuse_dictionaries(&context.schema)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &context.schema)?;
    let schema = std::mem::take(writer.get_mut());
    let build = build_header("sink", stage, options, &context.stage);
    let (process, answer) = Revived::start(launch, &context.stage.id, build, vec![schema])?;
    let built: Built = serde_json::from_value(Value::Object(answer.header))
        .map_err(|error| StageError::config("the sink has not said what it promises").because(error))?;
    let delivery = match built.delivery.as_str() {
        "outbox" => {
            let outbox = PythonOutbox { process, pace: pace(&built)? };
            return Ok(BuiltSink::Outbox(pipeline_blocking::outbox(&context.stage.id, Box::new(outbox))));
        }
        "transactional" => Delivery::Transactional,
        "truncating" => Delivery::Truncating,
        "at_least_once" => Delivery::AtLeastOnce,
        other => {
            let words = "it must be `transactional`, `truncating` or `at_least_once`";
            return Err(StageError::config(format!("`delivery` of the sink is `{other}`, {words}")));
        }
    };
    let sink = PythonSink { process, delivery, writer, has_claim: built.has_claim, claimed: HashMap::new() };
    Ok(BuiltSink::Epochs(pipeline_blocking::sink(&context.stage.id, Box::new(sink))))
}

fn pace(built: &Built) -> Result<Pace> {
    let seconds = |what: &str, seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| StageError::config(format!("`{what}` of the outbox is {seconds}, it must be seconds")))
    };
    Ok(Pace {
        at_most_every: seconds("at_most_every", built.at_most_every)?,
        timeout: seconds("timeout", built.timeout)?,
        max_pending: built.max_pending.max(1),
        when_full: built.when_full,
    })
}

/// Asks. A process that ends meanwhile leaves the same question as a connection that breaks, so that the engine claims
/// again.
fn ask(process: &mut Revived, question: Map<String, Value>, bodies: &[&[u8]]) -> Result<Frame> {
    let answer = process.call(question, bodies);
    answer.map_err(|error| match process.has_ended() && error.kind() == ErrorKind::Lost {
        true => StageError::transient(error.chain()),
        false => error,
    })
}

struct PythonSink {
    process: Revived,
    delivery: Delivery,
    writer: StreamWriter<Vec<u8>>,
    has_claim: bool,
    /// Which process has claimed each task.
    claimed: HashMap<String, u64>,
}

impl BlockingSink for PythonSink {
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn check(&mut self) -> Vec<StageError> {
        problems(&mut self.process)
    }

    fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let claim = match (self.has_claim, self.delivery) {
            (false, _) => owner.stored_claim()?,
            (true, Delivery::Transactional) => self.own_mark(owner)?,
            (true, _) => {
                let claim = owner.stored_claim()?;
                self.own_mark(owner)?;
                claim
            }
        };
        self.claimed.insert(owner.task.clone(), self.process.life());
        Ok(claim)
    }

    fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        let life = self.process.life();
        let is_claimed = |epoch: &EpochRows| self.claimed.get(&epoch.mark.task).is_some_and(|of| *of == life);
        if self.has_claim && !epochs.iter().all(is_claimed) {
            return Err(StageError::transient("the Python process that has claimed it has ended"));
        }
        let (mut bodies, mut described) = (Vec::new(), Vec::new());
        for epoch in epochs {
            described.push(json!({"mark": epoch.mark, "n_batches": epoch.rows.len()}));
            for (batch, _) in epoch.batches() {
                self.writer.write(batch)?;
                bodies.push(std::mem::take(self.writer.get_mut()));
            }
        }
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let question = header("commit", json!({"epochs": described}));
        let answer = ask(&mut self.process, question, &bodies)?;
        let list =
            |name: &str| answer.header.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let refused: Vec<Refused> = list("refused").iter().map(|row| refused(row, epochs)).collect::<Result<_>>()?;
        if !refused.is_empty() {
            return Ok(Commit::Refused(refused));
        }
        let details: Vec<Option<String>> = list("details").iter().map(|text| text.as_str().map(Into::into)).collect();
        match details.is_empty() || details.len() == epochs.len() {
            true => Ok(Commit::Done(details)),
            false => {
                let (found, wanted) = (details.len(), epochs.len());
                Err(StageError::fatal(format!("`commit` gave {found} details for {wanted} epochs")))
            }
        }
    }
}

impl PythonSink {
    /// What the sink's own mark says.
    fn own_mark(&mut self, owner: &Owner) -> Result<Claim> {
        let question = json!({
            "pipeline": owner.pipeline, "sink": owner.sink, "task": owner.task, "state_id": owner.state_id,
            "generation": owner.generation, "stored": owner.stored, "takes_over": owner.takes_over,
        });
        let question = header("claim", json!({"owner": question}));
        let answer = ask(&mut self.process, question, &[])?;
        match answer.header.get("mark") {
            None | Some(Value::Null) => Ok(Claim::New),
            Some(mark) => {
                let mark: Result<Mark, _> = serde_json::from_value(mark.clone());
                mark.map(Claim::At)
                    .map_err(|error| StageError::fatal("`claim` gave a mark that is none").because(error))
            }
        }
    }
}

fn refused(row: &Value, epochs: &[EpochRows]) -> Result<Refused> {
    let number = |idx: usize| row.get(idx).and_then(Value::as_u64).map(|number| number as usize);
    let found = || {
        let (epoch, batch, row_idx) = (number(0)?, number(1)?, number(2)?);
        let why = row.get(3).and_then(Value::as_str).unwrap_or("the sink refused it without words");
        let n_rows = epochs.get(epoch)?.rows.get(batch)?.batch.num_rows();
        (row_idx < n_rows).then(|| Refused { epoch, batch, row: row_idx, why: why.into() })
    };
    found().ok_or_else(|| StageError::fatal(format!("the sink refused the row {row}, which it was not given")))
}

struct PythonOutbox {
    process: Revived,
    pace: Pace,
}

impl BlockingOutbox for PythonOutbox {
    fn pace(&self) -> Pace {
        self.pace
    }

    fn check(&mut self) -> Vec<StageError> {
        problems(&mut self.process)
    }

    fn deliver(&mut self, alert: &Alert) -> Result<()> {
        let question = header("deliver", json!({"id": alert.id, "row": alert.row, "digest_of": alert.digest_of}));
        ask(&mut self.process, question, &[]).map(drop)
    }
}
