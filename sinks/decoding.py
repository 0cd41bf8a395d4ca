"""From the events of a batch to columns and records, by topic; what has none is refused with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fleetwatch import avro, topics, validate
from fleetwatch.columns import decode_batch
from fleetwatch.errors import RefusedError
from fleetwatch.records import (
    Alert,
    AlertAction,
    CameraDetection,
    DeadLetter,
    Reason,
    Record,
    ScoredReading,
    WindowCount,
    from_millis,
)
from fleetwatch.row_status import OK, reason_of
from sinks.stretch import Rows, Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetwatch.columns import Batch
    from fleetwatch.records import Stage
    from sinks.batch import Event

IN_COLUMNS: Final[dict[str, type[Record]]] = {
    topics.SCORED: ScoredReading,
    topics.DETECTIONS: CameraDetection,
    topics.COUNTS: WindowCount,
}
"""What comes in masses."""

IN_ROWS: Final[dict[str, type[Record]]] = {
    topics.ALERTS: Alert,
    topics.ALERT_ACTIONS: AlertAction,
    topics.DEAD_LETTERS: DeadLetter,
}

_ANY_SIZE: Final = 1 << 30
_NUMBERS_OF_A_DETECTION: Final = ("confidence", "box.x", "box.y", "box.width", "box.height")


class Refusal(NamedTuple):
    """An event that has no usable record, and why."""

    event: Event
    reason: Reason
    detail: str


def decode_all(events: Sequence[Event], max_skew_ms: int) -> tuple[Stretch, list[Refusal]]:
    """Decode a batch: one stretch over all its events, and what was refused, which keeps its place without a record.

    A detection is device input and checked as the streams check it (``fleetwatch.validate``).
    """
    by_topic: dict[str, list[int]] = {}
    for position, event in enumerate(events):
        by_topic.setdefault(event.topic, []).append(position)
    in_columns: dict[type[Record], Rows] = {}
    records: dict[int, Record] = {}
    refusals: list[Refusal] = []
    for topic, positions in by_topic.items():
        record_type = IN_COLUMNS.get(topic)
        if record_type is None:
            for position in positions:
                try:
                    records[position] = avro.decode(events[position].value, IN_ROWS[topic])
                except RefusedError as error:
                    refusals.append(Refusal(events[position], error.reason, error.detail))
            continue
        found = [events[position] for position in positions]
        batch = _detections(found, max_skew_ms) if topic == topics.DETECTIONS else _derived(found, record_type)
        usable = np.flatnonzero(batch.status == OK)
        in_columns[record_type] = Rows(batch, usable, np.array(positions, np.int64)[usable])
        refusals += [
            _refusal(found[row], record_type, reason_of(int(batch.status[row])), max_skew_ms)
            for row in np.flatnonzero(batch.status != OK).tolist()
        ]
    return Stretch(events, in_columns, records, 0, len(events)), refusals


def _derived(events: Sequence[Event], record_type: type[Record]) -> Batch:
    """Decode what the streams wrote: any size, and the key does not matter."""
    return decode_batch([event.value for event in events], [b"-"] * len(events), record_type, max_bytes=_ANY_SIZE)


def _detections(events: Sequence[Event], max_skew_ms: int) -> Batch:
    values, keys = [event.value for event in events], [event.key for event in events]
    batch = decode_batch(values, keys, CameraDetection, key_field="camera_id")
    numbers = np.stack([batch.doubles(name) for name in _NUMBERS_OF_A_DETECTION])
    is_odd = ~np.isfinite(numbers)
    first_odd = numbers[is_odd.argmax(axis=0), np.arange(len(events))]
    batch.refuse(np.flatnonzero(np.isnan(first_odd)), Reason.NOT_A_NUMBER)
    batch.refuse(np.flatnonzero(np.isinf(first_odd)), Reason.INFINITE)
    broker_ms = np.array([event.broker_time_ms for event in events], np.int64)
    batch.refuse(batch.numbers("event_time") > broker_ms + max_skew_ms, Reason.TOO_FAR_AHEAD)
    return batch


def _refusal(event: Event, record_type: type[Record], reason: Reason, max_skew_ms: int) -> Refusal:
    """Say more than the status of a row: what the check of a single record says."""
    try:
        if event.topic == topics.DETECTIONS:
            validate.check_detection(event.key, event.value, event.broker_time_ms, max_skew_ms)
        else:
            avro.decode(event.value, record_type, strict=True)
    except RefusedError as error:
        return Refusal(event, error.reason, error.detail)
    return Refusal(event, reason, "it has no usable record")


def is_dead_lettered_elsewhere(topic: str) -> bool:
    """Whether what cannot be decoded needs no dead letter from us.

    The streams refuse the same detections and answer for them. A broken dead letter would only breed another one.
    """
    return topic in (topics.DETECTIONS, topics.DEAD_LETTERS)


def dead_letter_of(event: Event, stage: Stage, reason: Reason, detail: str) -> DeadLetter:
    """Make a dead letter of an event."""
    return DeadLetter.of(
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        broker_time=from_millis(event.broker_time_ms),
        key=event.key,
        value=event.value,
        stage=stage,
        reason=reason,
        detail=detail,
    )
