//! A way to PostgreSQL on which connections die around commits.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::postgres::with_host;

/// A proxy before PostgreSQL. Of every few commits one is lost with its connection before the server gets it, and one
/// is made, but its answer is lost.
///
/// A commit is `COMMIT`, or a statement outside of a transaction. Those that have only read are no commits.
///
/// ```no_run
/// # use pipeline_services::{CommitCutter, Postgres};
/// # async fn example() {
/// let database = Postgres::shared().await.create_database().await;
/// let cutter = CommitCutter::start(database.url(), "INSERT INTO readings", 3).await;
/// // A program that is given `cutter.url()` has to live with it.
/// assert!(0 < cutter.lost_answers());
/// # }
/// ```
pub struct CommitCutter {
    url: String,
    cuts: Arc<Cuts>,
}

struct Cuts {
    words: String,
    every: usize,
    commits: AtomicUsize,
    lost_commits: AtomicUsize,
    lost_answers: AtomicUsize,
}

impl CommitCutter {
    /// Stands before the database of this URL and cuts every `every`-th commit of statements that contain these words,
    /// by turns before and after it is made.
    pub async fn start(url: &str, words: &str, every: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (url, server) = with_host(url, &format!("127.0.0.1:{port}"));
        let cuts = Arc::new(Cuts {
            words: words.to_owned(),
            every,
            commits: AtomicUsize::new(0),
            lost_commits: AtomicUsize::new(0),
            lost_answers: AtomicUsize::new(0),
        });
        let server = server.parse().unwrap_or_else(|_| panic!("`{server}` must be an address and a port"));
        tokio::spawn(listen(listener, server, Arc::clone(&cuts)));
        CommitCutter { url, cuts }
    }

    /// The URL of the same database by way of this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many commits the server did not get.
    pub fn lost_commits(&self) -> usize {
        self.cuts.lost_commits.load(Ordering::Relaxed)
    }

    /// How many commits were made without the client hearing of it.
    pub fn lost_answers(&self) -> usize {
        self.cuts.lost_answers.load(Ordering::Relaxed)
    }
}

/// What becomes of a commit.
enum Cut {
    No,
    Commit,
    Answer,
}

impl Cuts {
    fn next(&self) -> Cut {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if !number.is_multiple_of(self.every) {
            return Cut::No;
        }
        if (number / self.every).is_multiple_of(2) {
            self.lost_commits.fetch_add(1, Ordering::Relaxed);
            Cut::Commit
        } else {
            self.lost_answers.fetch_add(1, Ordering::Relaxed);
            Cut::Answer
        }
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, cuts: Arc<Cuts>) {
    while let Ok((client, _)) = listener.accept().await {
        let cuts = Arc::clone(&cuts);
        // An error ends a connection as a cut does.
        tokio::spawn(async move {
            let server = TcpStream::connect(server).await?;
            // Small messages go at once: otherwise each would wait for an acknowledgement.
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            serve(client, server, &cuts).await
        });
    }
}

/// Passes on what both sides say, until one of them or a cut ends it.
async fn serve(mut client: TcpStream, mut server: TcpStream, cuts: &Cuts) -> io::Result<()> {
    let mut conversation = Conversation::default();
    let (mut said, mut answered) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            n_bytes = client.read_buf(&mut said) => {
                if n_bytes? == 0 {
                    return Ok(());
                }
                while let Some(message) = conversation.next(&mut said) {
                    if conversation.asks_for_encryption(&message) {
                        client.write_all(b"N").await?;
                        continue;
                    }
                    match if conversation.commits(&message, &cuts.words) { cuts.next() } else { Cut::No } {
                        Cut::No => server.write_all(&message).await?,
                        Cut::Commit => return Ok(()),
                        Cut::Answer => {
                            server.write_all(&message).await?;
                            return until_ready(&mut server).await;
                        }
                    }
                }
            }
            n_bytes = server.read_buf(&mut answered) => {
                if n_bytes? == 0 {
                    return Ok(());
                }
                client.write_all(&answered).await?;
                answered.clear();
            }
        }
    }
}

/// Reads what the server says up to the end of an answer, `ReadyForQuery`.
async fn until_ready(server: &mut TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    while server.read_buf(&mut answer).await? != 0 {
        if let [.., b'Z', 0, 0, 0, 5, _status] = answer[..] {
            return Ok(());
        }
    }
    Ok(())
}

/// What a client says, in the protocol's messages: a letter, the length of the rest as four bytes, the rest.
#[derive(Default)]
struct Conversation {
    /// The first messages, up to the name of the user and the database, have no letter.
    has_started: bool,
    is_in_transaction: bool,
    /// Prepared statements by their names: true for those that matter.
    statements: HashMap<Vec<u8>, bool>,
    /// A statement that matters was sent, and not committed yet.
    has_written: bool,
}

impl Conversation {
    /// Takes the next message from what was read, if it is there as a whole.
    fn next(&mut self, said: &mut Vec<u8>) -> Option<Vec<u8>> {
        let letter = usize::from(self.has_started);
        let length: [u8; 4] = said.get(letter..letter + 4)?.try_into().expect("four bytes");
        let length = letter + u32::from_be_bytes(length) as usize;
        (length <= said.len()).then(|| said.drain(..length).collect())
    }

    /// True for `SSLRequest` and `GSSENCRequest`.
    fn asks_for_encryption(&mut self, message: &[u8]) -> bool {
        if self.has_started {
            return false;
        }
        let code: [u8; 4] = message[4..8].try_into().expect("four bytes");
        self.has_started = !matches!(u32::from_be_bytes(code), 80_877_103 | 80_877_104);
        !self.has_started
    }

    /// True when the server makes something durable because of this message, by a statement with these words.
    fn commits(&mut self, message: &[u8], words: &str) -> bool {
        let matters = |sql: &[u8]| {
            let sql = String::from_utf8_lossy(sql);
            !sql.trim_start().starts_with("SELECT") && sql.contains(words)
        };
        let body = &message[5..];
        match message[0] {
            b'Q' if body.starts_with(b"BEGIN") => self.is_in_transaction = true,
            b'Q' if body.starts_with(b"COMMIT") => {
                self.is_in_transaction = false;
                return std::mem::take(&mut self.has_written);
            }
            b'Q' if body.starts_with(b"ROLLBACK") => (self.is_in_transaction, self.has_written) = (false, false),
            b'Q' => {
                self.has_written |= matters(body);
                return !self.is_in_transaction && std::mem::take(&mut self.has_written);
            }
            // Parse: the statement's name, its text.
            b'P' => {
                let (name, sql) = split(body);
                self.statements.insert(name.to_vec(), matters(sql));
            }
            // Bind: the portal's name, the statement's.
            b'B' => {
                let (_, statement) = split(body);
                self.has_written |= self.statements.get(split(statement).0) == Some(&true);
            }
            // Sync.
            b'S' => return !self.is_in_transaction && std::mem::take(&mut self.has_written),
            _ => {}
        }
        false
    }
}

/// What stands before the next NUL, and what behind it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Postgres;

    #[tokio::test]
    async fn loses_commits_and_answers_by_turns() {
        let database = Postgres::shared().await.create_database().await;
        database.execute("CREATE TABLE t (a int)").await;
        let cutter = CommitCutter::start(database.url(), "INSERT", 2).await;
        for n in 1..=8 {
            use sqlx::{Connection, Executor, PgConnection};
            let mut connection = PgConnection::connect(cutter.url()).await.expect("connections are let through");
            let mut transaction = connection.begin().await.expect("only commits are cut");
            let insert = sqlx::AssertSqlSafe(format!("INSERT INTO t VALUES ({n})"));
            transaction.execute(insert).await.expect("only commits are cut");
            assert_eq!(transaction.commit().await.is_ok(), n % 2 == 1, "commit {n}");
        }
        assert_eq!((cutter.lost_answers(), cutter.lost_commits()), (2, 2));
        let rows = database.query("SELECT a FROM t ORDER BY a").await;
        let rows: Vec<String> = rows.into_iter().flatten().flatten().collect();
        assert_eq!(rows, ["1", "2", "3", "5", "6", "7"], "2 and 6 were made, 4 and 8 were not");
    }
}
