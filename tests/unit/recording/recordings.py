"""Recordings for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch import avro, topics
from fleetwatch.recording.rows import Messages
from fleetwatch.recording.writer import RecordingWriter
from fleetwatch.records import SensorReading, from_millis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetwatch.recording.manifest import Manifest

START_MS = 1_790_000_000_000


def reading(number: int, **changes: Any) -> SensorReading:
    fields: dict[str, Any] = {
        "device_id": f"press-{number % 5}",
        "sensor_type": "temperature",
        "site": "north",
        "event_time": from_millis(START_MS + 10 * number),
        "seq": number,
        "value": 20.0 + number % 3,
        "unit": "Cel",
    }
    return SensorReading(**(fields | changes))


def messages(
    values: Sequence[bytes | None],
    *,
    first: int = 0,
    keys: Sequence[bytes | None] | None = None,
    headers: Any = None,
    partition: int = 0,
) -> Messages:
    """Messages of one partition, 10 ms apart, from offset ``first`` on."""
    count = len(values)
    offsets = np.arange(first, first + count, dtype=np.int64)
    return Messages(
        np.full(count, partition, np.int64),
        offsets,
        START_MS + 50 + 10 * offsets,
        [b"press-1"] * count if keys is None else keys,
        values,
        headers,
    )


def readings(count: int, *, first: int = 0, partition: int = 0) -> Messages:
    records = [reading(number) for number in range(first, first + count)]
    return messages(
        [avro.encode(record) for record in records],
        first=first,
        keys=[record.device_id.encode() for record in records],
        partition=partition,
    )


def write(folder: Path, blocks: Sequence[Messages], topic: str = topics.READINGS, **options: Any) -> Manifest:
    with RecordingWriter(folder, {topic: 2}, **options) as writer:
        for block in blocks:
            writer.append(topic, block)
        return writer.close()
