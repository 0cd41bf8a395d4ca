"""Scored readings that flow into Kafka at a steady rate, and what of them was acknowledged."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from fleetwatch import avro, kafka, topics
from tests.unit.sinks.samples import scored

if TYPE_CHECKING:
    from fleetwatch.settings import Settings


class Flow:
    """Flows from entering to leaving; on leaving it sends what is missing to ``at_least`` at full speed."""

    def __init__(self, settings: Settings, *, devices: int = 10, per_second: int = 500, at_least: int = 0) -> None:
        self.prefix = f"sink-{uuid.uuid4().hex[:8]}-"
        self._devices, self._per_second, self._at_least = devices, per_second, at_least
        self._start = datetime.now(UTC).replace(microsecond=0)
        self._producer = Producer(kafka.producer_config(settings))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent: dict[str, list[int]] = defaultdict(list)
        self.failed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0
        assert self.failed == 0

    @property
    def total(self) -> int:
        return sum(map(len, self.sent.values()))

    def _run(self) -> None:
        seq = 0
        while not self._stop.wait(self._devices / self._per_second):
            self._speak(seq)
            seq += 1
        while seq * self._devices < self._at_least:
            self._speak(seq)
            seq += 1

    def _speak(self, seq: int) -> None:
        at = self._start + timedelta(milliseconds=seq)
        for number in range(self._devices):
            device = f"{self.prefix}{number}"
            self._producer.produce(
                topics.SCORED,
                key=device,
                value=avro.encode(scored(device, seq, event_time=at, ingest_time=at)),
                on_delivery=lambda error, _, device=device, seq=seq: self._reported(error, device, seq),
            )
        self._producer.poll(0)

    def _reported(self, error: Any, device: str, seq: int) -> None:
        if error is None:
            self.sent[device].append(seq)
        else:
            self.failed += 1


def lag(settings: Settings, group: str) -> int:
    try:
        return sum(kafka.lag_of(settings, group).values())
    except KafkaException:  # a fresh Kafka has no coordinator for a group at first
        return -1


def ends(settings: Settings, topic: str) -> dict[tuple[str, int], int]:
    """Return one past the newest offset of each partition that has any event."""
    consumer = Consumer(kafka.consumer_config(settings, "sink-test-ends"))
    try:
        found = {}
        for number in kafka.partitions_of(consumer, topic):
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            if high > 0:
                found[topic, number] = high
        return found
    finally:
        consumer.close()
