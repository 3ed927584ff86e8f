//! What several processes have made of a topic, compared with what one makes of it that nothing disturbs.

use std::collections::BTreeSet;

use super::{Fleet, LONG};
use crate::exact::id_in;
use crate::production::Production;

impl Fleet {
    /// The same rows in both tables, as often, in all columns but the number of the row. Each alert was delivered, and
    /// at most so many again.
    pub async fn assert_as_undisturbed(&self, n_rows: u64, repeats: usize) {
        let undisturbed = self.undisturbed().await;
        for table in ["sensor_data", "anomalies"] {
            let (found, expected) = (contents(&self.production, table).await, contents(&undisturbed, table).await);
            let differ: Vec<_> = found.symmetric_difference(&expected).take(5).collect();
            assert!(differ.is_empty(), "{} rows of {table}, not {}: {differ:#?}", found.len(), expected.len());
            assert!(!found.is_empty(), "{table} is empty");
        }
        let rows = self.production.database.count("SELECT count(*) FROM sensor_data").await;
        assert_eq!(rows, n_rows as i64);
        let anomalies = self.production.database.count("SELECT count(*) FROM anomalies").await as usize;
        let requests = self.production.slack.requests();
        let ids: BTreeSet<String> = requests.iter().map(|request| id_in(&request.json().to_string())).collect();
        assert_eq!(ids.len(), anomalies, "an alert for each anomaly");
        let repeated = requests.len() - anomalies;
        println!("{rows} rows and {anomalies} anomalies as of one process; {repeated} alerts were delivered again");
        assert!(repeated <= repeats, "{repeated} alerts were delivered again");
    }

    async fn undisturbed(&self) -> Production {
        let same = Production::start(1).await;
        let undisturbed = Production { topic: self.production.topic.clone(), ..same };
        let group = format!("sources.readings.group={}-undisturbed", undisturbed.topic);
        let finished = undisturbed.run(&["--once", "--set", &group]).start().wait_with_timeout(LONG * 3).await;
        finished.assert_code(0);
        undisturbed
    }
}

/// Each different row of a table, with how often it is there.
async fn contents(production: &Production, table: &str) -> BTreeSet<String> {
    let sql =
        format!("SELECT count(*) || ' times ' || (to_jsonb(t) - 'id') FROM {table} t GROUP BY to_jsonb(t) - 'id'");
    let rows = production.database.query(&sql).await;
    rows.into_iter().map(|row| row.into_iter().flatten().collect()).collect()
}
