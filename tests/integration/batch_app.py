"""Small Faust apps on the batch transport, inside of a test or as a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, Producer, TopicPartition
from faust.types import TP

from fleetwatch import kafka
from fleetwatch.settings import Settings
from streams.transport import BatchApp, RawSchema, batch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PARTITIONS = 4
PATIENCE = 120.0
"""Seconds: what is waited for takes a moment; this is for a machine with much else to do."""


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.02)


def fill(settings: Settings, topic: str, partitions: Iterable[int], values: list[bytes]) -> None:
    """Send the same values to some partitions, each in one record batch or few."""
    producer = Producer(kafka.producer_config(settings))
    for partition in partitions:
        for value in values:
            producer.produce(topic, value, b"key", partition=partition)
    assert producer.flush(60) == 0


def committed(settings: Settings, topic: str, group: str) -> dict[int, int | None]:
    """Committed offset of each partition, None where there is none."""
    consumer = Consumer(kafka.consumer_config(settings, group))
    try:
        wanted = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        found = kafka._committed(consumer, wanted, patience=PATIENCE)
    finally:
        consumer.close()
    return {position.partition: position.offset if position.offset >= 0 else None for position in found}


def make_app(settings: Settings, group: str, hot: str, folder: str, **given: Any) -> BatchApp:
    """An app as the streams make it, impatient."""
    options = {
        "broker": f"kafka://{settings.bootstrap_servers}",
        "consumer_auto_offset_reset": "earliest",
        "broker_session_timeout": 30.0,
        "broker_heartbeat_interval": 0.5,
        "broker_request_timeout": 30.0,
        "broker_commit_interval": 0.1,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "topic_partitions": PARTITIONS,
        "web_enabled": False,
        "store": "memory://",
        "datadir": folder,
    }
    return BatchApp(group, hot_topics={hot}, fetch_wait_ms=10 if settings.embedded_broker else 200, **options | given)


@dataclass(frozen=True)
class Batch:
    """What the agent got at once."""

    partition: int
    offsets: list[int]
    values: list[bytes | None]
    event: Any


class Probe:
    """An app that notes its batches; it acknowledges each (``acks``), or leaves that to the test.

    While ``gate`` is closed the agent stands still with the batch that it got last.
    """

    def __init__(self, settings: Settings, group: str, topic: str, *, acks: bool = True, **given: Any) -> None:
        self._settings, self._group, self._topic = settings, group, topic
        self._folder = tempfile.TemporaryDirectory(prefix="fleetwatch-faust-")
        self._acks = acks
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.app = make_app(settings, group, topic, self._folder.name, **given)
        self.app.agent(self.app.topic(topic, schema=RawSchema()), name="batches")(self._take)

    async def __aenter__(self) -> Self:
        await self.app.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.app.stop(), PATIENCE)
        self._folder.cleanup()

    async def _take(self, stream: Any) -> None:
        async for event in stream.noack().events():
            _, partition, records = batch_of(event)
            self.batches.append(Batch(partition, records.offsets.tolist(), records.values.to_list(), event))
            await self.gate.wait()
            if self._acks:
                event.ack()

    @property
    def owned(self) -> set[int]:
        """The partitions that it has, once a rebalance is over."""
        if self.app.rebalancing:
            return set()
        return {tp.partition for tp in self.app.consumer.assignment() if tp.topic == self._topic}

    def tps(self, *partitions: int) -> set[TP]:
        return {TP(self._topic, partition) for partition in partitions}

    def offsets(self, partition: int, first: int = 0) -> list[int]:
        """All offsets that came of a partition, in the order that they came in; from the batch ``first`` on."""
        batches = [batch for batch in self.batches[first:] if batch.partition == partition]
        return [offset for batch in batches for offset in batch.offsets]

    async def until_got(self, partition: int, offsets: list[int], first: int = 0) -> None:
        """Wait until exactly these offsets came of a partition, in this order; some may have come again."""
        with contextlib.suppress(AssertionError):
            await until(lambda: set(self.offsets(partition, first)) >= set(offsets), "")
        assert list(dict.fromkeys(self.offsets(partition, first))) == offsets, f"partition {partition}"

    async def commit(self) -> dict[int, int | None]:
        """Commit what may be committed now; return what the broker has."""
        for _ in range(2):  # the first call may be told that another commit, begun earlier, was made
            await self.app.consumer.commit()
        return await asyncio.to_thread(committed, self._settings, self._topic, self._group)


def _say(what: str, batch: tuple[int, int, int]) -> None:
    sys.stdout.write(json.dumps([what, *batch]) + "\n")
    sys.stdout.flush()


async def _work(settings: Settings, group: str, topic: str, hold: int) -> None:
    """Tell of each batch when it is done, and before it is acknowledged: late and out of order where some are held.

    The first batch is held for good then, the others while not more than ``hold`` wait.
    """
    with tempfile.TemporaryDirectory(prefix="fleetwatch-faust-") as folder:
        app = make_app(settings, group, topic, folder, broker_session_timeout=6.0)
        waiting: list[tuple[tuple[int, int, int], Any]] = []

        @app.agent(app.topic(topic, schema=RawSchema()), name="batches")
        async def take(stream: Any) -> None:
            async for event in stream.noack().events():
                _, partition, records = batch_of(event)
                batch = (partition, int(records.offsets[0]), int(records.offsets[-1]))
                _say("done", batch)
                waiting.append((batch, event))
                if len(waiting) > hold:
                    kept = 1 if hold else 0
                    for older, done in reversed(waiting[kept:]):
                        _say("ack", older)
                        done.ack()
                    del waiting[kept:]

        await app.start()
        await until(lambda: app.should_stop, "the end", 600)
        raise SystemExit(f"crashed: {app.crash_reason!r}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    servers, group, topic, hold = sys.argv[1:]
    asyncio.run(_work(Settings(bootstrap_servers=servers), group, topic, int(hold)))
