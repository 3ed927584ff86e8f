//! Whether topics that are read are still those that were opened: of one that was deleted librdkafka says nothing, and in
//! one that was made anew it goes on at the offset where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::consumer::KafkaConsumer;
use crate::sources::missing::made_anew;
use crate::sources::topic_id::{TopicFound, topic_id};

/// How often it is looked: soon enough for people, and one small question for each topic.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the driver waits for an answer; without one it looks again later.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

/// The topics that were opened.
pub(crate) struct WatchedTopics {
    topics: BTreeMap<Arc<str>, Known>,
    next_look: Instant,
}

struct Known {
    /// None: the brokers give no ids.
    id: Option<Arc<str>>,
    /// It was not there at the last look.
    is_missed: bool,
}

impl WatchedTopics {
    /// None yet.
    pub(crate) fn new() -> Self {
        WatchedTopics { topics: BTreeMap::new(), next_look: Instant::now() + LOOK_EVERY }
    }

    /// A partition of this topic is read from here on.
    pub(crate) fn opened(&mut self, topic: &Arc<str>, id: Option<Arc<str>>) {
        self.topics.insert(Arc::clone(topic), Known { id, is_missed: false });
    }

    /// Looks, if it is time to; says what is wrong.
    pub(crate) fn look(&mut self, asker: &KafkaConsumer) -> Option<String> {
        if Instant::now() < self.next_look {
            return None;
        }
        let mut problem = None;
        for (topic, known) in &mut self.topics {
            match topic_id(asker, topic, LOOK_TIMEOUT) {
                Some(TopicFound::Id(is)) => {
                    known.is_missed = false;
                    problem = problem.or(made_anew(topic, known.id.as_deref(), Some(&is)));
                }
                // A broker that has just started may not know all topics: only the second time counts.
                Some(TopicFound::Gone) if known.is_missed => {
                    problem = problem.or(Some(format!("`{topic}` was deleted while it was read")));
                }
                Some(TopicFound::Gone) => known.is_missed = true,
                Some(TopicFound::WithoutId) | None => {}
            }
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        problem
    }
}
