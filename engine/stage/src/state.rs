//! The state of a stage as the engine keeps it: bytes by key.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, StageError};

/// Where a stage writes what has changed, or all there is.
pub trait StateWriter {
    /// Sets the value of a key.
    fn put(&mut self, key: &[u8], value: &[u8]);
    /// Forgets a key.
    fn delete(&mut self, key: &[u8]);
    /// Says, before the first put or delete of a save, that it puts all keys there are: none of what was written before it
    /// is needed then. What was forgotten is deleted all the same: who keeps the state may ignore this, as is done for stages
    /// in libraries, and until a checkpoint counts.
    fn is_whole(&mut self) {}
}

/// The state of a stage as of a checkpoint, given to its constructor. Empty at a first start.
#[derive(Debug, Default)]
pub struct SavedState {
    /// Key and value, in the order of the keys' bytes.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl SavedState {
    /// True at a first start.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Writes a value of a stage's state: MessagePack with field names, so that a field may be added later.
pub fn encode<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    rmp_serde::encode::write_named(buffer, value)
        .map_err(|error| StageError::fatal("state cannot be written").because(error))
}

/// Reads what [`encode`] wrote.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| StageError::fatal("saved state cannot be read").because(error))
}
