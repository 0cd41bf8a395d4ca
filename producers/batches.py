"""What every producer hands to the shell: batches of rows, each due at its event time."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from fleetwatch import topics
from fleetwatch.records import CameraDetection, GroundTruth, Record, SensorReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = dict[str, Any]
"""One record as plain values under its field names; times are milliseconds since 1970."""

TOPIC_OF: Final[dict[type[Record], str]] = {
    SensorReading: topics.READINGS,
    CameraDetection: topics.DETECTIONS,
    GroundTruth: topics.TRUTH,
}
KEY_OF: Final[dict[type[Record], str]] = {
    SensorReading: "device_id",
    CameraDetection: "camera_id",
    GroundTruth: "device_id",
}
"""The field that is the Kafka key: the device."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one record type in the order of their due times, which are milliseconds since 1970."""

    record_type: type[Record]
    due_ms: list[int]
    rows: list[Row]


class Source(Protocol):
    """Makes events for a schedule; knows no clock. The shell asks for a batch when its begin has come."""

    @property
    def begin_ms(self) -> int | None:
        """No event of the next batch is due earlier than this; None when nothing comes any more."""

    def take(self) -> Batch:
        """Return the next batch (it may be empty) and move on. Called only while ``begin_ms`` is not None."""


def events_until(sources: Iterable[Source], end_ms: int) -> Iterator[tuple[int, type[Record], Row]]:
    """All events due before ``end_ms`` in the order of their due times: a run without waiting."""

    def of_one(source: Source, number: int) -> Iterator[tuple[int, int, type[Record], Row]]:
        while source.begin_ms is not None and source.begin_ms < end_ms:
            batch = source.take()
            for due, row in zip(batch.due_ms, batch.rows, strict=True):
                if due < end_ms:
                    yield due, number, batch.record_type, row

    streams = [of_one(source, number) for number, source in enumerate(sources)]
    for due, _, record_type, row in heapq.merge(*streams, key=lambda event: event[:2]):
        yield due, record_type, row
