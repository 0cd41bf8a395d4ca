"""Latency at a steady rate: from the broker's timestamp of a reading to its scored record."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import feed
import figures
from confluent_kafka import Consumer, TopicPartition
from measure import START_SECONDS, BenchError, Contestant, Ends, Running, broker, make_topics, running
from outputs import Reader

from fleetwatch import kafka

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

WARM_EVENTS, WARM_SECONDS, SECONDS = 2000, 3.0, 8.0


def measure(kind: str, contestant: Contestant, devices: int, per_second: float) -> dict[str, float]:
    """p50 and p99 in milliseconds, to the record's own timestamp and to its arrival at a consumer."""
    fleet = feed.Fleet(devices, 1)
    with broker(kind) as settings:
        make_topics(settings, contestant)
        with running(settings, contestant) as subject:
            _warm(settings, contestant, subject, fleet)
            reader = _Reader(settings, contestant.output)
            thread = threading.Thread(target=reader.run, daemon=True)
            thread.start()
            feed.produce_paced(settings, fleet, per_second=per_second, seconds=WARM_SECONDS + SECONDS)
            time.sleep(1.5)
            reader.stopping.set()
            thread.join(10)
            subject.require_alive()
    wanted = int(per_second * SECONDS)
    stamped, arrived = reader.stamped[-wanted:], reader.arrived[-wanted:]
    if len(stamped) < wanted:
        raise BenchError(f"{contestant.name}: {len(stamped)} of {wanted} records came while latency was measured")
    return {
        "p50": figures.percentile(stamped, 0.5),
        "p99": figures.percentile(stamped, 0.99),
        "arrival_p50": figures.percentile(arrived, 0.5),
        "arrival_p99": figures.percentile(arrived, 0.99),
    }


def _warm(settings: Settings, contestant: Contestant, subject: Running, fleet: feed.Fleet) -> None:
    feed.produce_all(settings, fleet.backlog(WARM_EVENTS)[0])
    ends = Ends(settings, contestant.output)
    deadline = time.monotonic() + START_SECONDS
    while ends.total() < WARM_EVENTS:
        subject.require_alive()
        if time.monotonic() > deadline:
            raise BenchError(f"{contestant.name} does not start:\n{subject.tail()}")
        time.sleep(0.05)
    ends.close()


class _Reader:
    """Reads the output topic from its end on and notes both latencies, in order of arrival."""

    def __init__(self, settings: Settings, topic: str) -> None:
        config = kafka.consumer_config(settings, "bench-latency") | {"fetch.wait.max.ms": 5, "log_level": 0}
        self._consumer = Consumer(config)
        parts = []
        for number in kafka.partitions_of(self._consumer, topic):
            high = kafka.watermarks(self._consumer, topic, number)[1]
            parts.append(TopicPartition(topic, number, high))
        self._consumer.assign(parts)
        self._read = Reader()
        self.stopping = threading.Event()
        self.stamped: list[float] = []
        self.arrived: list[float] = []

    def run(self) -> None:
        while not self.stopping.is_set():
            messages: list[Any] = self._consumer.consume(1000, 0.005)
            now = time.time() * 1000
            for message in messages:
                if message.error() is None:
                    ingest = self._read(message.value())["ingest_time"]
                    self.stamped.append(message.timestamp()[1] - ingest)
                    self.arrived.append(round(now - ingest, 1))
        self._consumer.close()
