//! A process that was stopped and comes back after others have taken over: it writes nothing, and is of use again.

use std::collections::BTreeMap;
use std::time::Instant;

use pipeline_services::{Database, Kafka, RunningPipeline, eventually};
use sqlx::{Connection, Executor, PgConnection};

use crate::fleet::{Fleet, LONG, SESSION, TAKES_OVER_WITHIN};

const N_PARTITIONS: i32 = 6;
const RATE: u64 = 600;

/// So long rows come: both commit still when the lock is there, on a machine that has much else to do.
const SECONDS_UNTIL_BOTH_WAIT: u64 = 60;

/// Notes who writes what for which task. The numbers are given under the lock of the task's row or mark: they are in
/// the order in which the writes count.
const AUDIT: &str = "
    CREATE TABLE audit (
        n bigserial PRIMARY KEY, what text, task text, generation bigint, epoch bigint,
        writer text DEFAULT current_setting('application_name'));
    CREATE FUNCTION note_generation() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit (what, task, generation, epoch) VALUES (TG_TABLE_NAME, NEW.task, NEW.generation, NEW.epoch);
        RETURN NEW; END $$;
    CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit (what, task, epoch) VALUES (TG_TABLE_NAME, NEW.task, NEW.epoch);
        RETURN NEW; END $$;
    CREATE TRIGGER note AFTER UPDATE ON pipeline_state_tasks FOR EACH ROW EXECUTE FUNCTION note_generation();
    CREATE TRIGGER note AFTER UPDATE ON pipeline_marks FOR EACH ROW
        WHEN (NEW.sink = 'history') EXECUTE FUNCTION note_generation();
    CREATE TRIGGER note AFTER INSERT ON pipeline_state_epochs FOR EACH ROW EXECUTE FUNCTION note_row();
    CREATE TRIGGER note AFTER INSERT ON pipeline_state_outbox FOR EACH ROW EXECUTE FUNCTION note_row();
    CREATE TRIGGER note AFTER INSERT ON pipeline_state_changes FOR EACH ROW EXECUTE FUNCTION note_row();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON pipeline_state_checkpoints FOR EACH ROW EXECUTE FUNCTION note_row();";

/// By task the process that has claimed it last; and how often that was another one than before.
struct Owners {
    by_task: BTreeMap<String, (i64, String)>,
    changes: usize,
}

impl Owners {
    /// A row with a generation that was not there before is a claim; every other must be its owner's.
    fn check(&mut self, (what, task, generation, writer): (&str, &str, Option<i64>, &str)) {
        let owner = self.by_task.get(task).cloned();
        let is_claim = generation.is_some_and(|new| owner.as_ref().is_none_or(|(old, _)| *old < new));
        if is_claim {
            self.changes += usize::from(owner.is_some_and(|(_, owner)| owner != writer));
            self.by_task.insert(task.into(), (generation.expect("just looked at"), writer.into()));
            return;
        }
        // Before the first claim that was noted, nobody is known.
        let Some((newest, owner)) = owner else { return };
        assert_eq!(writer, owner, "`{writer}` wrote {what} of task {task}, which `{owner}` had claimed");
        assert!(generation.is_none_or(|generation| generation == newest), "{what} of task {task} went back");
    }
}

/// Panics if somebody wrote after another one had claimed the task; says how often a task got another owner.
async fn assert_that_only_owners_wrote(database: &Database) -> usize {
    let rows = database.query("SELECT what, task, generation::text, writer FROM audit ORDER BY n").await;
    // The sink's connections have names of their own: the mark is another thing that is claimed.
    let (mut of_state, mut of_sink) =
        (Owners { by_task: BTreeMap::new(), changes: 0 }, Owners { by_task: BTreeMap::new(), changes: 0 });
    for row in &rows {
        let cell = |idx: usize| row[idx].as_deref().unwrap_or_default();
        let generation = row[2].as_ref().map(|number| number.parse().expect("a number"));
        let owners = if cell(0) == "pipeline_marks" { &mut of_sink } else { &mut of_state };
        owners.check((cell(0), cell(1), generation, cell(3)));
    }
    for what in ["pipeline_state_epochs", "pipeline_state_outbox", "pipeline_state_checkpoints", "pipeline_marks"] {
        assert!(rows.iter().any(|row| row[0].as_deref() == Some(what)), "nobody wrote {what}");
    }
    assert_eq!(of_state.by_task.keys().collect::<Vec<_>>(), of_sink.by_task.keys().collect::<Vec<_>>());
    of_state.changes
}

/// Two processes under load, whose writes are noted.
async fn two_processes(n_rows: u64) -> (Fleet, RunningPipeline) {
    let mut fleet = Fleet::new(N_PARTITIONS).await;
    fleet.start("a");
    fleet.start("b");
    fleet.settled(&["a", "b"]).await;
    let load = fleet.load(n_rows, RATE);
    has_checkpoints(&fleet).await;
    fleet.production.database.execute(AUDIT).await;
    (fleet, load)
}

/// Waits until all that is audited is there.
async fn has_checkpoints(fleet: &Fleet) {
    let database = &fleet.production.database;
    let checkpoints = "SELECT count(*) FROM pipeline_state_checkpoints";
    eventually(LONG, "rows and checkpoints", async || {
        is_there(database, "pipeline_marks").await && database.count(checkpoints).await == i64::from(N_PARTITIONS)
    })
    .await;
}

async fn is_there(database: &Database, table: &str) -> bool {
    database.count(&format!("SELECT count(*) FROM pg_tables WHERE tablename = '{table}'")).await == 1
}

/// Waits until `b` has claimed what `a` had, and has gone on with it.
async fn b_takes_over(fleet: &mut Fleet) {
    let stopped = Instant::now();
    let after = fleet.production.database.count("SELECT COALESCE(max(n), 0) FROM audit").await;
    let sql = format!(
        "SELECT count(DISTINCT task) FROM audit WHERE {after} < n AND what = 'pipeline_state_epochs' AND writer = 'b'"
    );
    eventually(SESSION + TAKES_OVER_WITHIN, "`b` to go on with all tasks", async || {
        fleet.production.database.count(&sql).await == i64::from(N_PARTITIONS)
    })
    .await;
    println!("`b` has gone on with all tasks after {:.1?}", stopped.elapsed());
}

/// `a` comes back, is fenced, gets partitions again, and both end well; the group's offsets only rise.
async fn a_comes_back(mut fleet: Fleet, load: RunningPipeline, n_rows: u64) {
    let (kafka, topic) = (Kafka::shared().await, fleet.production.topic.clone());
    let mut offsets = kafka.committed(&topic, &topic, N_PARTITIONS).await;
    fleet.resume("a");
    eventually(LONG, "`a` to go on with a task, and all rows", async || {
        fleet.assert_that_none_has_ended();
        let now = kafka.committed(&topic, &topic, N_PARTITIONS).await;
        for (partition, offset) in &offsets {
            let now = now.get(partition).copied().unwrap_or(0);
            assert!(*offset <= now, "the offset of partition {partition} went back from {offset} to {now}");
        }
        offsets = now;
        n_rows as i64 == fleet.production.database.count("SELECT count(*) FROM sensor_data").await
    })
    .await;
    let group = fleet.settled(&["a", "b"]).await;
    assert_eq!(group.members["a"].len(), 3, "{group:?}");
    load.wait_with_timeout(LONG).await.assert_code(0);
    fleet.until_all_is_done(n_rows).await;
    let of_a = fleet.stop("a").await;
    fleet.stop("b").await;
    // Its group may have told it sooner that its partitions are lost.
    let n_dropped = of_a.stderr.lines().filter(|line| line.contains("is dropped here")).count();
    assert!(n_dropped <= 3, "{n_dropped} warnings of 3 tasks that were taken over\n{}", of_a.stderr);
    let changes = assert_that_only_owners_wrote(&fleet.production.database).await;
    assert!(3 <= changes, "`a` has got 3 tasks from `b` again: {changes}");
    fleet.assert_as_undisturbed(n_rows, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_comes_back_writes_nothing_and_is_of_use_again() {
    let n_rows = 25 * RATE;
    let (mut fleet, load) = two_processes(n_rows).await;
    fleet.pause("a");
    b_takes_over(&mut fleet).await;
    a_comes_back(fleet, load, n_rows).await;
}

/// Stops `a` while both wait for a lock in the middle of a transaction, and lets them have it.
async fn pause_in_a_transaction(fleet: &mut Fleet, lock: &str, waiting: &str) {
    let mut connection = PgConnection::connect(fleet.production.database.url()).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let sql = format!(
        "SELECT count(DISTINCT application_name) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%{waiting}%'"
    );
    eventually(LONG, "both to wait for a lock", async || 2 == fleet.production.database.count(&sql).await).await;
    fleet.pause("a");
    transaction.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_while_it_appends_holds_nobody_up() {
    let n_rows = SECONDS_UNTIL_BOTH_WAIT * RATE;
    let (mut fleet, load) = two_processes(n_rows).await;
    let lock = "SELECT * FROM pipeline_state_tasks FOR UPDATE";
    pause_in_a_transaction(&mut fleet, lock, "UPDATE pipeline_state_tasks").await;
    b_takes_over(&mut fleet).await;
    a_comes_back(fleet, load, n_rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_while_it_commits_holds_nobody_up() {
    let n_rows = SECONDS_UNTIL_BOTH_WAIT * RATE;
    let (mut fleet, load) = two_processes(n_rows).await;
    let lock = "SELECT * FROM pipeline_marks WHERE sink = 'history' FOR UPDATE";
    pause_in_a_transaction(&mut fleet, lock, "UPDATE pipeline_marks AS m").await;
    b_takes_over(&mut fleet).await;
    a_comes_back(fleet, load, n_rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_that_share_a_state_do_not_fight() {
    let n_rows = 40 * RATE;
    let mut fleet = Fleet::new(N_PARTITIONS).await;
    fleet.start("a");
    fleet.settled(&["a"]).await;
    let load = fleet.load(n_rows, RATE);
    has_checkpoints(&fleet).await;
    fleet.production.database.execute(AUDIT).await;
    fleet.start_in(&format!("{}-other", fleet.production.topic), "b");
    let words = "must read with the same `group`";
    let says_so =
        |fleet: &Fleet, name| fleet.members[name].running.as_ref().is_some_and(|a| a.stderr().contains(words));
    eventually(LONG, "one to end in words", async || says_so(&fleet, "a") || says_so(&fleet, "b")).await;
    let (ends, goes_on) = if says_so(&fleet, "a") { ("a", "b") } else { ("b", "a") };
    let ended = fleet.member(ends).running.take().expect("it was started").wait_with_timeout(LONG).await;
    ended.assert_code(1);
    assert!(ended.stderr.contains("is dropped here, and nothing of it is written"), "{}", ended.stderr);
    load.wait_with_timeout(LONG).await.assert_code(0);
    fleet.until_all_is_done(n_rows).await;
    fleet.stop(goes_on).await;
    assert_that_only_owners_wrote(&fleet.production.database).await;
    fleet.assert_as_undisturbed(n_rows, 1).await;
}
