//! Arrow IPC messages that come one at a time: the schema, then batches.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::SchemaRef;
use pipeline_stage::{Result, StageError};

/// Begins every message.
const MARKER: [u8; 4] = [0xff; 4];

/// Decodes messages.
#[derive(Default)]
pub struct Messages {
    decoder: StreamDecoder,
    has_begun: bool,
}

impl Messages {
    /// The columns, once the first message has come.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }

    /// Decodes a whole message; none for the schema. Arrow checks what it reads, and panics at some of what it finds.
    pub fn decode(&mut self, message: Vec<u8>) -> Result<Option<RecordBatch>> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_unguarded(message)));
        decoded.unwrap_or_else(|_| Err(StageError::fatal("Arrow cannot make sense of it")))
    }

    /// The rows of a message, of these columns.
    pub fn batch(&mut self, message: Vec<u8>, schema: &SchemaRef) -> Result<RecordBatch> {
        let wrong = |what: &str| StageError::fatal(format!("the Python process gave {what}"));
        let found = self.decode(message).map_err(|error| wrong("rows that are none").because(error.chain()))?;
        let (_, columns, _) = found.ok_or_else(|| wrong("half of a batch"))?.into_parts();
        let rows = RecordBatch::try_new(schema.clone(), columns);
        rows.map_err(|error| wrong("rows that its columns do not allow").because(error))
    }

    fn decode_unguarded(&mut self, message: Vec<u8>) -> Result<Option<RecordBatch>> {
        if !message.starts_with(&MARKER) {
            return Err(StageError::fatal("it is no Arrow message"));
        }
        let whole = Buffer::from_vec(message);
        // A message without a body is taken in only when the next one begins: it is given the beginning of that at once.
        let rest = if self.has_begun { whole.slice(MARKER.len()) } else { whole };
        self.has_begun = true;
        let mut found = None;
        for mut part in [rest, Buffer::from(&MARKER)] {
            while !part.is_empty() {
                let batch = self.decoder.decode(&mut part)?;
                if found.is_some() && batch.is_some() {
                    return Err(StageError::fatal("it is more than one message"));
                }
                found = found.or(batch);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_ipc::writer::StreamWriter;
    use pipeline_testkit::Random;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter((0..count).map(|row| (row % 3 > 0).then(|| "x".repeat(row)))));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("t", texts, true)]).expect("two columns")
    }

    fn messages(counts: &[usize]) -> Vec<Vec<u8>> {
        let mut writer = StreamWriter::try_new(Vec::new(), &rows(0).schema()).expect("a schema");
        let mut messages = vec![std::mem::take(writer.get_mut())];
        for &count in counts {
            writer.write(&rows(count)).expect("rows");
            messages.push(std::mem::take(writer.get_mut()));
        }
        messages
    }

    #[test]
    fn each_message_is_taken_in_at_once() {
        let counts = [3, 0, 1, 0, 0, 500];
        let (mut decoder, mut messages) = (Messages::default(), messages(&counts).into_iter());
        let schema = messages.next().expect("the first");
        assert_eq!(decoder.decode(schema).expect("a schema"), None);
        assert_eq!(decoder.schema(), Some(rows(0).schema()));
        for (count, message) in counts.into_iter().zip(messages) {
            assert_eq!(decoder.decode(message).expect("rows"), Some(rows(count)));
        }
    }

    #[test]
    fn damaged_messages_are_errors_or_other_rows_and_never_a_panic() {
        let good = messages(&[20]);
        let mut n_errors = 0;
        let mut random = Random::new(3);
        for _ in 0..2_000 {
            let mut decoder = Messages::default();
            decoder.decode(good[0].clone()).expect("a schema");
            let mut message = good[1].clone();
            for _ in 0..=random.below(3) {
                let at = 4 + random.below(message.len() - 4);
                message[at] = random.below(256) as u8;
            }
            n_errors += usize::from(decoder.decode(message).is_err());
        }
        assert!(300 < n_errors, "{n_errors}");
    }
}
