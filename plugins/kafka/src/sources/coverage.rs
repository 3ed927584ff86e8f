//! Whether the group gives every partition to somebody.
//!
//! A member that comes back under its `instance` is given what it had, and no member leads the group then: partitions
//! that a topic got meanwhile, or gets later, are nobody's until the group is formed anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pipeline_stage::Result;
use rdkafka::consumer::Consumer;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::consumer::KafkaConsumer;
use crate::sources::driver_handle::Order;
use crate::sources::reader::Waker;
use crate::topics::partition_count;

/// How often is looked, and how often in a row a partition must be nobody's: longer than one may be on its way from a
/// member to another.
const PATIENCE: (Duration, u32) = (Duration::from_secs(10), 4);

/// With `--once` the run takes what it is given for its share soon, and there is no other member to be waited for.
const PATIENCE_ONCE: (Duration, u32) = (Duration::from_secs(1), 2);

/// How long a broker may take to answer; if it takes longer the next look will tell, and a stop waits no longer for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What is looked at.
pub(crate) struct Coverage {
    pub(crate) asker: Arc<KafkaConsumer>,
    pub(crate) group: String,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) once: bool,
}

impl Coverage {
    /// Looks for ever. Where partitions are nobody's, the driver is told to have the group formed anew.
    pub(crate) async fn watch(self, orders: mpsc::Sender<Order>, waker: Arc<Waker>) {
        let (pause, patience) = if self.once { PATIENCE_ONCE } else { PATIENCE };
        let coverage = Arc::new(self);
        let mut n_looks = 0;
        loop {
            tokio::time::sleep(pause).await;
            let looking = Arc::clone(&coverage);
            let looked = tokio::task::spawn_blocking(move || looking.has_gaps()).await;
            n_looks = if matches!(looked, Ok(Ok(true))) { n_looks + 1 } else { 0 };
            if n_looks < patience {
                continue;
            }
            n_looks = 0;
            warn!(group = %coverage.group, "partitions are read by nobody; the group is formed anew");
            if orders.send(Order::Rejoin(coverage.topics.clone())).await.is_err() {
                return;
            }
            waker.wake();
        }
    }

    /// Whether the group has settled and partitions of the topics are nobody's.
    fn has_gaps(&self) -> Result<bool> {
        let mut expected = BTreeSet::new();
        for topic in &self.topics {
            let n_partitions = partition_count(&self.asker, topic, ANSWER_WITHIN)?;
            expected.extend((0..n_partitions).map(|number| (topic.to_string(), number as i32)));
        }
        let groups = match self.asker.fetch_group_list(Some(&self.group), ANSWER_WITHIN) {
            Ok(groups) => groups,
            Err(error) => {
                debug!(group = %self.group, %error, "the brokers do not say who is in the group");
                return Ok(false);
            }
        };
        let Some(group) = groups.groups().first().filter(|group| group.state() == "Stable") else { return Ok(false) };
        for member in group.members() {
            let Some(assigned) = member.assignment().and_then(assigned) else { return Ok(false) };
            for place in &assigned {
                expected.remove(place);
            }
        }
        Ok(!expected.is_empty())
    }
}

/// What a member is given, in the form of Kafka's `ConsumerProtocolAssignment`. None: it is in another form.
fn assigned(mut bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let _version = i16::from_be_bytes(take(&mut bytes)?);
    let mut assigned = Vec::new();
    for _ in 0..i32::from_be_bytes(take(&mut bytes)?) {
        let length = u16::from_be_bytes(take(&mut bytes)?);
        let (topic, rest) = bytes.split_at_checked(length.into())?;
        bytes = rest;
        let topic = std::str::from_utf8(topic).ok()?;
        for _ in 0..i32::from_be_bytes(take(&mut bytes)?) {
            assigned.push((topic.to_owned(), i32::from_be_bytes(take(&mut bytes)?)));
        }
    }
    Some(assigned)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_broken_one_is_none() {
        let bytes = [&[0, 1, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2][..], &[0, 0, 0, 0, 0, 0, 0, 7], &[255; 4]].concat();
        assert_eq!(assigned(&bytes), Some(vec![("a".into(), 0), ("a".into(), 7)]));
        for end in 0..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..end]), None, "{end} bytes");
        }
    }
}
