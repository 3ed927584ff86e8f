//! The two tables that a pipeline fills, and how they differ from those of another run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::exact::query;
use pipeline_services::{Database, eventually};

const NAMES: [&str; 2] = ["sensor_data", "anomalies"];

/// Where they are.
pub enum Tables {
    Postgres(Database),
    Sqlite(PathBuf),
}

impl Tables {
    /// How many readings are there.
    pub async fn rows(&self) -> usize {
        self.number("SELECT count(*) FROM sensor_data").await
    }

    /// The largest `id` of a reading: grows with each commit, and is found at once however many rows there are.
    pub async fn newest(&self) -> usize {
        self.number("SELECT coalesce(max(id), 0) FROM sensor_data").await
    }

    /// A whole number; 0 as long as there is no table.
    async fn number(&self, sql: &str) -> usize {
        let number = match self {
            Tables::Postgres(database) => {
                let is_there = database.count("SELECT count(*) FROM pg_tables WHERE tablename = 'sensor_data'").await;
                if is_there == 0 { 0 } else { database.count(sql).await }
            }
            Tables::Sqlite(path) => {
                let is_there = "SELECT count(*) FROM sqlite_schema WHERE name = 'sensor_data'";
                if !path.exists() || query(path, is_there).await[0][0] == "0" {
                    return 0;
                }
                query(path, sql).await[0][0].parse().unwrap()
            }
        };
        number as usize
    }

    /// Waits until the connections of a process that was killed are gone: until then they may commit.
    pub async fn are_left_alone(&self) {
        let Tables::Postgres(database) = self else { return };
        let others = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        eventually(Duration::from_secs(30), "no connection of the killed process", async || {
            database.count(others).await == 0
        })
        .await;
    }

    /// Asserts that both tables have the rows of `other`'s, each as often; `id` does not count.
    pub async fn assert_same(&self, other: &Tables) {
        for table in NAMES {
            match (self, other) {
                (Tables::Postgres(one), Tables::Postgres(other)) => {
                    let (found, expected) = (series(one, table).await, series(other, table).await);
                    let of_both = found.keys().chain(expected.keys());
                    let different: Vec<_> = of_both.filter(|name| found.get(*name) != expected.get(*name)).collect();
                    let first = different.first().map(|name| (name, found.get(*name), expected.get(*name)));
                    assert!(different.is_empty(), "{table}: {} series differ, as {first:?}", different.len());
                }
                (Tables::Sqlite(one), Tables::Sqlite(other)) => {
                    for (left, right) in [(one, other), (other, one)] {
                        let different = only_in(left, right, table).await;
                        assert!(different.is_empty(), "{table}: only in {}: {different:?}", left.display());
                    }
                }
                _ => panic!("PostgreSQL is compared with PostgreSQL"),
            }
        }
    }
}

/// For each series of a table the number of its rows, and the sums of two hashes of each row: equal for equal rows, in
/// whatever order. A float's text has the digits that tell it from every other one.
async fn series(database: &Database, table: &str) -> BTreeMap<String, Vec<Option<String>>> {
    let row = "(to_jsonb(t) - 'id')::text";
    let sql = format!(
        "SELECT sensor_id || '/' || metric_type, count(*), sum(hashtextextended({row}, 1)::numeric),
                sum(hashtextextended({row}, 2)::numeric)
         FROM {table} t GROUP BY sensor_id, metric_type"
    );
    let rows = database.query(&sql).await.into_iter();
    rows.map(|mut cells| (cells.remove(0).expect("no sensor is NULL"), cells)).collect()
}

/// Some rows, and how often they are there, that the other database has not, or not as often.
async fn only_in(database: &std::path::Path, other: &std::path::Path, table: &str) -> Vec<Vec<String>> {
    let columns = query(database, &format!("SELECT name FROM pragma_table_info('{table}') WHERE name <> 'id'")).await;
    let columns = columns.concat().join(", ");
    let counted = |of: &str| format!("SELECT {columns}, count(*) FROM {of}.{table} GROUP BY {columns}");
    let (here, there) = (counted("main"), counted("other"));
    let attach = format!("ATTACH '{}' AS other", other.display());
    query(database, &format!("{attach}; SELECT * FROM ({here} EXCEPT {there}) LIMIT 5")).await
}
