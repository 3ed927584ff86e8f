//! What a table is: looked up in the catalogue, column by column.

use pipeline_stage::{Result, StageError};
use sqlx::Row;

use crate::database::{Database, quoted};
use crate::errors::Failure;

/// PostgreSQL cuts longer names off, silently.
const MAX_NAME_BYTES: usize = 63;

/// The name of a table as the user wrote it: taken letter by letter, upper case stays upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    schema: Option<String>,
    table: String,
}

impl TableName {
    /// Reads `table` or `schema.table`.
    ///
    /// # Errors
    /// Of kind `Config` when a part is empty or longer than PostgreSQL's 63 bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, text),
        };
        for part in schema.into_iter().chain([table]) {
            check_name(part).map_err(|why| StageError::config(format!("`{text}` is no name of a table: {why}")))?;
        }
        Ok(TableName { schema: schema.map(Into::into), table: table.into() })
    }

    /// For SQL.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }

    /// The schema, if the user named one; else the first of the search path.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// Says why a name cannot be one of PostgreSQL's.
pub fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("it is empty".into()),
        length if MAX_NAME_BYTES < length => {
            Err(format!("`{name}` has {length} bytes, a name may have {MAX_NAME_BYTES}"))
        }
        _ if name.contains('\0') => Err("it holds a NUL character".into()),
        _ => Ok(()),
    }
}

/// A table as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Quoted and with its schema: the same table whatever the search path.
    pub name: String,
    /// Its columns, in their order.
    pub columns: Vec<TableColumn>,
}

/// A column of a table. Of a domain, the types are those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// What it is called.
    pub name: String,
    /// Its type as SQL writes it: `character varying(20)`.
    pub type_name: String,
    /// The type's own name: `varchar`.
    pub plain_type: String,
    /// The number of the type.
    pub type_oid: u32,
    /// The number of the type of arrays of it.
    pub array_oid: u32,
    /// For text types the longest text plus 4; below 4 when there is no limit.
    pub modifier: i32,
    /// Whether the type is an enumeration.
    pub is_enum: bool,
    /// Whether every row must have it.
    pub is_not_null: bool,
    /// Whether PostgreSQL fills it in.
    pub has_default: bool,
    /// Whether it is computed from other columns, and cannot be written.
    pub is_generated: bool,
    /// Whether this user may write it.
    pub may_write: bool,
}

const FIND_TABLE: &str = "
    SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass($1)";

const FIND_COLUMNS: &str = "
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), b.typname::text, b.oid::int8, b.typarray::int8,
        CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END, b.typtype = 'e', a.attnotnull OR t.typnotnull,
        a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> '',
        has_column_privilege(a.attrelid, a.attnum, 'INSERT')
    FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// Looks a table up; none when there is nothing of that name.
pub async fn describe(database: &mut Database, name: &TableName) -> Result<Option<Table>, Failure> {
    let found = database.rows(sqlx::query(FIND_TABLE).bind(name.quoted())).await?;
    let Some(found) = found.first() else { return Ok(None) };
    let (oid, schema, table): (i64, String, String) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
    let kind: String = found.try_get(3)?;
    // `r` is a table, `p` a partitioned one; rows in anything else are not under this database's transactions.
    if kind != "r" && kind != "p" {
        let message =
            format!("`{name}` is not a table (it is of PostgreSQL's relkind `{kind}`); rows go into tables only");
        return Err(StageError::fatal(message).at_option("table").into());
    }
    let mut columns = Vec::new();
    for row in database.rows(sqlx::query(FIND_COLUMNS).bind(oid)).await? {
        columns.push(TableColumn {
            name: row.try_get(0)?,
            type_name: row.try_get(1)?,
            plain_type: row.try_get(2)?,
            type_oid: row.try_get::<i64, _>(3)? as u32,
            array_oid: row.try_get::<i64, _>(4)? as u32,
            modifier: row.try_get(5)?,
            is_enum: row.try_get(6)?,
            is_not_null: row.try_get(7)?,
            has_default: row.try_get(8)?,
            is_generated: row.try_get(9)?,
            may_write: row.try_get(10)?,
        });
    }
    Ok(Some(Table { name: format!("{}.{}", quoted(&schema), quoted(&table)), columns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_may_have_a_schema() {
        assert_eq!(TableName::parse("sensor_data").unwrap().quoted(), r#""sensor_data""#);
        let name = TableName::parse(r#"plant.a"b"#).unwrap();
        assert_eq!((name.quoted().as_str(), name.schema()), (r#""plant"."a""b""#, Some("plant")));
        assert_eq!(name.to_string(), r#"plant.a"b"#);
    }

    #[test]
    fn refuses_names_that_postgresql_would_change() {
        for (text, why) in [
            ("", "`` is no name of a table: it is empty"),
            (".x", "`.x` is no name of a table: it is empty"),
            ("x.", "`x.` is no name of a table: it is empty"),
            ("a\0", "`a\0` is no name of a table: it holds a NUL character"),
        ] {
            assert_eq!(TableName::parse(text).unwrap_err().to_string(), why);
        }
        assert!(TableName::parse(&"x".repeat(63)).is_ok());
        assert!(
            TableName::parse(&"x".repeat(64)).unwrap_err().to_string().ends_with("has 64 bytes, a name may have 63")
        );
    }
}
