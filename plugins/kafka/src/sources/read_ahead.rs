//! How much librdkafka reads ahead, which is most of what a source takes in memory.

use rdkafka::ClientConfig;

/// Messages of a partition that is alone: a little more than a fetch at millions of rows a second.
const ALONE: usize = 20_000;

/// Messages of each of several, so that up to 16 have room for more than a batch, and of all of them together. A partition
/// that has more waiting is left out of the next fetch, and when the others have no more, that one lasts as long as
/// `fetch.wait.max.ms` says. A fetch brings at least one of the producer's batches, up to 10,000 small messages: with room
/// for less than that, the last partition of a topic came a batch at a time.
const OF_SEVERAL: usize = 12_000;
const OF_ALL: usize = 16 * OF_SEVERAL;

const KIBIBYTES: usize = 16 << 10;
const FETCH_BYTES: usize = 2 << 20;

/// However many partitions there are, each may have a thirty-second of what one may have that is alone.
const LEAST: usize = 32;

/// Sets what the user has not set, for so many partitions of the topics together, whoever holds them.
///
/// A message takes about 350 bytes of librdkafka's own beside its payload. A message larger than a fetch is still read.
pub(crate) fn set_read_ahead(config: &mut ClientConfig, n_partitions: usize) {
    let messages = if n_partitions <= 1 { ALONE } else { (OF_ALL / n_partitions).clamp(ALONE / LEAST, OF_SEVERAL) };
    let bytes = |of_one: usize| (2 * of_one / n_partitions.max(1)).clamp(of_one / LEAST, of_one);
    for (name, alias, value) in [
        ("queued.min.messages", "", messages),
        ("queued.max.messages.kbytes", "", bytes(KIBIBYTES)),
        ("fetch.message.max.bytes", "max.partition.fetch.bytes", bytes(FETCH_BYTES)),
    ] {
        if config.get(name).is_none() && config.get(alias).is_none() {
            config.set(name, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_partitions_reads_ahead_less() {
        for (n_partitions, messages) in
            [(0, "20000"), (1, "20000"), (2, "12000"), (16, "12000"), (64, "3000"), (1_000, "625")]
        {
            let mut config = ClientConfig::new();
            config.set("fetch.message.max.bytes", "1000");
            set_read_ahead(&mut config, n_partitions);
            assert_eq!(config.get("queued.min.messages"), Some(messages), "{n_partitions}");
            assert_eq!(config.get("fetch.message.max.bytes"), Some("1000"), "the user has the last word");
            config.create_native_config().unwrap();
        }
        let mut config = ClientConfig::new();
        config.set("max.partition.fetch.bytes", "65536");
        set_read_ahead(&mut config, 1);
        assert_eq!(config.get("fetch.message.max.bytes"), None, "it has two names");
    }
}
