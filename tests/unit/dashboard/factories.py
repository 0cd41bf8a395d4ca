"""Records for the dashboard's tests, and rows of a reading for the database."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from fleetwatch import topics
from fleetwatch.local.lag import Look
from fleetwatch.records import (
    Action,
    Alert,
    AlertAction,
    AlertState,
    Box,
    CameraDetection,
    DeadLetter,
    DetectorState,
    Metric,
    ModelComparison,
    ModelStatus,
    ModelVersion,
    Quality,
    Reason,
    RuleKind,
    Scope,
    ScoredReading,
    Severity,
    Stage,
    Verdict,
    WindowCount,
    to_millis,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_MS = to_millis(NOW)


def reading(device_id: str = "pump-1", *, at: datetime = NOW, seq: int = 0, **changes: Any) -> ScoredReading:
    """A scored reading that came in a moment after it was taken."""
    values: dict[str, Any] = {
        "device_id": device_id,
        "sensor_type": "temperature",
        "site": "north",
        "event_time": at,
        "seq": seq,
        "value": 21.5,
        "unit": "°C",
        "quality": Quality.GOOD,
        "online_score": 0.2,
        "batch_score": 0.3,
        "score": 0.25,
        "verdict": Verdict.NORMAL,
        "state": DetectorState.READY,
        "online_model": "hst.v1",
        "batch_model": "iforest.v1",
        "is_late": False,
        "ingest_time": at + timedelta(milliseconds=20),
        "source_partition": 0,
        "source_offset": seq,
    }
    return ScoredReading(**(values | changes))


def detection(camera_id: str = "cam-1", *, at: datetime = NOW, seq: int = 0, **changes: Any) -> CameraDetection:
    """A person, seen."""
    values: dict[str, Any] = {
        "camera_id": camera_id,
        "site": "gate",
        "event_time": at,
        "seq": seq,
        "label": "person",
        "confidence": 0.9,
        "box": Box(x=0.1, y=0.2, width=0.3, height=0.4),
    }
    return CameraDetection(**(values | changes))


def alert(alert_id: str = "a1", *, at: datetime = NOW, **changes: Any) -> Alert:
    """An alert that fires."""
    values: dict[str, Any] = {
        "alert_id": alert_id,
        "rule": "too-hot",
        "kind": RuleKind.LEVEL,
        "fingerprint": "f",
        "device_id": "pump-1",
        "site": "north",
        "severity": Severity.WARNING,
        "state": AlertState.FIRING,
        "started_at": at,
        "ended_at": None,
        "value": 91.25,
        "threshold": 80.0,
        "summary": "above 80 for 10 s",
        "ingest_time": at,
        "source_topic": "fleet.readings",
        "source_partition": 0,
        "source_offset": 1,
    }
    return Alert(**(values | changes))


def resolved(alert_id: str = "a1", *, at: datetime = NOW, **changes: Any) -> Alert:
    """The end of an alert."""
    end = {"state": AlertState.RESOLVED, "ended_at": at + timedelta(minutes=1)}
    return alert(alert_id, at=at, **(end | changes))


def window(label: str = "person", *, start: datetime = NOW, count: int = 5, **changes: Any) -> WindowCount:
    """Ten seconds of one label in one partition."""
    values: dict[str, Any] = {
        "scope": Scope.LABEL,
        "key": label,
        "window_start": start,
        "window_end": start + timedelta(seconds=10),
        "source_topic": "fleet.detections",
        "source_partition": 0,
        "count": count,
        "sum": float(count),
        "sum_of_squares": float(count),
        "min": 1.0,
        "max": 1.0,
        "late_count": 0,
        "included_offset": count,
        "is_final": False,
    }
    return WindowCount(**(values | changes))


def reading_row(record: ScoredReading) -> dict[str, Any]:
    """Return a reading as the columns of table ``readings``."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}


def acknowledgement(alert_id: str = "a1", *, at: datetime = NOW, **changes: Any) -> AlertAction:
    """Somebody takes care of an alert."""
    values: dict[str, Any] = {
        "action_id": f"act-{alert_id}",
        "alert_id": alert_id,
        "device_id": "pump-1",
        "action": Action.ACKNOWLEDGE,
        "who": "Dana",
        "at": at,
    }
    return AlertAction(**(values | changes))


def model(version: str = "v1", *, at: datetime = NOW, **changes: Any) -> ModelVersion:
    """A model in force."""
    values: dict[str, Any] = {
        "sensor_type": "temperature",
        "version": version,
        "algorithm": "IsolationForest",
        "status": ModelStatus.ACTIVE,
        "location": "temperature/v1.skops",
        "trained_at": at,
        "training_rows": 1_500,
        "metrics": (Metric(name="score_mean", value=0.25),),
    }
    return ModelVersion(**(values | changes))


def comparison(version: str = "v1", *, until: datetime = NOW, **changes: Any) -> ModelComparison:
    """A shadow model on one partition."""
    values: dict[str, Any] = {
        "sensor_type": "temperature",
        "version": version,
        "against": "new",
        "partition": 0,
        "readings": 100,
        "alarms": 0,
        "alarms_against": 0,
        "strange_both": 0,
        "strange_either": 0,
        "difference_sum": 0.0,
        "since": NOW - timedelta(hours=2),
        "until": until,
    }
    return ModelComparison(**(values | changes))


def dead_letter(*, offset: int = 0, at: datetime = NOW, **changes: Any) -> DeadLetter:
    """A reading that was no number."""
    values: dict[str, Any] = {
        "topic": "fleet.readings",
        "partition": 1,
        "offset": offset,
        "broker_time": at + timedelta(milliseconds=offset),
        "stage": Stage.VALIDATE,
        "reason": Reason.NOT_A_NUMBER,
        "detail": "value is NaN",
        "raw_key": b"pump-1",
        "raw_value": b"",
        "value_length": 0,
        "value_sha256": "",
    }
    return DeadLetter(**(values | changes))


def look(at: float, *, alerts: int = 0, committed: int = 0) -> Look:
    """What the offsets are at a moment: of every topic nothing came, but for alerts in the first of two partitions."""
    ends = {(topic, number): 0 for topic in topics.ALL for number in (0, 1)} | {(topics.ALERTS, 0): alerts}
    done = {
        group: {place: end for place, end in ends.items() if place[0] in names}
        for group, names in topics.READ_BY.items()
    }
    done[topics.GROUP_ALERTING] = {(topics.ALERTS, 0): committed, (topics.ALERTS, 1): 0}
    waiting = {
        group: {place: max(0, ends[place] - done[group][place]) for place in ends if place[0] in names}
        for group, names in topics.READ_BY.items()
    }
    return Look(at, {group: sum(places.values()) for group, places in waiting.items()}, ends, waiting, done)
