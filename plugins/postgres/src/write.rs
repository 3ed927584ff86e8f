//! Rows on their way into a table: the same binary values by INSERT when they are few, by COPY when they are many.
//!
//! COPY needs about 60 % of the time of INSERT. But its end is a message of five bytes of its own, and the driver
//! leaves TCP's small-packet delay on: that message waits until the server has acknowledged the data before it, which
//! takes 40 ms. Measured (5 columns, 2 indexes, a server on the same machine): 100 rows take 1.2 ms by INSERT and
//! 44 ms by COPY, 5,000 rows 23 and 45 ms, 50,000 rows 318 and 195 ms.

use pipeline_tables::Place;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{AssertSqlSafe, Encode, Postgres, Type};

use crate::database::{Database, quoted};
use crate::errors::Failure;
use crate::table::Table;
use crate::target::Target;
use crate::value::Values;

/// About where COPY becomes the faster one, its delay included.
const INSERT_MAX_ROWS: usize = 8_000;

/// What is larger than this goes by COPY, however few rows it is: an INSERT is built in memory as a whole.
const INSERT_MAX_BYTES: usize = 16 << 20;

const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_END: [u8; 2] = (-1i16).to_be_bytes();

/// Writes rows into one table.
pub struct Writer {
    /// The columns that are written.
    pub targets: Vec<Target>,
    insert: String,
    copy: String,
}

impl Writer {
    /// The writer of these columns of a table.
    pub fn new(table: &Table, targets: Vec<Target>) -> Self {
        let columns = targets.iter().map(|target| quoted(&target.name)).collect::<Vec<_>>().join(", ");
        let arrays = (1..=targets.len()).map(|i| format!("${i}")).collect::<Vec<_>>().join(", ");
        let name = &table.name;
        Writer {
            targets,
            // As COPY does, it may write a column that is GENERATED ALWAYS AS IDENTITY.
            insert: format!("INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({arrays})"),
            copy: format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)"),
        }
    }

    /// Writes rows, of which none has a refusal, in order: all or, with an error, none.
    pub async fn write(&self, database: &mut Database, values: &Values<'_>, rows: &[Place]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.arrays(values, rows) {
            Some(arrays) => self.insert(database, arrays).await,
            None => self.copy(database, values, rows).await,
        }
    }

    async fn insert(&self, database: &mut Database, arrays: Vec<EncodedArray>) -> Result<(), Failure> {
        let mut query = sqlx::query(AssertSqlSafe(self.insert.as_str()));
        for array in arrays {
            query = query.bind(array);
        }
        database.rows(query).await?;
        Ok(())
    }

    async fn copy(&self, database: &mut Database, values: &Values<'_>, rows: &[Place]) -> Result<(), Failure> {
        let mut copied = Copied::new(values, rows, self.targets.len());
        database.copy(&self.copy, |out| copied.put_next(out)).await?;
        Ok(())
    }

    /// The values as one array for each column; none when they are too many.
    fn arrays(&self, values: &Values<'_>, rows: &[Place]) -> Option<Vec<EncodedArray>> {
        if INSERT_MAX_ROWS < rows.len() {
            return None;
        }
        let mut n_bytes = 0;
        let mut arrays = Vec::with_capacity(self.targets.len());
        for (i, target) in self.targets.iter().enumerate() {
            let mut array = EncodedArray::new(target, rows.len());
            for place in rows {
                let before = array.bytes.len();
                values.put_value(*place, i, &mut array.bytes);
                n_bytes += array.bytes.len() - before;
                if INSERT_MAX_BYTES < n_bytes {
                    return None;
                }
            }
            arrays.push(array);
        }
        Some(arrays)
    }
}

/// Rows in the binary form of COPY, one after the other.
pub struct Copied<'a> {
    values: &'a Values<'a>,
    rows: std::slice::Iter<'a, Place>,
    n_columns: [u8; 2],
    is_begun: bool,
}

impl<'a> Copied<'a> {
    /// Of rows of which none has a refusal.
    pub fn new(values: &'a Values<'a>, rows: &'a [Place], n_columns: usize) -> Self {
        Copied { values, rows: rows.iter(), n_columns: (n_columns as i16).to_be_bytes(), is_begun: false }
    }

    /// Appends the next row; false when the end was appended instead.
    pub fn put_next(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.is_begun {
            out.extend_from_slice(COPY_HEADER);
            self.is_begun = true;
        }
        match self.rows.next() {
            Some(place) => {
                out.extend_from_slice(&self.n_columns);
                self.values.put_row(*place, out);
                true
            }
            None => {
                out.extend_from_slice(&COPY_END);
                false
            }
        }
    }
}

/// An array in PostgreSQL's binary form.
struct EncodedArray {
    array_oid: u32,
    bytes: Vec<u8>,
}

impl EncodedArray {
    /// The header of an array of one dimension that starts at 1.
    fn new(target: &Target, length: usize) -> Self {
        let mut bytes = Vec::with_capacity(20 + 12 * length);
        let (n_dimensions, flags, first_index) = (1i32, 0i32, 1i32);
        bytes.extend(n_dimensions.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend(target.type_oid.to_be_bytes());
        bytes.extend((length as i32).to_be_bytes());
        bytes.extend(first_index.to_be_bytes());
        EncodedArray { array_oid: target.array_oid, bytes }
    }
}

impl Type<Postgres> for EncodedArray {
    /// Not used: each value says its own type.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("anyarray")
    }
}

impl Encode<'_, Postgres> for EncodedArray {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.array_oid)))
    }
}
