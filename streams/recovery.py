"""Reading a lane's newest snapshot from the changelog topic."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from fleetwatch import kafka, topics
from fleetwatch.errors import TransientError
from fleetwatch.logs import get_logger
from streams import state

if TYPE_CHECKING:
    from fleetwatch.settings import Settings
    from streams.state import Manifest

log = get_logger(__name__)

READ_SECONDS: Final = 60.0


def load_snapshot(settings: Settings, topic: str, partition: int) -> tuple[Manifest, bytes] | None:
    """Return the newest whole snapshot of a lane, or None. Blocks while the changelog's partition is read.

    A snapshot that is ahead of its input's end belongs to a topic that was made anew: it counts as nothing.
    """
    consumer = Consumer(kafka.consumer_config(settings, "fleetwatch-recovery") | {"enable.partition.eof": True})
    try:
        messages = _read_partition(consumer, topics.STATE, partition)
        found = state.newest(state.lane_key(topic, partition), messages.items())
        if found is None:
            return None
        _, end = kafka.watermarks(consumer, topic, partition)
        if found[0].next_offset > end:
            log.warning("state_ignored", lane=state.lane_key(topic, partition), reason="ahead of its topic's end")
            return None
        return found
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, topic: str, partition: int) -> dict[bytes, bytes]:
    low, end = kafka.watermarks(consumer, topic, partition)
    messages: dict[bytes, bytes] = {}
    if low >= end:
        return messages
    consumer.assign([TopicPartition(topic, partition, low)])
    deadline = time.monotonic() + READ_SECONDS
    while time.monotonic() < deadline:
        for message in consumer.consume(1000, timeout=1.0):
            error = message.error()
            if error is None:
                messages[message.key() or b""] = message.value() or b""
            if (error is not None and error.code() == KafkaError._PARTITION_EOF) or (  # noqa: SLF001
                error is None and message.offset() + 1 >= end
            ):
                consumer.unassign()
                return messages
    raise TransientError(f"{topic} [{partition}] was not read to its end in {READ_SECONDS:.0f} s")
