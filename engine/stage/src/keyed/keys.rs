//! The keys of a batch, encoded and hashed once, for all detectors that have the same key.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, RecordBatch};
use hashbrown::DefaultHashBuilder;

use super::key::{KeyBytes, KeyColumns};

/// One for the process: keys that were hashed for one table are looked up in another.
static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// The hash by which a table finds a key.
#[inline]
pub(super) fn hash_of(key: &[u8]) -> u64 {
    hash_by(&HASHER, key)
}

#[inline]
fn hash_by(builder: &DefaultHashBuilder, key: &[u8]) -> u64 {
    let mut hasher = builder.build_hasher();
    match key.last_chunk::<AT_ONCE>() {
        // The last ones overlap.
        Some(end) => {
            let (chunks, _) = key[..key.len() - 1].as_chunks::<AT_ONCE>();
            chunks.iter().chain([end]).for_each(|chunk| hasher.write_u128(u128::from_le_bytes(*chunk)));
        }
        None => hasher.write(key),
    }
    // One more step: without it numbered names would stand in clumps, as the lower bits say where an index looks first.
    hasher.write_usize(key.len());
    hasher.finish()
}

/// Whether two keys are the same. Most are short: some comparisons of a known length need no call.
#[inline]
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (Some(one_end), Some(other_end)) = (one.last_chunk::<AT_ONCE>(), other.last_chunk::<AT_ONCE>()) else {
        return one == other;
    };
    let mut chunks = one.as_chunks::<AT_ONCE>().0.iter().zip(other.as_chunks::<AT_ONCE>().0);
    one.len() == other.len() && one_end == other_end && chunks.all(|(one, other)| one == other)
}

/// So many bytes are compared at once.
const AT_ONCE: usize = 16;

/// The keys of the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: KeyBytes,
    hashes: Vec<u64>,
}

impl Keys {
    /// Writes the keys of a batch where those of another one stand.
    fn write(&mut self, columns: &KeyColumns, rows: &RecordBatch) {
        columns.write_keys(rows, &mut self.bytes);
        self.hashes.clear();
        self.hashes.extend((0..self.bytes.len()).map(|row| hash_of(self.bytes.key(row))));
    }

    /// How many rows they are of.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The key of a row.
    #[inline]
    pub fn key(&self, row: usize) -> &[u8] {
        self.bytes.key(row)
    }

    /// Its hash.
    #[inline]
    pub fn hash(&self, row: usize) -> u64 {
        self.hashes[row]
    }
}

/// How many different keys the detectors of a task have, mostly.
const CACHED: usize = 4;

/// Keys of the batch that goes through the stages of a task, each with the columns they are of.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    known: Vec<(Vec<ArrayRef>, Arc<Keys>)>,
    /// Keys of a batch before: their memory is near the processor still.
    spare: Vec<Keys>,
}

impl KeyCache {
    /// Forgets the keys of the batch, but not the memory that they took.
    pub fn clear(&mut self) {
        // The first ones are taken first again.
        self.spare.extend(self.known.drain(..).rev().filter_map(|(_, keys)| Arc::into_inner(keys)));
        self.spare.truncate(CACHED);
    }

    /// The keys of a batch: those that are known if they are of the very same arrays.
    pub fn keys(&mut self, columns: &KeyColumns, rows: &RecordBatch) -> Arc<Keys> {
        let arrays: Vec<ArrayRef> = columns.arrays(rows).cloned().collect();
        // A cached array is alive, so none of the same address can be another one.
        let is_same = |cached: &[ArrayRef]| {
            cached.len() == arrays.len() && cached.iter().zip(&arrays).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        // A key without columns is the same for each row, of which there may be another number.
        let is_of = |(cached, keys): &&(Vec<ArrayRef>, Arc<Keys>)| is_same(cached) && keys.len() == rows.num_rows();
        if let Some((_, keys)) = self.known.iter().find(is_of) {
            return Arc::clone(keys);
        }
        let mut keys = self.spare.pop().unwrap_or_default();
        keys.write(columns, rows);
        let keys = Arc::new(keys);
        if self.known.len() == CACHED {
            self.known.remove(0);
        }
        self.known.push((arrays, Arc::clone(&keys)));
        keys
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;

    #[test]
    fn keys_are_the_same_byte_for_byte() {
        for length in 0..70 {
            let key: Vec<u8> = (0..length).collect();
            assert!(is_same(&key, &key.clone()), "{length} bytes");
            for place in 0..key.len() {
                let mut other = key.clone();
                other[place] ^= 1;
                assert!(!is_same(&key, &other), "{length} bytes, other at {place}");
                assert!(!is_same(&key, &key[..place]) && !is_same(&key[place + 1..], &key), "{length} and {place}");
            }
        }
    }

    #[test]
    fn numbered_names_are_spread_whatever_the_seed() {
        const PLACES: usize = 1 << 13;
        const N_KEYS: usize = 5_000;
        let families: [fn(usize) -> String; 5] = [
            |number| format!("s{number:05}"),
            |number| format!("{number:07}"),
            |number| format!("{number:011}"),
            |number| format!("dev-{number:06}"),
            |number| format!("twenty-of-these-here{number:07}"),
        ];
        for name in families {
            let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..N_KEYS).map(name)));
            let rows = RecordBatch::try_from_iter([("id", column)]).unwrap();
            let keys = KeyColumns::new(&["id".into()], rows.schema_ref(), "key").unwrap().keys(&rows);
            for _ in 0..100 {
                let (builder, mut is_taken, mut looked) = (DefaultHashBuilder::default(), [false; PLACES], 0);
                for row in 0..N_KEYS {
                    let mut at = hash_by(&builder, keys.key(row)) as usize % PLACES;
                    looked += 1;
                    while is_taken[at] {
                        at = (at + 1) % PLACES;
                        looked += 1;
                    }
                    is_taken[at] = true;
                }
                // With random numbers it is 1.8.
                assert!(looked < N_KEYS * 5 / 2, "{} places for a key like {}", looked / N_KEYS, name(7));
            }
        }
    }

    #[test]
    fn every_byte_of_a_key_matters_to_its_hash() {
        for length in [1, 15, 16, 17, 31, 32, 33, 48] {
            let key: Vec<u8> = (0..length).collect();
            for place in 0..key.len() {
                let mut other = key.clone();
                other[place] ^= 1;
                assert_ne!(hash_of(&key), hash_of(&other), "{length} bytes, other at {place}");
            }
        }
    }

    #[test]
    fn keys_of_the_same_arrays_are_encoded_once() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
        let rows = RecordBatch::try_from_iter([("id", Arc::clone(&column)), ("unit", column)]).unwrap();
        let columns = KeyColumns::new(&["id".into()], rows.schema_ref(), "key").unwrap();
        let mut cache = KeyCache::default();
        let keys = cache.keys(&columns, &rows);
        let fewer = rows.project(&[0]).unwrap();
        assert!(Arc::ptr_eq(&keys, &cache.keys(&columns, &fewer)), "the same array, in another batch");
        assert_eq!((keys.key(0), keys.hash(0)), (keys.key(2), keys.hash(2)));
        assert_ne!(keys.key(0), keys.key(1));
        let sliced = cache.keys(&columns, &rows.slice(1, 2));
        assert_eq!((sliced.key(0), sliced.key(1)), (keys.key(1), keys.key(2)), "other arrays have keys of their own");
        let both = KeyColumns::new(&["id".into(), "unit".into()], rows.schema_ref(), "key").unwrap();
        assert_eq!(cache.keys(&both, &rows).key(0).len(), 2 * keys.key(0).len());
        let none = KeyColumns::new(&[], rows.schema_ref(), "key").unwrap();
        for n_rows in [1, 3, 2] {
            let keys = cache.keys(&none, &rows.slice(0, n_rows));
            assert_eq!((keys.len(), keys.key(n_rows - 1)), (n_rows, &b""[..]));
        }
    }

    #[test]
    fn keys_are_the_same_where_those_of_another_batch_stood() {
        let batch = |words: Vec<Option<String>>| {
            RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(words)) as ArrayRef)]).unwrap()
        };
        let words = |rows: usize, length: usize| -> Vec<Option<String>> {
            (0..rows).map(|row| Some(row.to_string().repeat(length))).collect()
        };
        let with_nulls = words(9, 3).into_iter().enumerate().map(|(row, word)| word.filter(|_| row % 2 == 0)).collect();
        let batches = [words(50, 20), words(3, 1), with_nulls, words(0, 0), words(60, 2), words(50, 20)].map(batch);
        let columns = KeyColumns::new(&["id".into()], batches[0].schema_ref(), "key").unwrap();
        let mut cache = KeyCache::default();
        for rows in &batches {
            cache.clear();
            let (keys, fresh) = (cache.keys(&columns, rows), columns.keys(rows));
            assert_eq!(keys.len(), fresh.len());
            for row in 0..keys.len() {
                assert_eq!((keys.key(row), keys.hash(row)), (fresh.key(row), hash_of(fresh.key(row))), "row {row}");
            }
            assert!(cache.spare.is_empty(), "what was there is used");
        }
        cache.clear();
        cache.clear();
        assert_eq!((cache.known.len(), cache.spare.len()), (0, 1), "a batch without keys changes nothing");
        for (n_columns, rows) in [(2, &batches[4]), (0, &batches[1]), (1, &batches[0])] {
            let columns = KeyColumns::new(&vec!["id".into(); n_columns], rows.schema_ref(), "key").unwrap();
            let (keys, fresh) = (cache.keys(&columns, rows), columns.keys(rows));
            assert!((0..fresh.len()).all(|row| keys.key(row) == fresh.key(row)), "{n_columns} columns");
            drop(keys);
            cache.clear();
        }
        let held = cache.keys(&columns, &batches[0]);
        cache.clear();
        assert!(cache.spare.is_empty(), "what somebody still reads is not written over");
        assert_eq!(held.key(1), columns.keys(&batches[0]).key(1));
    }
}
