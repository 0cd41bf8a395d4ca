"""Reads what contestants wrote."""

from __future__ import annotations

import json
import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
from confluent_kafka import Consumer, TopicPartition

from bench.environments import HERE
from fleetwatch import avro, kafka

if TYPE_CHECKING:
    from fleetwatch.settings import Settings

PEER_SCHEMA_ID = 9001


class Reader:
    """Decodes records of ours and of the peers by their schema id; times stay integers."""

    def __init__(self) -> None:
        peer = json.loads((HERE / "contestants" / "scored.avsc").read_text(encoding="utf-8"))
        self._schemas = {PEER_SCHEMA_ID: fastavro.parse_schema(peer)}

    def __call__(self, value: bytes) -> dict[str, Any]:
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            name = avro.schema_by_id(number)
            assert name is not None
            self._schemas[number] = fastavro.parse_schema(_plain(avro.load_schema(name)))
        return fastavro.schemaless_reader(BytesIO(value[5:]), self._schemas[number], None)


class Follower:
    """Reads a topic along from its beginning and keeps the values: the embedded broker forgets early ones."""

    def __init__(self, settings: Settings, topic: str) -> None:
        config = kafka.consumer_config(settings, "bench-follower") | {"log_level": 0}
        self._consumer = Consumer(config)
        numbers = kafka.partitions_of(self._consumer, topic)
        self._consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        self._next = dict.fromkeys(numbers, 0)
        self._enough: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.values: list[bytes] = []
        self.missed = 0
        """Records that the broker no longer had when they were read."""
        self._thread.start()

    def stop(self, *, expected: int, seconds: float = 20.0) -> None:
        """Read on until ``expected`` values are there and no more come, or for ``seconds``. Harmless when stopped."""
        deadline = time.monotonic() + seconds
        while len(self.values) + self.missed < expected and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._enough = expected
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            messages = self._consumer.consume(10_000, 0.1)
            for message in messages:
                if message.error() is None:
                    self.missed += message.offset() - self._next[message.partition()]
                    self._next[message.partition()] = message.offset() + 1
                    self.values.append(message.value())
            if self._enough is not None and not messages:
                break
        self._consumer.close()


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema
