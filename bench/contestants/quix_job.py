"""Quix Streams: a count in its state store (RocksDB), checkpoints every 5 s as by default.

Its own tumbling_window().agg(Count(), Latest()).current() is slower by a third: it keeps the reading beside the count.
"""

import os

import job
from quixstreams import Application
from quixstreams.models import Deserializer
from quixstreams.models.topics import TopicConfig
from quixstreams.models.topics.admin import TopicAdmin

EMBEDDED = os.environ["BENCH_EMBEDDED"] == "1"
if EMBEDDED:  # the embedded broker knows no DescribeConfigs and no CreateTopics: Quix Streams asks for both
    TopicAdmin.inspect_topics = lambda _self, topic_names, timeout=30: dict.fromkeys(  # noqa: ARG005
        topic_names, TopicConfig(4, 1, {"retention.ms": "604800000", "retention.bytes": "-1"})
    )


class Reading(Deserializer):
    def __call__(self, value, ctx):  # noqa: ARG002  # the names are Quix Streams's
        return job.decode(value)


app = Application(
    broker_address=job.BROKERS,
    consumer_group=job.GROUP,
    auto_offset_reset="earliest",
    consumer_extra_config={key: value for key, value in job.CONSUMER.items() if key.startswith("fetch")},
    producer_extra_config=job.LARGE_QUEUE | {"linger.ms": 5, "compression.type": "lz4", "acks": "all"},
    state_dir=job.STATE,
    auto_create_topics=not EMBEDDED,
    use_changelog_topics=not EMBEDDED,
    loglevel="WARNING",
)
trees = job.Trees()


def event_time(value, _headers, timestamp, _timestamp_type):
    value["ingest"] = timestamp
    return value["event_time"]


def score(reading, state):
    window = reading["event_time"] // job.WINDOW_MS
    held = state.get("count")
    count = held[1] + 1 if held is not None and held[0] == window else 1
    state.set("count", [window, count])
    return job.encode(reading, count, trees.score(reading), reading["ingest"])


readings = app.topic(job.INPUT, key_deserializer="str", value_deserializer=Reading(), timestamp_extractor=event_time)
scored = app.topic(job.OUTPUT, key_serializer="str", value_serializer="bytes")
app.dataframe(readings).apply(score, stateful=True).to_topic(scored)

if __name__ == "__main__":
    app.run()
