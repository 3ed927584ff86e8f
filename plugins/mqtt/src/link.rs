//! A connection to a broker: packets in and out.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use pipeline_stage::{Result, StageError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::Address;
use crate::tls::TlsFiles;
use crate::wire::{Hello, Incoming, Outgoing, Refusal, Version};

/// A broker that has not answered by then will not.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Which broker, as whom, and what for.
#[derive(Clone)]
pub struct Broker {
    /// Where it is.
    pub address: Address,
    /// How the connection is encrypted; none when it is not.
    pub tls: Option<TlsFiles>,
    /// What is spoken.
    pub version: Version,
    /// Who we are.
    pub hello: Hello,
    /// What is subscribed to.
    pub topics: Vec<String>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.address, self.hello.client_id)
    }
}

/// What a broker says of a session that begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Greeting {
    /// Whether it goes on with an earlier one.
    pub has_session: bool,
    /// In seconds, how long it is kept without a connection, if that is less than was asked for.
    pub short_expiry: Option<u32>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection whose session has begun.
pub struct Link {
    stream: Box<dyn Stream>,
    broker: Address,
    version: Version,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// What the broker has said.
    pub greeting: Greeting,
    /// How long it may be silent.
    pub keep_alive: Duration,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// Of kind `Transient` when the broker is not there or may do later, `Config` or `Fatal` when it refuses.
    pub async fn open(broker: &Broker) -> Result<Self> {
        let address = &broker.address;
        let opened = timeout(ANSWERS_WITHIN, Self::greeted(broker)).await;
        opened.unwrap_or_else(|_| Err(StageError::transient(format!("the broker {address} does not answer"))))
    }

    async fn greeted(broker: &Broker) -> Result<Self> {
        let mut link = Link {
            stream: stream(broker).await?,
            broker: broker.address.clone(),
            version: broker.version,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            greeting: Greeting::default(),
            keep_alive: Duration::from_secs(broker.hello.keep_alive.into()),
        };
        link.queue(&Outgoing::Connect(&broker.hello))?;
        link.flush().await?;
        match link.read().await? {
            Incoming::Connected { has_session, keep_alive, session_expiry } => {
                let short_expiry = session_expiry.filter(|granted| *granted < broker.hello.session_expiry);
                link.greeting = Greeting { has_session, short_expiry };
                if let Some(seconds) = keep_alive.filter(|seconds| 0 < *seconds) {
                    link.keep_alive = Duration::from_secs(seconds.into());
                }
                Ok(link)
            }
            Incoming::Refused(refusal) => Err(refused(broker, refusal)),
            _ => Err(StageError::transient(format!("{} does not answer as a broker does", broker.address))),
        }
    }

    /// The next packet. Cancel-safe.
    pub async fn read(&mut self) -> Result<Incoming> {
        loop {
            let packet = self.version.read(&mut self.incoming).map_err(|why| {
                StageError::fatal(format!("a packet of the broker {} cannot be read: {why}", self.broker))
            })?;
            if let Some(packet) = packet {
                return Ok(packet);
            }
            let read = self.stream.read_buf(&mut self.incoming).await.map_err(|error| self.broken(error))?;
            if read == 0 {
                return Err(self.lost());
            }
        }
    }

    /// Appends a packet to those that [`flush`](Self::flush) sends.
    pub fn queue(&mut self, packet: &Outgoing<'_>) -> Result<()> {
        self.version.write(packet, &mut self.outgoing)
    }

    /// Sends what was queued.
    pub async fn flush(&mut self) -> Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await
        };
        let written = timeout(ANSWERS_WITHIN, write).await;
        self.outgoing.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost().because(error)),
            Err(_) => Err(self.lost()),
        }
    }

    /// The end of the connection: whoever reads it sees all that was sent before.
    pub async fn close(mut self) -> Result<()> {
        self.queue(&Outgoing::Disconnect)?;
        self.flush().await?;
        let _ = timeout(ANSWERS_WITHIN, self.stream.shutdown()).await;
        Ok(())
    }

    fn broken(&self, error: std::io::Error) -> StageError {
        match is_of_tls(&error) {
            true => unencrypted(&self.broker, error),
            false => self.lost().because(error),
        }
    }

    /// The connection is gone.
    fn lost(&self) -> StageError {
        StageError::transient(format!("the broker {} has gone away", self.broker))
    }
}

async fn stream(broker: &Broker) -> Result<Box<dyn Stream>> {
    let address = &broker.address;
    let unreachable =
        |error: std::io::Error| StageError::transient(format!("the broker {address} cannot be reached")).because(error);
    let connector = broker.tls.as_ref().map(TlsFiles::connector).transpose()?;
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    // Acknowledgements are small, and what the broker sends next waits for them.
    stream.set_nodelay(true).map_err(unreachable)?;
    let Some(connector) = connector else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(address.host.clone()).map_err(|error| {
        StageError::config(format!("`{}` is no name that a certificate can have", address.host))
            .at_option("url")
            .because(error)
    })?;
    let encrypted = connector.connect(name, stream).await.map_err(|error| unencrypted(address, error))?;
    Ok(Box::new(encrypted))
}

fn is_of_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What one side says of the other's certificate stays as it is; what the network does may pass.
fn unencrypted(address: &Address, error: std::io::Error) -> StageError {
    let words = format!("no encrypted connection to the broker {address} comes about");
    match is_of_tls(&error) {
        true => StageError::fatal(words).because(error),
        false => StageError::transient(words).because(error),
    }
}

fn refused(broker: &Broker, refusal: Refusal) -> StageError {
    let (address, hello) = (&broker.address, &broker.hello);
    match refusal {
        Refusal::Login if hello.user.is_empty() => StageError::fatal(format!(
            "the broker {address} lets nobody in without a name: `user` and `password`, or `tls_certificate`, say it"
        )),
        Refusal::Login => StageError::fatal(format!(
            "the broker {address} does not let `{}` in: `password` is wrong, or the user may not connect as `{}`",
            hello.user, hello.client_id
        )),
        Refusal::Version => {
            let other = if broker.version == Version::V5 { "3.1.1" } else { "5" };
            let (name, words) = (broker.version.name(), "does not speak version");
            StageError::config(format!("the broker {address} {words} {name}, perhaps `version: {other}`"))
                .at_option("version")
        }
        Refusal::ClientId => {
            StageError::config(format!("the broker {address} does not take the client id `{}`", hello.client_id))
                .at_option("client_id")
        }
        Refusal::Later(why) => StageError::transient(format!("the broker {address} refuses for now: {why}")),
    }
}
