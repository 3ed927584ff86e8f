//! Real readings through real services: all rows once, the anomalies those of the reference, each alert once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::production::{Anomaly, Binary, Motes, Production, number, pipeline, repository, sorted};
use pipeline_services::PipelineRun;

async fn exact_on_services(n_partitions: i32, binary: Binary) {
    let motes = Motes::load();
    let production = Production::start(n_partitions).await.with(binary);
    production.replay(&motes.file).await.assert_code(0);
    let finished = production.run(&["--once"]).start().wait_with_timeout(Duration::from_secs(240)).await;
    finished.assert_code(0);
    finished.assert_books_balance();

    let history = production.history().await;
    assert_eq!(history.values().sum::<usize>(), motes.rows);
    motes.assert_same(&production.anomalies().await);
    assert_alerts(&production, &motes);
}

/// Each anomaly once at the receiver, each with an id of its own.
fn assert_alerts(production: &Production, motes: &Motes) {
    let alerts: Vec<String> = production.slack.requests().iter().map(|request| request.json().to_string()).collect();
    assert_eq!(alerts.len(), motes.anomalies.len());
    let ids: BTreeSet<String> = alerts.iter().map(|alert| id_in(alert)).collect();
    assert_eq!(ids.len(), motes.anomalies.len(), "an id stands for one anomaly");
    assert!(alerts.iter().all(|alert| alert.contains(":warning: Anomaly Detected! :warning:")));
}

/// The id, four groups of four hexadecimal digits, wherever it stands in the message.
pub fn id_in(alert: &str) -> String {
    let is_id = |text: &str| {
        let groups: Vec<&str> = text.split('-').collect();
        groups.len() == 4 && groups.iter().all(|g| g.len() == 4 && g.chars().all(|c| c.is_ascii_hexdigit()))
    };
    let mut words = alert.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    words.find(|word| is_id(word)).unwrap_or_else(|| panic!("no id in {alert}")).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_is_exact() {
    exact_on_services(1, Binary::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_are_exact() {
    exact_on_services(4, Binary::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_are_exact_with_everything_loaded() {
    exact_on_services(4, Binary::Slim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_into_sqlite_is_exact() {
    let motes = Motes::load();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("iot.db");
    let run = from_file(&motes, folder.path()).env("DATABASE", &database);
    let finished = run.start().wait_with_timeout(Duration::from_secs(120)).await;
    finished.assert_code(0);
    assert_eq!(finished.stdout.lines().count(), motes.anomalies.len(), "one line for each on the screen");

    let count: i64 = query(&database, "SELECT COUNT(*) FROM sensor_data").await[0][0].parse().unwrap();
    assert_eq!(count as usize, motes.rows);
    motes.assert_same(&anomalies_in(&database).await);
}

/// The anomalies in the table `anomalies` of an SQLite database.
pub async fn anomalies_in(database: &std::path::Path) -> Vec<Anomaly> {
    // SQLite keeps times as text in its own form.
    let sql = "SELECT sensor_id, metric_type, value, strftime('%Y-%m-%dT%H:%M:%S+00:00', timestamp), printf('%!.17g', z_score) FROM anomalies";
    let found = query(database, sql).await.into_iter().map(|cells| {
        let row = (cells[0].clone(), cells[1].clone(), number(&cells[2]), cells[3].clone());
        Anomaly { row, z: cells[4].parse().unwrap() }
    });
    sorted(found.collect())
}

/// The default profile of `iot.yaml`, with the recorded file in place of the simulator.
pub fn from_file(motes: &Motes, folder: &std::path::Path) -> PipelineRun {
    let profile = format!(
        "{}\n  recorded:\n    sources:\n      readings:\n        type: file\n        path: {}\n        format: json\n        schema: {{ sensor_id: string, metric_type: string, value: float, timestamp: timestamp }}\n",
        std::fs::read_to_string(repository().join("pipelines/iot.yaml")).unwrap().trim_end(),
        motes.file.display(),
    );
    let file = folder.join("iot.yaml");
    std::fs::write(&file, profile).unwrap();
    let path = file.display().to_string();
    pipeline().args(["run", &path, "--profile", "recorded", "--once"]).env("STATE", folder.join("state"))
}

/// All cells as text, by the `sqlite3` of sqlx.
pub async fn query(database: &std::path::Path, sql: &str) -> Vec<Vec<String>> {
    use sqlx::{Connection, Row, SqliteConnection};
    let url = format!("sqlite://{}", database.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_string())).fetch_all(&mut connection).await.unwrap();
    let cell = |row: &sqlx::sqlite::SqliteRow, column| {
        row.try_get::<String, _>(column)
            .or_else(|_| row.try_get::<f64, _>(column).map(|number| number.to_string()))
            .or_else(|_| row.try_get::<i64, _>(column).map(|number| number.to_string()))
            .unwrap()
    };
    rows.iter().map(|row| (0..row.len()).map(|column| cell(row, column)).collect()).collect()
}
