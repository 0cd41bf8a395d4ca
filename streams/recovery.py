"""Reading the state of lanes from the changelog topic."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from fleetwatch import kafka, topics
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger
from streams import state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetwatch.settings import Settings
    from streams.state import Found

log = get_logger(__name__)

READ_SECONDS: Final = 60.0
_LARGE_READS: Final = {"fetch.message.max.bytes": 8 * 1024 * 1024, "queued.max.messages.kbytes": 65_536}
_READ_AT_ONCE: Final = 1000


def find_lanes(settings: Settings, partition: int, lanes: Iterable[str]) -> dict[str, Found]:
    """Return by topic what the changelog holds of the lanes of one partition. Blocks while that is read.

    A snapshot that is ahead of its input's end belongs to a topic that was made anew: it counts as nothing.

    Raises:
        TransientError: the changelog's partition was not read to its end in time.

    """
    config = kafka.consumer_config(settings, "fleetwatch-recovery") | {"enable.partition.eof": True} | _LARGE_READS
    consumer = Consumer(config)
    try:
        messages = _read_partition(consumer, topics.STATE, partition)
        found: dict[str, Found] = {}
        for topic in lanes:
            lane = state.lane_key(topic, partition)
            found[topic] = state.find(lane, messages)
            _, end = kafka.watermarks(consumer, topic, partition)
            found[topic] = replace(found[topic], input_end=end)
            if found[topic].next_offset > end:
                log.warning("state_ignored", lane=lane, reason="ahead of its topic's end")
                found[topic] = replace(found[topic], snapshot=None, next_offset=0)
        return found
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, topic: str, partition: int) -> dict[bytes, bytes]:
    """Return the latest value of each key; a tombstone's is empty."""
    low, end = kafka.watermarks(consumer, topic, partition)
    messages: dict[bytes, bytes] = {}
    if low >= end:
        return messages
    consumer.assign([TopicPartition(topic, partition, low)])
    deadline = time.monotonic() + READ_SECONDS
    while time.monotonic() < deadline:
        for message in consumer.consume(_READ_AT_ONCE, timeout=1.0):
            error = message.error()
            if error is None:
                messages[message.key() or b""] = message.value() or b""
            if (error is not None and error.code() == KafkaError._PARTITION_EOF) or (  # noqa: SLF001
                error is None and message.offset() + 1 >= end
            ):
                consumer.unassign()
                return messages
    raise TransientError(f"{topic} [{partition}] was not read to its end in {READ_SECONDS:.0f} s")
