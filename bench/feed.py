"""The input: readings of a fleet as bytes, and how they get to a broker."""

from __future__ import annotations

import random
import time
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

import fastavro
from confluent_kafka import Producer

from fleetwatch import avro, kafka, topics

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

KINDS = (("temperature", "Cel"), ("humidity", "%"), ("pressure", "kPa"), ("vibration", "mm/s"))
WINDOW_MS = 10_000


class Fleet:
    """``devices`` devices that report ``per_second`` times a second each, in turn; values of a seeded random walk."""

    def __init__(self, devices: int, per_second: int) -> None:
        self.names = [f"device-{number:06}" for number in range(devices)]
        self.keys = [name.encode() for name in self.names]
        self.per_second = per_second
        self._rng = random.Random(1)
        version = avro.latest_version("sensor_reading")
        self._schema = fastavro.parse_schema(avro.load_schema(version))
        self._head = avro.MAGIC + avro.schema_ids()[version].to_bytes(4, "big")

    def reading(self, number: int, at_ms: int) -> tuple[bytes, bytes]:
        """Key and value of the fleet's reading number ``number``."""
        index, seq = number % len(self.names), number // len(self.names)
        kind, unit = KINDS[index % len(KINDS)]
        body = BytesIO()
        body.write(self._head)
        fastavro.schemaless_writer(
            body,
            self._schema,
            {
                "device_id": self.names[index],
                "sensor_type": kind,
                "site": f"hall-{index % 10}",
                "event_time": at_ms,
                "seq": seq,
                "value": self._rng.gauss(20, 2),
                "unit": unit,
                "quality": "GOOD",
            },
        )
        return self.keys[index], body.getvalue()

    def time_of(self, number: int, start_ms: int) -> int:
        """Event time of a reading: devices report evenly spread."""
        return start_ms + number * 1000 // (len(self.names) * self.per_second)

    def backlog(self, events: int) -> tuple[list[tuple[bytes, bytes]], Counter[tuple[str, int]]]:
        """Readings that end now, and how many each (device, window start) has."""
        span = events * 1000 // (len(self.names) * self.per_second)
        start = int(time.time() * 1000) - span
        bodies, counts = [], Counter()
        for number in range(events):
            at = self.time_of(number, start)
            bodies.append(self.reading(number, at))
            counts[self.names[number % len(self.names)], at // WINDOW_MS * WINDOW_MS] += 1
        return bodies, counts


def produce_all(settings: Settings, bodies: list[tuple[bytes, bytes]]) -> None:
    """Send everything in large batches: the embedded broker hands out one batch a partition and fetch."""
    producer = Producer(kafka.producer_config(settings) | {"linger.ms": 100, "batch.num.messages": 10_000})
    refused = []

    def report(error: object, _message: object) -> None:
        if error is not None:
            refused.append(error)

    for key, value in bodies:
        while True:
            try:
                producer.produce(topics.READINGS, value, key, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(60) or refused:
        raise RuntimeError(f"the broker did not take the backlog: {refused[:1]}")


def produce_paced(settings: Settings, fleet: Fleet, *, per_second: float, seconds: float) -> int:
    """Send readings one by one at a steady rate, with the settings of our simulators; return their number."""
    producer = Producer(kafka.producer_config(settings))
    total = int(per_second * seconds)
    began = time.monotonic()
    for number in range(total):
        wait = began + number / per_second - time.monotonic()
        if wait > 0:
            producer.poll(0)
            time.sleep(wait)
        key, value = fleet.reading(number, int(time.time() * 1000))
        producer.produce(topics.READINGS, value, key)
    producer.flush(30)
    return total
