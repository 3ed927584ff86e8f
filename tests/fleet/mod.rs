//! Several processes of one pipeline: the same Kafka group, the same state in PostgreSQL.

mod compare;
mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipeline_services::{Finished, Group, Kafka, PipelineRun, RunningPipeline, eventually};

use crate::production::{Production, pipeline, repository};
pub use watch::Watch;

/// The shortest that a broker allows by default: a process that is gone is missed after so long.
pub const SESSION: Duration = Duration::from_secs(6);
/// In the time between the end of a session and the first epoch of the next owner the group agrees, state is read, and
/// epochs are computed again.
pub const TAKES_OVER_WITHIN: Duration = Duration::from_secs(5);
/// More than anything here takes.
pub const LONG: Duration = Duration::from_secs(120);

/// Processes of one pipeline, by name.
pub struct Fleet {
    pub production: Production,
    pub n_partitions: i32,
    pub members: BTreeMap<&'static str, Member>,
}

/// The place of one process, which may end and be started again.
#[derive(Default)]
pub struct Member {
    pub running: Option<RunningPipeline>,
    /// Stopped by SIGSTOP.
    pub is_paused: bool,
    /// What became of the processes before.
    pub ended: Vec<Finished>,
}

impl Fleet {
    /// No process runs yet; the topic is there.
    pub async fn new(n_partitions: i32) -> Self {
        Fleet { production: Production::start(n_partitions).await, n_partitions, members: BTreeMap::new() }
    }

    /// Starts a process, under a name that the group and the state store know it by.
    pub fn start(&mut self, name: &'static str) {
        self.start_in(&self.production.topic.clone(), name);
    }

    /// Starts a process in a group.
    pub fn start_in(&mut self, group: &str, name: &'static str) {
        let client =
            format!("sources.readings.client={{ session.timeout.ms: {}, client.id: {name} }}", SESSION.as_millis());
        // A database of tests has a URL without parameters.
        let state = format!("{}?application_name={name}", self.production.database.url());
        let every = ["--set", "commit_every=200ms", "--set", "checkpoint_every=1s"];
        let run = self.production.run(&["--set", &client, "--set", "sources.readings.group=${GROUP}"]).args(every);
        let member = self.members.entry(name).or_default();
        assert!(member.running.is_none(), "`{name}` runs already");
        member.running = Some(run.env("STATE", state).env("GROUP", group).start());
    }

    /// SIGKILL.
    pub async fn kill(&mut self, name: &str) {
        let member = self.member(name);
        let killed = member.running.take().expect("it runs").kill().await;
        member.is_paused = false;
        member.ended.push(killed);
    }

    /// SIGSTOP.
    pub fn pause(&mut self, name: &str) {
        let member = self.member(name);
        member.running.as_ref().expect("it runs").pause();
        member.is_paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self, name: &str) {
        let member = self.member(name);
        member.running.as_ref().expect("it runs").resume();
        member.is_paused = false;
    }

    /// SIGINT, and the end that it asks for.
    pub async fn stop(&mut self, name: &str) -> Finished {
        let running = self.member(name).running.take().expect("it runs");
        running.interrupt();
        let finished = running.wait_with_timeout(LONG).await;
        finished.assert_code(0);
        self.member(name).ended.push(finished.clone());
        finished
    }

    /// The place of a process, which is started if it does not run.
    pub fn restarted(&mut self, name: &'static str) -> &mut Member {
        if self.member(name).running.is_none() {
            self.start(name);
        }
        self.member(name)
    }

    /// The place of a process.
    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).expect("it was started")
    }

    /// Panics, showing the output, if a process has ended that nobody has ended.
    pub fn assert_that_none_has_ended(&mut self) {
        for (name, member) in &mut self.members {
            if let Some(running) = &mut member.running {
                assert!(member.is_paused || running.is_running(), "`{name}` has ended\n{}", running.stderr());
            }
        }
    }

    /// Waits until so many rows are there, and all alerts are delivered.
    pub async fn until_all_is_done(&mut self, n_rows: u64) {
        let rows = "SELECT count(*) FROM sensor_data";
        let waiting = "SELECT count(*) FROM pipeline_state_outbox WHERE delivered_at IS NULL";
        eventually(LONG, "all rows and alerts", async || {
            self.assert_that_none_has_ended();
            let database = &self.production.database;
            n_rows as i64 <= database.count(rows).await && database.count(waiting).await == 0
        })
        .await;
    }

    /// What all processes have logged, in the order of time.
    fn diary(&self) -> String {
        let mut lines = Vec::new();
        for (name, member) in &self.members {
            let running = member.running.iter().map(RunningPipeline::stderr);
            for text in member.ended.iter().map(|ended| ended.stderr.clone()).chain(running) {
                let logged = text.lines().filter(|line| line.contains("Z  INFO ") || line.contains("Z  WARN "));
                lines.extend(logged.map(|line| format!("{name}: {line}")));
            }
        }
        lines.sort_by(|one, other| one[3..].cmp(&other[3..]));
        lines.join("\n")
    }

    /// The group, as its coordinator sees it.
    pub async fn group(&self) -> Group {
        let topic = &self.production.topic;
        Kafka::shared().await.group(topic, topic).await
    }

    /// The group once no partition is on its way and these members have all of them.
    pub async fn settled(&self, names: &[&str]) -> Group {
        let start = Instant::now();
        loop {
            let group = self.group().await;
            let has_all = group.members.values().map(Vec::len).sum::<usize>() == self.n_partitions as usize;
            let are_these = names.iter().all(|name| group.members.get(*name).is_some_and(|owned| !owned.is_empty()));
            if group.state == "Stable" && has_all && are_these && group.members.len() == names.len() {
                return group;
            }
            assert!(start.elapsed() < LONG, "the group does not settle on {names:?}: {group:?}");
        }
    }

    /// Writes so many rows of 334 sensors, with three series each, at so many a second; ends by itself.
    pub fn load(&self, rows: u64, rate: u64) -> RunningPipeline {
        let rate = format!("{rate} per second");
        self.simulator(rows).env("RATE", rate).start()
    }

    fn simulator(&self, rows: u64) -> PipelineRun {
        let state = self.production.folder.path().join("load");
        let sets = [
            // Two pipelines of one name would shut each other out of their transactions.
            format!("name=load_{}", self.production.topic),
            format!("sinks.topic.topic={}", self.production.topic),
            format!("sources.sensors.count={rows}"),
            "sources.sensors.sensors=334".to_owned(),
            "sources.sensors.anomaly_share=0.01".to_owned(),
        ];
        let run = pipeline().args(["run"]).args([repository().join("pipelines/simulator.yaml")]).args(["--once"]);
        let run = sets.iter().fold(run, |run, set| run.args(["--set", set]));
        run.env("KAFKA_BROKERS", &self.production.brokers).env("STATE", state)
    }
}

impl Drop for Fleet {
    /// Whoever looks for the reason of a failure needs to see what all of them did.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.diary());
        }
    }
}
