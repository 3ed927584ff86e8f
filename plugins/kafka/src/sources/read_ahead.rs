//! How much librdkafka reads ahead, which is most of what a source takes in memory.

use rdkafka::ClientConfig;

/// Messages of a partition: more than a batch, and more than a fetch of small ones. A partition that has more waiting is left
/// out of the next fetch, and when the others have no more, that one lasts as long as `fetch.wait.max.ms` says. A fetch brings
/// at least one of the producer's batches, up to 10,000 small messages: with room for less than that, the last partition of a
/// topic came a batch at a time.
const OF_ONE: usize = 12_000;

/// Messages of all partitions together.
const OF_ALL: usize = 16 * OF_ONE;

/// However many partitions there are, each has so many.
const LEAST_OF_ONE: usize = 600;

const KIBIBYTES: usize = 16 << 10;
const LEAST_KIBIBYTES: usize = 512;

/// Bytes of a partition in a fetch, as they are sent. What a fetch brings is unpacked at once, and twice as much is no longer
/// near the processor when it is taken.
const FETCH_BYTES: usize = 1 << 20;
const LEAST_FETCH_BYTES: usize = 64 << 10;

/// Bytes of a whole fetch, for each partition that may be in it: sixteen that came in turns took more CPU.
const FETCH_BYTES_OF_EACH: usize = 256 << 10;

/// Bytes of a whole fetch of many partitions, while there is room for the least of each.
const MANY_FETCH_BYTES: usize = 4 << 20;

/// librdkafka's default.
const MOST_FETCH_BYTES: usize = 50 << 20;

/// Sets what the user has not set, for so many partitions of the topics together, whoever holds them.
///
/// A message takes about 350 bytes of librdkafka's own beside its payload. A message larger than a fetch is still read.
pub(crate) fn set_read_ahead(config: &mut ClientConfig, n_partitions: usize) {
    let n_partitions = n_partitions.max(1);
    let share = |least: usize, of_one: usize, of_all: usize| (of_all / n_partitions).clamp(least, of_one);
    set(config, &["queued.min.messages"], share(LEAST_OF_ONE, OF_ONE, OF_ALL));
    set(config, &["queued.max.messages.kbytes"], share(LEAST_KIBIBYTES, KIBIBYTES, 2 * KIBIBYTES));
    let of_partition = ["fetch.message.max.bytes", "max.partition.fetch.bytes"];
    set(config, &of_partition, share(LEAST_FETCH_BYTES, FETCH_BYTES, 4 * FETCH_BYTES));
    let bytes = (FETCH_BYTES_OF_EACH * n_partitions).clamp(FETCH_BYTES, MANY_FETCH_BYTES);
    let bytes = bytes.max((LEAST_FETCH_BYTES * n_partitions).min(MOST_FETCH_BYTES));
    // There must be room for the largest message, and for what the user wants of a partition.
    let wanted =
        ["message.max.bytes"].into_iter().chain(of_partition).filter_map(|name| config.get(name)?.parse().ok());
    let bytes = wanted.fold(bytes, usize::max);
    set(config, &["fetch.max.bytes"], bytes);
}

/// Sets what has one or two names, if the user has set it by none of them.
fn set(config: &mut ClientConfig, names: &[&str], value: usize) {
    if names.iter().all(|name| config.get(name).is_none()) {
        config.set(names[0], value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    const NAMES: [&str; 4] =
        ["queued.min.messages", "queued.max.messages.kbytes", "fetch.message.max.bytes", "fetch.max.bytes"];

    /// What is set beside some settings of the user.
    fn set_beside(settings: &[(&str, &str)], n_partitions: usize) -> [Option<usize>; 4] {
        let mut config = ClientConfig::new();
        settings.iter().for_each(|(name, value)| _ = config.set(*name, *value));
        set_read_ahead(&mut config, n_partitions);
        config.create::<BaseConsumer>().unwrap();
        NAMES.map(|name| config.get(name).map(|value| value.parse().unwrap()))
    }

    #[test]
    fn each_of_many_partitions_reads_ahead_less() {
        for (n_partitions, right) in [
            (0, [12_000, 16 << 10, 1 << 20, 1 << 20]),
            (1, [12_000, 16 << 10, 1 << 20, 1 << 20]),
            (4, [12_000, 8 << 10, 1 << 20, 1 << 20]),
            (16, [12_000, 2 << 10, 256 << 10, 4 << 20]),
            (64, [3_000, 512, 64 << 10, 4 << 20]),
            (200, [960, 512, 64 << 10, 200 << 16]),
            (1_000, [600, 512, 64 << 10, 50 << 20]),
        ] {
            assert_eq!(set_beside(&[], n_partitions), right.map(Some), "{n_partitions}");
        }
    }

    #[test]
    fn the_user_has_the_last_word() {
        let of_partition = set_beside(&[("fetch.message.max.bytes", "8000000")], 1);
        assert_eq!(of_partition, [Some(12_000), Some(16 << 10), Some(8_000_000), Some(8_000_000)]);
        let by_its_other_name = set_beside(&[("max.partition.fetch.bytes", "8000000")], 1);
        assert_eq!(by_its_other_name, [Some(12_000), Some(16 << 10), None, Some(8_000_000)]);
        let of_all = set_beside(&[("fetch.max.bytes", "3000000"), ("queued.min.messages", "7")], 1);
        assert_eq!(of_all, [Some(7), Some(16 << 10), Some(1 << 20), Some(3_000_000)]);
        // librdkafka refuses fetches without room for the largest message.
        assert_eq!(set_beside(&[("message.max.bytes", "5000000")], 1)[3], Some(5_000_000));
    }
}
