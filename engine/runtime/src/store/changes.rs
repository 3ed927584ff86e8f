//! What has changed in the state of a stage between two checkpoints.

use std::iter;

/// The changes of one stage's state between two checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageChanges {
    /// The stage's id.
    pub stage: String,
    /// In the order they were made.
    pub changes: Changes,
    /// They are, with the other parts of the same save, all there is of the stage's state.
    pub is_whole: bool,
}

/// Keys and their values, none for a deleted key, in the order they were made. They stand one after the other, not each in
/// memory of its own: there may be one for each of a million series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    bytes: Vec<u8>,
    /// How long each key is, and its value.
    lengths: Vec<(usize, Option<usize>)>,
}

/// How many bytes of changes are written at once: some milliseconds of work, and one fsync.
pub(crate) const PART_BYTES: usize = 1 << 20;

impl Changes {
    /// None yet, with room for so many bytes: memory that is not written to costs nothing.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Changes { bytes: Vec::with_capacity(bytes), lengths: Vec::new() }
    }

    /// Adds a change: a key has a value from here on, or none.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.lengths.push((key.len(), value.map(<[u8]>::len)));
    }

    /// Each key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        let mut next = move |length: usize| rest.split_off(..length).expect("it was pushed");
        self.lengths.iter().map(move |&(key, value)| (next(key), value.map(&mut next)))
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// What is written: keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The same in parts of about [`PART_BYTES`], one after the other; none when there are no changes.
    pub(crate) fn in_parts(self) -> impl Iterator<Item = Changes> {
        let (small, large) = match self.bytes() <= PART_BYTES {
            true => (Some(self), Changes::default()),
            false => (None, self),
        };
        let (mut at, mut at_byte) = (0, 0);
        let part = move || {
            let (first, first_byte) = (at, at_byte);
            while at < large.len() && at_byte - first_byte < PART_BYTES {
                let (key, value) = large.lengths[at];
                (at, at_byte) = (at + 1, at_byte + key + value.unwrap_or(0));
            }
            let lengths = large.lengths[first..at].to_vec();
            (first < at).then(|| Changes { bytes: large.bytes[first_byte..at_byte].to_vec(), lengths })
        };
        small.into_iter().filter(|all| !all.is_empty()).chain(iter::from_fn(part))
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, Option<V>)> for Changes {
    fn from_iter<I: IntoIterator<Item = (K, Option<V>)>>(all: I) -> Self {
        let mut changes = Changes::default();
        all.into_iter().for_each(|(key, value)| changes.push(key.as_ref(), value.as_ref().map(AsRef::as_ref)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_pushed() {
        let all: [(&[u8], Option<&[u8]>); 5] =
            [(b"a", Some(b"one")), (b"", Some(b"no key")), (b"b", None), (b"c", Some(b"")), (b"a", Some(b"two"))];
        let changes: Changes = all.into_iter().collect();
        assert!(changes.iter().eq(all));
        assert_eq!((changes.len(), changes.bytes(), changes.is_empty()), (5, 16, false));
        assert!(changes.clone().in_parts().eq([changes]));
        assert_eq!(Changes::default().in_parts().count(), 0);
    }

    #[test]
    fn many_are_written_in_parts_with_all_of_them_in_their_order() {
        let value = vec![7; 1_000];
        let changes: Changes = (0..3_000_u32).map(|key| (key.to_le_bytes(), Some(&value))).collect();
        let parts: Vec<Changes> = changes.clone().in_parts().collect();
        assert_eq!(parts.len(), 3);
        assert!(parts[..2].iter().all(|part| (PART_BYTES..PART_BYTES + 1_004).contains(&part.bytes())));
        assert!(parts.iter().flat_map(Changes::iter).eq(changes.iter()));
    }
}
