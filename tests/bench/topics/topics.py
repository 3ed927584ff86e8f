"""Topics of other shapes than a comparison's own: topics.json says what each is like."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).resolve().parent
PRODUCER = os.environ.get("PRODUCER") or HERE.parents[2] / "target/release/bench-topics"
BROKERS = os.environ.get("BENCH_BROKERS", "127.0.0.1:9092")
EXPECTED = Path(os.environ.get("BENCH_HOME") or Path.home() / ".cache/pipeline-bench") / "expected.json"
TOPICS = json.loads((HERE / "topics.json").read_text())


def delete(topic):
    admin = AdminClient({"bootstrap.servers": BROKERS})
    if topic in admin.list_topics(timeout=10).topics:
        admin.delete_topics([topic])[topic].result()


def create(topic):
    delete(topic)
    admin = AdminClient({"bootstrap.servers": BROKERS})
    for _ in range(100):  # a deleted topic goes away a little later
        try:
            admin.create_topics([NewTopic(topic, TOPICS[topic].get("partitions", 1), 1)])[topic].result()
            return
        except KafkaException:
            time.sleep(0.1)
    sys.exit(f"cannot create {topic}")


def start(topic):
    """The producer, which prints one line of JSON."""
    command = [PRODUCER, BROKERS, topic, json.dumps(TOPICS[topic])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rows_of(topic):
    """How many messages the broker has."""
    consumer = Consumer({"bootstrap.servers": BROKERS, "group.id": "bench-load"})
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, i)) for i in range(TOPICS[topic].get("partitions", 1))]
    consumer.close()
    return sum(high - low for low, high in ends)


def finish(topic, producer):
    """Waits for the producer; the number of anomalies."""
    said, _ = producer.communicate()
    if producer.returncode != 0:
        sys.exit(f"the producer ended with {producer.returncode}")
    made = json.loads(said)
    stored = rows_of(topic)
    if stored != made["rows"]:
        sys.exit(f"{topic} has {stored} rows of {made['rows']}")
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    known[topic] = {str(made["rows"]): made["anomalies"]}
    EXPECTED.write_text(json.dumps(known, indent=1) + "\n")
    return made["anomalies"]
