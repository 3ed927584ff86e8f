//! The few connections by which questions are asked: opened when somebody asks, and kept for the next question.

use std::sync::{Mutex, PoisonError};

use pipeline_stage::{ErrorKind, Result, StageError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Connection, Database, HistoryColumn, Table};

/// The most at a time: a page asks for several things at once, and the database has other work.
const MAX_CONNECTIONS: usize = 3;

/// Connections to one database.
pub struct Connections {
    database: Box<dyn Database>,
    /// Those that nobody uses.
    free: Mutex<Vec<Box<dyn Connection>>>,
    permits: Semaphore,
}

/// A transaction on one of the connections. If it is not ended, the connection is dropped.
pub struct Transaction<'a> {
    /// Where the question is asked.
    pub connection: Box<dyn Connection>,
    /// The table as it is in this transaction.
    pub table: Table,
    connections: &'a Connections,
    _permit: SemaphorePermit<'a>,
}

impl Connections {
    /// Without a connection yet.
    pub fn new(database: Box<dyn Database>) -> Self {
        Connections { database, free: Mutex::default(), permits: Semaphore::new(MAX_CONNECTIONS) }
    }

    /// What they are connections to.
    pub fn database(&self) -> &dyn Database {
        self.database.as_ref()
    }

    /// Begins a transaction, when one of the connections is free; none when the table is missing.
    pub async fn begin(&self, columns: &[HistoryColumn]) -> Result<Option<Transaction<'_>>> {
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| StageError::fatal("no more questions are taken"))?;
        // One that was kept may have been closed by the database since; that says nothing about a new one.
        while let Some(mut connection) = self.kept() {
            match connection.begin(columns).await {
                Ok(table) => return self.begun(connection, table, permit).await,
                Err(error) if error.kind() == ErrorKind::Transient => {}
                Err(error) => return Err(error),
            }
        }
        let Some(mut connection) = self.database.connect().await? else { return Ok(None) };
        let table = connection.begin(columns).await?;
        self.begun(connection, table, permit).await
    }

    async fn begun<'a>(
        &'a self,
        mut connection: Box<dyn Connection>,
        table: Option<Table>,
        permit: SemaphorePermit<'a>,
    ) -> Result<Option<Transaction<'a>>> {
        match table {
            Some(table) => Ok(Some(Transaction { connection, table, connections: self, _permit: permit })),
            None => {
                connection.end().await?;
                self.keep(connection);
                Ok(None)
            }
        }
    }

    fn kept(&self) -> Option<Box<dyn Connection>> {
        // A list of connections is whole whenever somebody panics.
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: Box<dyn Connection>) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl Transaction<'_> {
    /// Ends it, and keeps the connection.
    pub async fn end(mut self) -> Result<()> {
        self.connection.end().await?;
        self.connections.keep(self.connection);
        Ok(())
    }
}
