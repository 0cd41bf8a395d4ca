"""Records and events for the tests of the sinks, each with values that tell it apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fleetwatch import avro, topics
from fleetwatch.records import (
    Action,
    Alert,
    AlertAction,
    AlertState,
    Box,
    CameraDetection,
    DeadLetter,
    DetectorState,
    Quality,
    Reason,
    RuleKind,
    Scope,
    ScoredReading,
    Severity,
    Stage,
    Verdict,
    WindowCount,
)
from sinks.batch import Event
from sinks.decoding import decode_all

if TYPE_CHECKING:
    from fleetwatch.records import Record
    from sinks.stretch import Stretch

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def scored(device: str = "press-1", seq: int = 1, **changes: Any) -> ScoredReading:
    values: dict[str, Any] = {
        "device_id": device,
        "sensor_type": "temperature",
        "site": "north",
        "event_time": NOW + timedelta(seconds=min(seq, 10**6)),
        "seq": seq,
        "value": 20.0 + seq,
        "unit": "Cel",
        "quality": Quality.GOOD,
        "online_score": 0.25,
        "batch_score": None,
        "score": 0.5,
        "verdict": Verdict.NORMAL,
        "state": DetectorState.READY,
        "online_model": "hst-1",
        "batch_model": "",
        "is_late": False,
        "ingest_time": NOW + timedelta(seconds=min(seq, 10**6), milliseconds=5),
        "source_partition": 2,
        "source_offset": seq,
    }
    return ScoredReading(**(values | changes))


def detection(camera: str = "cam-1", seq: int = 1, **changes: Any) -> CameraDetection:
    values: dict[str, Any] = {
        "camera_id": camera,
        "site": "gate",
        "event_time": NOW + timedelta(seconds=seq),
        "seq": seq,
        "label": "person",
        "confidence": 0.9,
        "box": Box(x=0.1, y=0.2, width=0.3, height=0.4),
        "track_id": None,
    }
    return CameraDetection(**(values | changes))


def window(key: str = "press-1", **changes: Any) -> WindowCount:
    values: dict[str, Any] = {
        "scope": Scope.DEVICE,
        "key": key,
        "window_start": NOW,
        "window_end": NOW + timedelta(seconds=10),
        "source_topic": topics.READINGS,
        "source_partition": 0,
        "count": 7,
        "sum": 14.0,
        "sum_of_squares": 28.5,
        "min": 1.0,
        "max": 3.0,
        "late_count": 0,
        "included_offset": 10,
        "is_final": False,
    }
    return WindowCount(**(values | changes))


def alert(alert_id: str = "a1", *, is_open: bool = True, **changes: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": alert_id,
        "rule": "too-hot",
        "kind": RuleKind.LEVEL,
        "fingerprint": "f1",
        "device_id": "press-1",
        "site": "north",
        "severity": Severity.WARNING,
        "state": AlertState.FIRING if is_open else AlertState.RESOLVED,
        "started_at": NOW,
        "ended_at": None if is_open else NOW + timedelta(minutes=1),
        "value": 99.0,
        "threshold": 90.0,
        "summary": "press-1 is too hot",
        "ingest_time": NOW,
        "source_topic": topics.READINGS,
        "source_partition": 1,
        "source_offset": 5,
    }
    return Alert(**(values | changes))


def action(action_id: str = "x1") -> AlertAction:
    return AlertAction(
        action_id=action_id,
        alert_id="a1",
        device_id="press-1",
        action=Action.MUTE,
        who="ann",
        at=NOW,
        until=NOW,
    )


def letter(offset: int = 3, **changes: Any) -> DeadLetter:
    values: dict[str, Any] = {
        "topic": topics.READINGS,
        "partition": 1,
        "offset": offset,
        "broker_time": NOW,
        "key": b"press-1",
        "value": b"\x00raw\xff",
        "stage": Stage.DECODE,
        "reason": Reason.NOT_FRAMED,
        "detail": "no schema id",
    }
    return DeadLetter.of(**(values | changes))


_TOPIC_OF: dict[type[Record], str] = {
    ScoredReading: topics.SCORED,
    CameraDetection: topics.DETECTIONS,
    WindowCount: topics.COUNTS,
    Alert: topics.ALERTS,
    AlertAction: topics.ALERT_ACTIONS,
    DeadLetter: topics.DEAD_LETTERS,
}


def event(record: Record, offset: int = 0, *, partition: int = 0) -> Event:
    """The record as it stands in Kafka."""
    key = getattr(record, "device_id", None) or getattr(record, "camera_id", None) or "key"
    return Event(_TOPIC_OF[type(record)], partition, offset, NOW_MS, key.encode(), avro.encode(record))


def stretch(*records: Record, first_offset: int = 0, partition: int = 0) -> Stretch:
    """Records of one stretch of a partition."""
    decoded, refusals = decode_all(
        [event(record, first_offset + index, partition=partition) for index, record in enumerate(records)],
        max_skew_ms=10**12,
    )
    assert not refusals
    return decoded


def broken(topic: str, offset: int = 0, value: bytes | None = b"not avro") -> Event:
    """An event that cannot be decoded."""
    return Event(topic, 0, offset, NOW_MS, b"press-1", value)
