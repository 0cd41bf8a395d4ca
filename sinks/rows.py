"""From records to rows of tables: column names, their types, and the values. Pure.

A table here is what is staged; what happens on conflict is in ``sql/upserts.sql``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

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
    from collections.abc import Callable, Iterable

    from sinks.batch import Event, Item


@dataclass(frozen=True, slots=True)
class Table:
    """A table, its columns in the order of the rows, and which statements take the staged rows over."""

    name: str
    types: dict[str, str]
    row_of: Callable[[Any, Event], tuple[Any, ...]]
    upserts: tuple[str, ...]

    @property
    def columns(self) -> str:
        """The columns as SQL."""
        return ", ".join(f'"{name}"' for name in self.types)


def _reading(r: ScoredReading, _: Event) -> tuple[Any, ...]:
    return (
        r.device_id, r.sensor_type, r.site, r.event_time, r.seq, r.value, r.unit, r.quality.value,
        r.online_score, r.batch_score, r.score, r.verdict.value, r.state.value, r.online_model, r.batch_model,
        r.is_late, r.ingest_time, r.source_partition, r.source_offset,
    )  # fmt: skip


def _detection(d: CameraDetection, event: Event) -> tuple[Any, ...]:
    """Take a detection with its place in Kafka, which device input does not carry itself."""
    return (
        d.camera_id, d.event_time, d.seq, d.site, d.label, d.confidence, d.box.x, d.box.y, d.box.width,
        d.box.height, d.track_id, from_millis(event.broker_time_ms), event.partition, event.offset,
    )  # fmt: skip


def _window_count(w: WindowCount, _: Event) -> tuple[Any, ...]:
    return (
        w.scope.value, w.key, w.window_start, w.window_end, w.source_topic, w.source_partition, w.count, w.sum,
        w.sum_of_squares, w.min, w.max, w.late_count, w.included_offset, w.is_final,
    )  # fmt: skip


def _alert(a: Alert, _: Event) -> tuple[Any, ...]:
    return (
        a.alert_id, a.rule, a.kind.value, a.fingerprint, a.device_id, a.site, a.severity.value, a.state.value,
        a.started_at, a.ended_at, a.value, a.threshold, a.summary, a.ingest_time, a.source_topic,
        a.source_partition, a.source_offset,
    )  # fmt: skip


def _alert_action(a: AlertAction, _: Event) -> tuple[Any, ...]:
    return (a.action_id, a.alert_id, a.device_id, a.action.value, a.who, a.at, a.until, a.note)


def _dead_letter(d: DeadLetter, _: Event) -> tuple[Any, ...]:
    """Text of a dead letter may quote the raw event: PostgreSQL's text has no NUL, so it is replaced."""
    return (
        d.topic.replace("\x00", "\ufffd"), d.partition, d.offset, d.broker_time, d.stage.value, d.reason.value,
        d.detail.replace("\x00", "\ufffd"), d.raw_key, d.raw_value, d.value_length, d.value_sha256,
    )  # fmt: skip


READINGS: Final = Table(
    "readings",
    {
        "device_id": "text", "sensor_type": "text", "site": "text", "event_time": "timestamptz", "seq": "bigint",
        "value": "float8", "unit": "text", "quality": "text", "online_score": "float8", "batch_score": "float8",
        "score": "float8", "verdict": "text", "state": "text", "online_model": "text", "batch_model": "text",
        "is_late": "boolean", "ingest_time": "timestamptz", "source_partition": "integer",
        "source_offset": "bigint",
    },
    _reading,
    ("readings", "devices_of_readings"),
)  # fmt: skip

DETECTIONS: Final = Table(
    "detections",
    {
        "camera_id": "text", "event_time": "timestamptz", "seq": "bigint", "site": "text", "label": "text",
        "confidence": "float8", "box_x": "float8", "box_y": "float8", "box_width": "float8",
        "box_height": "float8", "track_id": "bigint", "ingest_time": "timestamptz",
        "source_partition": "integer", "source_offset": "bigint",
    },
    _detection,
    ("detections", "devices_of_detections"),
)  # fmt: skip

WINDOW_COUNTS: Final = Table(
    "window_counts",
    {
        "scope": "text", "key": "text", "window_start": "timestamptz", "window_end": "timestamptz",
        "source_topic": "text", "source_partition": "integer", "count": "bigint", "sum": "float8",
        "sum_of_squares": "float8", "min": "float8", "max": "float8", "late_count": "bigint",
        "included_offset": "bigint", "is_final": "boolean",
    },
    _window_count,
    ("window_counts",),
)  # fmt: skip

ALERTS: Final = Table(
    "alerts",
    {
        "alert_id": "text", "rule": "text", "kind": "text", "fingerprint": "text", "device_id": "text",
        "site": "text", "severity": "text", "state": "text", "started_at": "timestamptz",
        "ended_at": "timestamptz", "value": "float8", "threshold": "float8", "summary": "text",
        "ingest_time": "timestamptz", "source_topic": "text", "source_partition": "integer",
        "source_offset": "bigint",
    },
    _alert,
    ("alerts",),
)  # fmt: skip

ALERT_ACTIONS: Final = Table(
    "alert_actions",
    {
        "action_id": "text", "alert_id": "text", "device_id": "text", "action": "text", "who": "text",
        "at": "timestamptz", "until": "timestamptz", "note": "text",
    },
    _alert_action,
    ("alert_actions",),
)  # fmt: skip

DEAD_LETTERS: Final = Table(
    "dead_letters",
    {
        "topic": "text", "partition": "integer", "offset": "bigint", "broker_time": "timestamptz",
        "stage": "text", "reason": "text", "detail": "text", "raw_key": "bytea", "raw_value": "bytea",
        "value_length": "bigint", "value_sha256": "text",
    },
    _dead_letter,
    ("dead_letters",),
)  # fmt: skip

TABLE_OF: Final[dict[type[Record], Table]] = {
    ScoredReading: READINGS,
    CameraDetection: DETECTIONS,
    WindowCount: WINDOW_COUNTS,
    Alert: ALERTS,
    AlertAction: ALERT_ACTIONS,
    DeadLetter: DEAD_LETTERS,
}
"""Every record that is stored. Tables are always written in this order."""


def rows_by_table(items: Iterable[Item]) -> list[tuple[Table, list[tuple[Any, ...]]]]:
    """Sort the records of a batch into the rows of the tables; tables without rows are left out."""
    rows: dict[type[Record], list[tuple[Any, ...]]] = {record_type: [] for record_type in TABLE_OF}
    for item in items:
        if item.record is not None:
            record_type = type(item.record)
            rows[record_type].append(TABLE_OF[record_type].row_of(item.record, item.event))
    return [(TABLE_OF[record_type], found) for record_type, found in rows.items() if found]
