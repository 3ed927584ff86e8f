//! Changes of a topic that is there: what an administrator or retention does to it.

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWERS_WITHIN, Kafka, wait_for_leaders};
use crate::waiting::blocking;

impl Kafka {
    /// Deletes a topic; a topic of the same name that is made then is another one.
    pub async fn delete_topic(&self, name: &str) {
        let deleted = self.admin().delete_topics(&[name], &options()).await;
        let deleted = deleted.unwrap_or_else(|error| panic!("cannot delete topic `{name}`: {error}"));
        assert!(deleted.iter().all(Result::is_ok), "cannot delete topic `{name}`: {deleted:?}");
    }

    /// Adds partitions to a topic, so that it has so many, and waits until each has a leader.
    pub async fn add_partitions(&self, name: &str, n_partitions: i32) {
        let wanted = usize::try_from(n_partitions).expect("a number of partitions");
        let made = self.admin().create_partitions([&NewPartitions::new(name, wanted)], &options()).await;
        let made = made.unwrap_or_else(|error| panic!("cannot add partitions to `{name}`: {error}"));
        assert!(made.iter().all(Result::is_ok), "cannot add partitions to `{name}`: {made:?}");
        let (client, name) = (self.client(), name.to_owned());
        blocking(move || wait_for_leaders(&client, &name, n_partitions)).await;
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub async fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid position");
        let deleted = self.admin().delete_records(&list, &options()).await;
        let deleted = deleted.unwrap_or_else(|error| panic!("cannot delete records of `{topic}`: {error}"));
        for element in deleted.elements() {
            element.error().unwrap_or_else(|error| panic!("cannot delete records of `{topic}`: {error}"));
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("the settings are valid")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ANSWERS_WITHIN))
}
