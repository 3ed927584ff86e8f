//! Reading a table back, by connections that cannot write.

use async_trait::async_trait;
use pipeline_stage::{Cell, ColumnType, Result, StageError, Timestamp};
use pipeline_tables::history::{
    Answer, Connection, Cut, Database as HistoryDatabase, Form, HistoryColumn, Parameter, Question, Summary,
    TIME_LIMIT, Table, too_slow,
};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{AssertSqlSafe, Decode, Encode, Postgres, Row, Type};

use crate::address::Address;
use crate::database::{Database, quoted};
use crate::errors::Failure;
use crate::table::{TableColumn, TableName, describe};
use crate::value::{FIRST_TIME, since_1970, since_2000};

/// One state of the table for all that belongs to a question.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The type in which times are compared.
const TIMESTAMPTZ: &str = "timestamptz";

/// The columns with which each index begins that can be used to sort.
const FIND_INDEXES: &str = "
    SELECT array_agg(a.attname::text ORDER BY k.n)
    FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am m ON m.oid = c.relam
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND m.amname = 'btree' AND k.n <= i.indnkeyatts
    GROUP BY i.indexrelid ORDER BY i.indexrelid";

/// A database with a table to be read.
pub struct Archive {
    /// Where it is.
    pub address: Address,
    /// Host and port, for messages.
    pub place: String,
    /// The name of the connections. It must not be that of the sink's own, which a later owner of a task ends.
    pub connection_name: String,
    /// The table.
    pub name: TableName,
}

#[async_trait]
impl HistoryDatabase for Archive {
    async fn connect(&self) -> Result<Option<Box<dyn Connection>>> {
        let connect = async {
            let mut database = Database::connect(&self.address, &self.connection_name).await?;
            database.run(&settings()).await?;
            Ok::<_, Failure>(database)
        };
        let database = connect.await.map_err(|failure| failure.explain(&self.place))?;
        Ok(Some(Box::new(Reader { database, name: self.name.clone(), place: self.place.clone() })))
    }

    fn is_same_name(&self, one: &str, other: &str) -> bool {
        one == other
    }

    fn starts_with(&self, value: &str, parameter: &str) -> String {
        format!("starts_with(({value})::text, {parameter})")
    }

    fn walk(&self, table: &Table, keys: &[String], after: Option<&[String]>) -> String {
        let names = (0..keys.len()).map(|i| format!("c{i}")).collect::<Vec<_>>();
        let named =
            keys.iter().zip(&names).map(|(key, name)| format!("{key} AS {name}")).collect::<Vec<_>>().join(", ");
        let last = names.iter().map(|name| format!("walk.{name}")).collect::<Vec<_>>().join(", ");
        let not_null = keys.iter().map(|key| format!("{key} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
        let (all, order) = (&table.name, keys.join(", "));
        let begin = after.map_or(String::new(), |after| format!(" AND ({order}) > ({})", after.join(", ")));
        format!(
            "walk ({}) AS (
                (SELECT {order} FROM {all} AS t WHERE {not_null}{begin} ORDER BY {order} LIMIT 1)
                UNION ALL
                SELECT n.* FROM walk CROSS JOIN LATERAL (
                    SELECT {named} FROM {all} AS t WHERE {not_null} AND ({order}) > ({last}) ORDER BY {order} LIMIT 1
                ) AS n
            )",
            names.join(", ")
        )
    }

    fn summary_by_index(&self, summary: &Summary<'_>, parts: &str) -> String {
        let Summary { table, conditions, time, computed } = summary;
        format!(
            "SELECT p.n::int8, s.* FROM (VALUES {parts}) AS p (n, b, e) CROSS JOIN LATERAL (
                SELECT {computed} FROM {table} AS t WHERE {conditions} AND {time} >= p.b AND {time} < p.e
            ) AS s (n, least, greatest, mean) WHERE 0 < s.n ORDER BY p.n"
        )
    }

    fn summary_by_row(&self, summary: &Summary<'_>, cut: &Cut) -> String {
        let Summary { table, conditions, time, computed } = summary;
        let Cut { from, width, last } = cut;
        // Seconds as a floating-point number have every microsecond until the year 2255; `extract` is always exact, and
        // several times slower. The numbers of the parts are joined because PostgreSQL takes a computed column to be
        // different in each row otherwise, and sorts all of them, on disk.
        format!(
            "SELECT p.n, {computed} FROM generate_series(0, {last}) AS p (n)
                JOIN {table} AS t ON ((date_part('epoch', {time}) * 1000000)::int8 - {from}) / {width} = p.n
            WHERE {conditions} GROUP BY p.n ORDER BY p.n"
        )
    }
}

/// Settings of a connection that only reads. Without plans for all values: one that fits a common series takes minutes
/// for a rare one. Without machine code, which takes longer to make than these questions. And the parts of a summary
/// are joined by a hash table: PostgreSQL would rather sort millions of rows.
fn settings() -> String {
    format!(
        "SET default_transaction_read_only = on; SET statement_timeout = '{}ms'; SET jit = off;
        SET plan_cache_mode = force_custom_plan; SET enable_mergejoin = off",
        TIME_LIMIT.as_millis()
    )
}

struct Reader {
    database: Database,
    name: TableName,
    place: String,
}

#[async_trait]
impl Connection for Reader {
    async fn begin(&mut self, columns: &[HistoryColumn]) -> Result<Option<Table>> {
        self.look(columns).await.map_err(|failure| failure.explain(&self.place))
    }

    async fn ask(&mut self, question: &Question, answer: &mut Answer) -> Result<()> {
        self.read(question, answer).await.map_err(|failure| self.explain(failure))
    }

    async fn end(&mut self) -> Result<()> {
        self.database.run("COMMIT").await.map_err(|error| Failure::from(error).explain(&self.place))
    }
}

impl Reader {
    async fn look(&mut self, columns: &[HistoryColumn]) -> Result<Option<Table>, Failure> {
        self.database.run(BEGIN).await?;
        let Some(table) = describe(&mut self.database, &self.name).await? else { return Ok(None) };
        let form_of = |wanted: &HistoryColumn| {
            let found = table.columns.iter().find(|column| column.name == wanted.table_name);
            found.map(|column| form(wanted.column_type, column))
        };
        let forms = columns.iter().map(form_of).collect();
        let mut indexes = Vec::new();
        for row in self.database.rows(sqlx::query(FIND_INDEXES).bind(&table.name)).await? {
            indexes.push(row.try_get(0)?);
        }
        // Where a row is stored; a partitioned table stores rows of the same place in several tables.
        let ties = "t.tableoid, t.ctid".into();
        Ok(Some(Table { name: table.name, forms, indexes, ties, is_walkable: true }))
    }

    async fn read(&mut self, question: &Question, answer: &mut Answer) -> Result<(), Failure> {
        // The texts differ from question to question: kept as prepared statements they would only fill the memory.
        let mut query = sqlx::query(AssertSqlSafe(question.sql.as_str())).persistent(false);
        for parameter in &question.parameters {
            query = match parameter {
                Parameter::Text(text) => query.bind(text),
                Parameter::Integer(number) => query.bind(number),
                Parameter::Float(number) => query.bind(number),
                Parameter::Boolean(is_true) => query.bind(is_true),
                Parameter::Time(time) => query.bind(Time(*time)),
            };
        }
        let types = answer.types();
        let add = |row: &PgRow| {
            for (i, column_type) in types.iter().enumerate() {
                answer.push(i, cell(row, i, *column_type)?);
            }
            Ok(!answer.is_full())
        };
        self.database.each_row(query, add).await
    }

    fn explain(&self, failure: Failure) -> StageError {
        match failure.is_cancelled() {
            true => too_slow(&format!("PostgreSQL at {}", self.place)),
            false => failure.explain(&self.place),
        }
    }
}

fn cell(row: &PgRow, i: usize, column_type: ColumnType) -> Result<Cell<'_>, Failure> {
    let cell = match column_type {
        ColumnType::String => row.try_get::<Option<&str>, _>(i)?.map(Cell::Text),
        ColumnType::Integer => row.try_get::<Option<i64>, _>(i)?.map(Cell::Integer),
        ColumnType::Float => row.try_get::<Option<f64>, _>(i)?.map(Cell::Float),
        ColumnType::Boolean => row.try_get::<Option<bool>, _>(i)?.map(Cell::Boolean),
        ColumnType::Timestamp => row.try_get::<Option<Time>, _>(i)?.map(|time| Cell::Time(time.0)),
    };
    Ok(cell.unwrap_or(Cell::Null))
}

/// How a column is compared and read. Types that compare in another way than the pipeline's are turned into those.
fn form(column_type: ColumnType, column: &TableColumn) -> Form {
    let name = format!("t.{}", quoted(&column.name));
    let (key, value, parameter) = match (column_type, column.plain_type.as_str()) {
        (ColumnType::String, "text" | "varchar") => ("{}", "{}", "{}"),
        (ColumnType::String, "bpchar") => ("{}", "{}::text", "{}::bpchar"),
        (ColumnType::String, _) => ("{}::text", "{}", "{}"),
        (ColumnType::Integer, "int8") | (ColumnType::Float, "float8") => ("{}", "{}", "{}"),
        (ColumnType::Integer, "int2" | "int4" | "float8") => ("{}", "{}::int8", "{}"),
        (ColumnType::Integer, _) => ("{}::int8", "{}", "{}"),
        (ColumnType::Float, "float4") => ("{}", "{}::float8", "{}"),
        (ColumnType::Float, _) => ("{}::float8", "{}", "{}"),
        (ColumnType::Boolean, "bool") => ("{}", "{}", "{}"),
        (ColumnType::Boolean, _) => ("{}::bool", "{}", "{}"),
        (ColumnType::Timestamp, "timestamptz") => ("{}", "{}", "{}"),
        (ColumnType::Timestamp, "timestamp") => ("{}", "({} AT TIME ZONE 'UTC')", "({} AT TIME ZONE 'UTC')"),
        (ColumnType::Timestamp, _) => ("{}::timestamptz", "{}", "{}"),
    };
    Form { is_plain: key == "{}", is_nullable: !column.is_not_null, key: key.replace("{}", &name), value, parameter }
}

/// A time in PostgreSQL's binary form. What is before its first day is minus infinity, as what it calls so is read as
/// the first time there is.
struct Time(Timestamp);

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(TIMESTAMPTZ)
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = since_2000(self.0.0).filter(|micros| FIRST_TIME <= *micros).unwrap_or(i64::MIN);
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Time {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        Ok(Time(Timestamp(since_1970(i64::from_be_bytes(bytes)))))
    }
}
