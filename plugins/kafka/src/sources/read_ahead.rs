//! How much librdkafka reads ahead, which is most of what a source takes in memory.

use rdkafka::ClientConfig;

/// Of one partition: a little more than a fetch at millions of rows a second.
const MESSAGES: usize = 20_000;
const KIBIBYTES: usize = 16 << 10;
const FETCH_BYTES: usize = 2 << 20;

/// Of all partitions of the topics together, whoever holds them; each has at least a thirty-second part.
const ALL: usize = 2;
const LEAST: usize = 32;

/// Sets what the user has not set, for so many partitions.
///
/// A message takes about 350 bytes of librdkafka's own beside its payload. A message larger than a fetch is still read.
pub(crate) fn set_read_ahead(config: &mut ClientConfig, n_partitions: usize) {
    for (name, alias, of_one) in [
        ("queued.min.messages", "", MESSAGES),
        ("queued.max.messages.kbytes", "", KIBIBYTES),
        ("fetch.message.max.bytes", "max.partition.fetch.bytes", FETCH_BYTES),
    ] {
        if config.get(name).is_none() && config.get(alias).is_none() {
            config.set(name, (of_one * ALL / n_partitions.max(1)).clamp(of_one / LEAST, of_one).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_partitions_read_ahead_as_much_as_few_together() {
        for (n_partitions, messages) in [(0, "20000"), (1, "20000"), (2, "20000"), (4, "10000"), (1_000, "625")] {
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
