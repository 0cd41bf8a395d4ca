"""The input: readings of a fleet as bytes, and how they get to a broker."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Producer

from fleetwatch import avro, columns, kafka, topics
from fleetwatch.records import SensorReading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwatch.settings import Settings

KINDS = (("temperature", "Cel"), ("humidity", "%"), ("pressure", "kPa"), ("vibration", "mm/s"))
SITES = 10
WINDOW_MS = 10_000
KEPT_READINGS = 600_000
"""What the embedded broker keeps of our readings in four partitions, with a reserve (5 MB each, compressed by lz4)."""

Reading = tuple[bytes, bytes]


@dataclass(frozen=True)
class Fleet:
    """``devices`` devices that take turns; together they report ``per_second`` times a second, from ``start_ms`` on."""

    devices: int
    per_second: float
    start_ms: int

    def times(self, first: int, count: int) -> np.ndarray:
        """Event times (ms) of readings by number."""
        return self.start_ms + (np.arange(first, first + count) * (1000 / self.per_second)).astype(np.int64)

    def readings(self, first: int, count: int) -> list[Reading]:
        """Keys and values of ``count`` readings from number ``first`` on: normal values, the same for the same call."""
        texts = [*(f"device-{number:06}" for number in range(self.devices))]
        texts += [text for pair in KINDS for text in pair] + [f"hall-{number}" for number in range(SITES)]
        buffer, starts, stops = columns.join_bytes([text.encode() for text in texts])
        spans = np.stack([starts, stops - starts])
        numbers = np.arange(first, first + count)
        index = numbers % self.devices
        batch = columns.new_batch(SensorReading, count, buffer)
        slots = batch.layout.slots
        for name, place in (
            ("device_id", index),
            ("sensor_type", self.devices + 2 * (index % len(KINDS))),
            ("unit", self.devices + 2 * (index % len(KINDS)) + 1),
            ("site", self.devices + 2 * len(KINDS) + index % SITES),
        ):
            batch.ints[slots[name] : slots[name] + 2] = spans[:, place]
        batch.ints[slots["event_time"]] = self.times(first, count)
        batch.ints[slots["seq"]] = numbers // self.devices
        batch.ints[slots["quality"]] = _good()
        batch.floats[slots["value"]] = np.random.default_rng([1, first]).normal(20, 2, count)
        names = [text.encode() for text in texts[: self.devices]]
        keys = [names[number] for number in index.tolist()]
        return list(zip(keys, columns.encode_batch(batch, SensorReading).to_list(), strict=True))

    def truth(self, count: int) -> Counter[tuple[str, int]]:
        """How many of the first ``count`` readings each (device, window start) has."""
        windows = self.times(0, count) // WINDOW_MS * WINDOW_MS
        pairs, found = np.unique(np.stack([np.arange(count) % self.devices, windows]), axis=1, return_counts=True)
        return Counter(
            {
                (f"device-{device:06}", start): number
                for device, start, number in zip(*pairs.tolist(), found.tolist(), strict=True)
            }
        )


def _good() -> int:
    fields = {field["name"]: field for field in avro.load_schema(avro.latest_version("sensor_reading"))["fields"]}
    return fields["quality"]["type"]["symbols"].index("GOOD")


class Feeder:
    """Keeps a backlog of ``ahead`` readings in front of a contestant, in large batches.

    The embedded broker forgets what is too far ahead, and a contestant that could fetch all of its input while it
    starts would have that work done before it is measured.
    """

    def __init__(self, settings: Settings, readings: Sequence[Reading], ahead: int) -> None:
        config = kafka.producer_config(settings) | {
            "linger.ms": 50,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
        }
        self._producer = Producer(config)
        self._readings = readings
        self._ahead = ahead
        self.fed = 0

    def top_up(self, delivered: int) -> None:
        """Send what is missing to the backlog after ``delivered`` readings, once it is worth a batch."""
        until = min(len(self._readings), delivered + self._ahead)
        self._producer.poll(0)
        if until - self.fed < self._ahead // 4 and until < len(self._readings):
            return
        self._send(until)

    def fill(self) -> None:
        """Send the first backlog and wait until the broker has it.

        Raises:
            RuntimeError: the broker did not take it.

        """
        self._send(min(self._ahead, len(self._readings)))
        if self._producer.flush(60):
            raise RuntimeError("the broker did not take the backlog")

    def _send(self, until: int) -> None:
        produce = self._producer.produce
        for key, value in self._readings[self.fed : until]:
            produce(topics.READINGS, value, key)
        self.fed = max(self.fed, until)


def produce_paced(settings: Settings, readings: Sequence[Reading], per_second: float) -> None:
    """Send readings at a steady rate, what is due every 2 ms, with the settings of our simulators."""
    producer = Producer(kafka.producer_config(settings))
    began, sent = time.monotonic(), 0
    while sent < len(readings):
        due = min(len(readings), int((time.monotonic() - began) * per_second) + 1)
        for key, value in readings[sent:due]:
            producer.produce(topics.READINGS, value, key)
        sent = max(sent, due)
        producer.poll(0)
        time.sleep(0.002)
    producer.flush(30)
