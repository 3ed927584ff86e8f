//! A source that the tests drive as the engine does.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::Array;
use pipeline_mqtt::MqttOptions;
use pipeline_services::Mosquitto;
use pipeline_stage::{
    ErrorKind, NoConsole, Partition, Position, Reader, Result, Role, Source, SourceBatch, SourceContext, SourceOptions,
    SourceRows, StageContext, parse,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// What comes has come by then.
pub const SOON: Duration = Duration::from_secs(30);
/// What does not come by then does not come.
pub const A_WHILE: Duration = Duration::from_millis(300);

/// Both versions, as options.
pub const VERSIONS: [&str; 2] = ["3.1.1", "5"];

/// Options for a broker; `more` adds to them.
pub fn options(mosquitto: &Mosquitto, more: Value) -> Value {
    let mut options = json!({ "url": mosquitto.url(), "topics": "plant/#" });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

pub fn try_build(options: Value) -> Result<Box<dyn Source>> {
    let stage = StageContext {
        pipeline: "iot".into(),
        id: "readings".into(),
        directory: PathBuf::from("."),
        key: vec![],
        once: false,
        cold_start: false,
        console: Arc::new(NoConsole),
    };
    parse::<MqttOptions>(options)?.build(SourceContext { stage, framing: None, role: Role::Leader })
}

/// A row: its topic and its payload.
pub type Row = (String, String);

pub fn row(topic: &str, payload: &str) -> Row {
    (topic.into(), payload.into())
}

/// A source with its reader.
pub struct Subscribed {
    pub source: Box<dyn Source>,
    pub reader: Box<dyn Reader>,
}

pub fn partition() -> Partition {
    Partition::numbered(0)
}

/// Where a log ends that nothing else is known of.
pub const FROM: u64 = 700;

impl Subscribed {
    pub async fn start(options: Value) -> Self {
        Self::start_at(options, &Position::at(FROM)).await
    }

    /// As after a restart with a log that ends there.
    pub async fn start_at(options: Value, from: &Position) -> Self {
        Self::try_start(options, from).await.map_err(|error| error.chain()).expect("it subscribes")
    }

    pub async fn try_start(options: Value, from: &Position) -> Result<Self> {
        let mut source = try_build(options)?;
        let reader = source.open(&partition(), Some(from)).await?;
        Ok(Subscribed { source, reader })
    }

    /// So many rows, waited for.
    pub async fn rows(&mut self, count: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        while rows.len() < count {
            rows.extend(self.some_rows().await);
        }
        assert_eq!(rows.len(), count, "{rows:?}");
        rows
    }

    /// Those that come next.
    pub async fn some_rows(&mut self) -> Vec<Row> {
        timeout(SOON, self.next_rows()).await.expect("a row comes")
    }

    /// Goes on over outages, as the engine does.
    async fn next_rows(&mut self) -> Vec<Row> {
        loop {
            match self.reader.next(None).await {
                Err(error) if error.kind() == ErrorKind::Transient => {}
                batch => {
                    let rows = Self::rows_of(batch.unwrap().unwrap());
                    if !rows.is_empty() {
                        return rows;
                    }
                }
            }
        }
    }

    fn rows_of(batch: SourceBatch) -> Vec<Row> {
        if batch.offsets.is_empty() {
            return Vec::new();
        }
        let SourceRows::Raw(raw) = batch.rows else { panic!("it gives payloads") };
        let keys = raw.keys.expect("each has its topic");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (0..raw.payloads.len()).map(|row| (text(keys.value(row)), text(raw.payloads.value(row)))).collect()
    }

    /// Nothing more comes.
    pub async fn is_silent(&mut self) {
        let more = timeout(A_WHILE, self.next_rows()).await;
        assert!(more.is_err(), "{more:?}");
    }

    /// The epoch with all rows so far is on disk; what is kept with it.
    pub async fn logged(&mut self) -> Position {
        let position = self.reader.position();
        self.source.logged(&partition(), &position).await.unwrap();
        position
    }

    /// Stops, as a pipeline does.
    pub async fn stop(mut self) {
        self.source.release(&partition()).await.unwrap();
    }
}
