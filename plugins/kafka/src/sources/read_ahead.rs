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

/// Bytes of a partition in a fetch. What a fetch brings is unpacked at once, and with twice as much it is no longer near the
/// processor when it is taken.
const FETCH_BYTES: usize = 1 << 20;
const LEAST_FETCH_BYTES: usize = 64 << 10;

/// Bytes of a fetch, for each partition that may be in it: with less, those of sixteen came in turns, for more CPU.
const FETCH_BYTES_OF_EACH: usize = 256 << 10;
const MOST_FETCH_BYTES: usize = 4 << 20;

/// Sets what the user has not set, for so many partitions of the topics together, whoever holds them.
///
/// A message takes about 350 bytes of librdkafka's own beside its payload. A message larger than a fetch is still read.
pub(crate) fn set_read_ahead(config: &mut ClientConfig, n_partitions: usize) {
    let n_partitions = n_partitions.max(1);
    let share = |least: usize, of_one: usize, of_all: usize| (of_all / n_partitions).clamp(least, of_one);
    let fetch_bytes = (FETCH_BYTES_OF_EACH * n_partitions).clamp(FETCH_BYTES, MOST_FETCH_BYTES);
    // librdkafka wants room for the largest message in a fetch.
    let largest = config.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    for (name, alias, value) in [
        ("queued.min.messages", "", share(LEAST_OF_ONE, OF_ONE, OF_ALL)),
        ("queued.max.messages.kbytes", "", share(LEAST_KIBIBYTES, KIBIBYTES, 2 * KIBIBYTES)),
        (
            "fetch.message.max.bytes",
            "max.partition.fetch.bytes",
            share(LEAST_FETCH_BYTES, FETCH_BYTES, 4 * FETCH_BYTES),
        ),
        ("fetch.max.bytes", "", fetch_bytes.max(largest)),
    ] {
        if config.get(name).is_none() && config.get(alias).is_none() {
            config.set(name, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    #[test]
    fn each_of_many_partitions_reads_ahead_less() {
        for (n_partitions, messages, fetch_bytes) in [
            (0, "12000", 1 << 20),
            (1, "12000", 1 << 20),
            (4, "12000", 1 << 20),
            (16, "12000", 4 << 20),
            (64, "3000", 4 << 20),
            (1_000, "600", 4 << 20),
        ] {
            let mut config = ClientConfig::new();
            config.set("fetch.message.max.bytes", "1000");
            set_read_ahead(&mut config, n_partitions);
            assert_eq!(config.get("queued.min.messages"), Some(messages), "{n_partitions}");
            assert_eq!(config.get("fetch.max.bytes"), Some(fetch_bytes.to_string().as_str()), "{n_partitions}");
            assert_eq!(config.get("fetch.message.max.bytes"), Some("1000"), "the user has the last word");
            config.create_native_config().unwrap();
        }
        let mut config = ClientConfig::new();
        config.set("max.partition.fetch.bytes", "65536");
        set_read_ahead(&mut config, 1);
        assert_eq!(config.get("fetch.message.max.bytes"), None, "it has two names");
    }

    #[test]
    fn a_fetch_has_room_for_the_largest_message_there_may_be() {
        let mut config = ClientConfig::new();
        config.set("message.max.bytes", "5000000");
        set_read_ahead(&mut config, 1);
        config.create::<BaseConsumer>().unwrap();
        config.set("fetch.max.bytes", "4999999");
        assert!(config.create::<BaseConsumer>().is_err(), "librdkafka refuses less");
    }
}
