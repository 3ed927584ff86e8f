//! What COPY is sent, without a server to send it to.

use arrow::datatypes::Schema;
use pipeline_stage::{ColumnType, EpochRows, Result};
use pipeline_tables::{WrittenColumn, places, written_columns};

use crate::target::{Form, Target};
use crate::value::Values;
use crate::write::Copied;

/// Appends the rows of epochs as the sink sends them by COPY into a table that it has made; rows that it would refuse are
/// left out. For benchmarks.
///
/// # Errors
/// When a column is of a type that no table takes.
pub fn encode(epochs: &[EpochRows], schema: &Schema, out: &mut Vec<u8>) -> Result<()> {
    let targets: Vec<Target> = written_columns(schema, None, str::eq)?.into_iter().map(target).collect();
    let values = Values::new(epochs, &targets)?;
    let mut writable = places(epochs);
    values.take_refused(&mut writable);
    let mut copied = Copied::new(&values, &writable, targets.len());
    while copied.put_next(out) {}
    Ok(())
}

/// The column of the table that is made for it. COPY names no types.
fn target(column: WrittenColumn) -> Target {
    let form = match column.column_type {
        ColumnType::String => Form::Text { limit: None },
        ColumnType::Integer => Form::Int8,
        ColumnType::Float => Form::Float8,
        ColumnType::Boolean => Form::Boolean,
        ColumnType::Timestamp => Form::Time,
    };
    let WrittenColumn { position, name, is_nullable, .. } = column;
    Target { position, name, form, type_oid: 0, array_oid: 0, is_not_null: !is_nullable }
}

#[cfg(test)]
mod tests {
    use pipeline_services::Postgres;
    use pipeline_stage::{Mark, Origins, Rows, Secret};

    use super::*;
    use crate::address::Address;
    use crate::database::Database;

    fn epoch(batch: arrow::array::RecordBatch) -> EpochRows {
        let offsets: Vec<u64> = (0..batch.num_rows() as u64).collect();
        let rows = vec![Rows { origins: Origins::new("readings/0".into(), offsets.into()), batch }];
        let mark = Mark {
            pipeline: "iot".into(),
            sink: "history".into(),
            task: "0".into(),
            state_id: "life-1".into(),
            generation: 1,
            epoch: 1,
            positions: "{}".into(),
            detail: None,
        };
        EpochRows { mark, rows }
    }

    #[tokio::test]
    async fn postgresql_takes_what_is_encoded() {
        let readings = pipeline_testkit::steady_readings(7, 0, 1_000);
        let mut bytes = Vec::new();
        encode(&[epoch(readings.clone())], &readings.schema(), &mut bytes).unwrap();
        let server = Postgres::shared().await.create_database().await;
        server.execute("CREATE TABLE t (sensor_id text, metric_type text, value float8, timestamp timestamptz)").await;
        let address = Address::parse(&Secret::new(server.url())).ok().unwrap();
        let mut database = Database::connect(&address, "test").await.unwrap();
        let whole = |out: &mut Vec<u8>| {
            out.append(&mut bytes);
            false
        };
        database.copy("COPY t FROM STDIN (FORMAT binary)", whole).await.unwrap();
        let found = server.query("SELECT sensor_id, count(*) FROM t GROUP BY 1 ORDER BY 1 LIMIT 1").await;
        assert_eq!(found, [[Some("sensor-00000".to_owned()), Some("143".to_owned())]]);
        assert_eq!(server.count("SELECT count(*) FROM t WHERE value < 80 AND '2025-07-20' < timestamp").await, 1_000);
    }
}
