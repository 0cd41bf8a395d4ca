"""From a Kafka event to a record, by topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetwatch import avro, topics, validate
from fleetwatch.records import (
    Alert,
    AlertAction,
    CameraDetection,
    DeadLetter,
    Record,
    ScoredReading,
    WindowCount,
    from_millis,
)

if TYPE_CHECKING:
    from fleetwatch.records import Reason, Stage
    from sinks.batch import Event

RECORD_OF: Final[dict[str, type[Record]]] = {
    topics.SCORED: ScoredReading,
    topics.DETECTIONS: CameraDetection,
    topics.COUNTS: WindowCount,
    topics.ALERTS: Alert,
    topics.ALERT_ACTIONS: AlertAction,
    topics.DEAD_LETTERS: DeadLetter,
}


def decode(event: Event, max_skew_ms: int) -> Record:
    """Return the record of an event.

    Raises:
        RefusedError: it has none. A detection is device input and checked as the streams check it.

    """
    if event.topic == topics.DETECTIONS:
        return validate.check_detection(event.key, event.value, event.broker_time_ms, max_skew_ms)
    return avro.decode(event.value, RECORD_OF[event.topic])


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
