//! All trials of a stage, by its kind: what `pipeline plugin test` runs.

use std::future::Future;
use std::path::Path;

use pipeline_stage::{Kind, StageType};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::broken::{Broken, guarded};
use crate::changed::options_may_change;
use crate::hostile::{dictionaries_are_refused, hostile_batches, survives, unused_columns_do_not_matter};
use crate::laws::{Effort, Evidence, a_crash_does_not_matter, batching_does_not_matter};
use crate::readings::readings;
use crate::same::gives_the_same_as;
use crate::sinks::{SinkSubject, a_mark_says_what_is_there, an_earlier_owner_is_shut_out, refused_rows_come_back};
use crate::sources::{
    SourceSubject, a_read_given_up_loses_nothing, it_goes_on_where_it_was_left, the_same_is_read_twice, until_is_obeyed,
};
use crate::subject::Subject;

/// Enough that the windows of the readings' busy series are full, few enough for seconds.
const ROWS: usize = 3_000;

/// One thing that is tried.
pub struct Trial<'a> {
    /// What holds when it goes well, in words.
    pub name: String,
    run: Box<dyn FnOnce() -> Result<String, Broken> + 'a>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnOnce() -> Result<String, Broken> + 'a) -> Self {
        Trial { name: name.into(), run: Box::new(run) }
    }

    /// Runs it. Gives what was tried, in words.
    ///
    /// # Errors
    /// When a law is broken.
    pub fn run(self) -> Result<String, Broken> {
        guarded(|| Ok((self.run)()))??
    }
}

/// What is to be tried.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// A stage of any kind.
    pub stage: &'a StageType,
    /// Its options.
    pub options: &'a Value,
    /// A transform or detector that must give the same for the same options.
    pub like: Option<&'a StageType>,
    /// Where relative paths in options of sources and sinks start.
    pub directory: &'a Path,
    /// How hard.
    pub effort: Effort,
}

/// The trials of a stage. Those of sources and sinks connect to what their options name.
pub fn trials<'a>(asked: &Asked<'a>) -> Vec<Trial<'a>> {
    let Asked { stage, options, like, directory, effort } = *asked;
    match stage.kind {
        Kind::Transform | Kind::Detector => of_transform(Subject { stage, options }, like, effort),
        Kind::Source => of_source(SourceSubject { stage, options, directory }),
        Kind::Sink => of_sink(SinkSubject { stage, options, directory }),
        Kind::Format => Vec::new(),
    }
}

fn of_transform<'a>(subject: Subject<'a>, like: Option<&'a StageType>, effort: Effort) -> Vec<Trial<'a>> {
    let rows = || readings(3, ROWS);
    let mut trials = vec![
        Trial::new("batching does not matter", move || {
            let Evidence { rows_out, batches, .. } = batching_does_not_matter(subject, &rows(), effort)?;
            Ok(format!("{rows_out} rows out, {batches} batches"))
        }),
        Trial::new("a crash does not matter", move || {
            let Evidence { resumed, resumed_with_state, .. } = a_crash_does_not_matter(subject, &rows(), effort)?;
            Ok(format!("built anew {resumed} times, {resumed_with_state} times with state"))
        }),
        Trial::new("options may change", move || options_may_change(subject, effort)),
    ];
    for hostile in hostile_batches() {
        trials.push(Trial::new(hostile.name, move || survives(subject, &hostile)));
    }
    trials.push(Trial::new("other columns do not matter", move || unused_columns_do_not_matter(subject)));
    trials.push(Trial::new("text in dictionaries", move || dictionaries_are_refused(subject)));
    if let Some(like) = like {
        trials.push(Trial::new(format!("the same bytes as {}.{}", like.kind.name(), like.name), move || {
            let same = gives_the_same_as(subject, Subject { stage: like, options: subject.options }, &rows())?;
            Ok(format!("{same} rows compared"))
        }));
    }
    trials
}

fn of_source(subject: SourceSubject<'_>) -> Vec<Trial<'_>> {
    vec![
        Trial::new("the same is read twice", move || wait(the_same_is_read_twice(subject))),
        Trial::new("`until` is obeyed", move || wait(until_is_obeyed(subject))),
        Trial::new("it goes on where it was left", move || wait(it_goes_on_where_it_was_left(subject))),
        Trial::new("a read given up loses nothing", move || wait(a_read_given_up_loses_nothing(subject))),
    ]
}

fn of_sink(subject: SinkSubject<'_>) -> Vec<Trial<'_>> {
    vec![
        Trial::new("a mark says what is there", move || wait(a_mark_says_what_is_there(subject))),
        Trial::new("an earlier owner is shut out", move || wait(an_earlier_owner_is_shut_out(subject))),
        Trial::new("refused rows come back", move || wait(refused_rows_come_back(subject))),
    ]
}

/// Runs what waits, on a runtime of its own as the engine has one.
fn wait(trial: impl Future<Output = Result<String, Broken>>) -> Result<String, Broken> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Broken::new(format!("there is no thread to run it: {error}")))?;
    let outcome = runtime.block_on(trial);
    // A source may have threads that wait for the network.
    runtime.shutdown_background();
    outcome
}
