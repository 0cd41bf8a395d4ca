"""The tables that are written: column names, their types, and where the values come from. Pure.

A table here is what is staged; what happens on conflict is in ``sql/upserts.sql``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch.records import (
    Alert,
    AlertAction,
    CameraDetection,
    DeadLetter,
    Record,
    ScoredReading,
    WindowCount,
)
from sinks.copying import binary_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from sinks.batch import Event
    from sinks.stretch import Stretch


@dataclass(frozen=True, slots=True)
class Table:
    """A table and its columns in the order of the rows. The statement of its name takes staged rows over."""

    name: str
    types: dict[str, str]

    @property
    def columns(self) -> str:
        """The columns as SQL."""
        return ", ".join(f'"{name}"' for name in self.types)


@dataclass(frozen=True, slots=True)
class ColumnTable(Table):
    """A table whose rows come in columns. ``fields`` names the field of a record where the column has another name.

    Rows that are never replaced may be copied straight into the table, as long as none of them is there already.
    """

    record_type: type[Record]
    fields: dict[str, str]
    extra_of: Callable[[list[Event]], dict[str, NDArray[np.int64]]]
    is_never_replaced: bool

    def copy_of(self, stretch: Stretch) -> Iterator[bytes] | None:
        """Return a stretch's rows of this table as the pieces of a binary COPY stream; None when there are none."""
        rows = stretch.of_columns(self.record_type)
        if rows is None:
            return None
        columns = tuple((self.fields.get(name, name), sql_type) for name, sql_type in self.types.items())
        extra = self.extra_of([stretch.events[position] for position in rows.positions.tolist()])
        return binary_copy(self.record_type, columns, rows, extra)


@dataclass(frozen=True, slots=True)
class RowTable(Table):
    """A table whose rows are made one by one."""

    record_type: type[Record]
    row_of: Callable[[Any], tuple[Any, ...]]

    def rows_of(self, stretch: Stretch) -> list[tuple[Any, ...]]:
        """Return a stretch's rows of this table."""
        return [self.row_of(record) for record in stretch.of_records(self.record_type)]


def _nothing_more(_: list[Event]) -> dict[str, NDArray[np.int64]]:
    return {}


def _place_in_kafka(events: list[Event]) -> dict[str, NDArray[np.int64]]:
    """Return what device input does not carry itself."""
    return {
        "ingest_time": np.array([event.broker_time_ms for event in events], np.int64),
        "source_partition": np.array([event.partition for event in events], np.int64),
        "source_offset": np.array([event.offset for event in events], np.int64),
    }


def _alert(a: Alert) -> tuple[Any, ...]:
    return (
        a.alert_id, a.rule, a.kind.value, a.fingerprint, a.device_id, a.site, a.severity.value, a.state.value,
        a.started_at, a.ended_at, a.value, a.threshold, a.summary, a.ingest_time, a.source_topic,
        a.source_partition, a.source_offset,
    )  # fmt: skip


def _alert_action(a: AlertAction) -> tuple[Any, ...]:
    return (a.action_id, a.alert_id, a.device_id, a.action.value, a.who, a.at, a.until, a.note, a.rule)


def _dead_letter(d: DeadLetter) -> tuple[Any, ...]:
    """Text of a dead letter may quote the raw event: PostgreSQL's text has no NUL, so it is replaced."""
    return (
        d.topic.replace("\x00", "\ufffd"), d.partition, d.offset, d.broker_time, d.stage.value, d.reason.value,
        d.detail.replace("\x00", "\ufffd"), d.raw_key, d.raw_value, d.value_length, d.value_sha256,
    )  # fmt: skip


READINGS: Final = ColumnTable(
    "readings",
    {
        "device_id": "text", "sensor_type": "text", "site": "text", "event_time": "timestamptz", "seq": "bigint",
        "value": "float8", "unit": "text", "quality": "text", "online_score": "float8", "batch_score": "float8",
        "score": "float8", "verdict": "text", "state": "text", "online_model": "text", "batch_model": "text",
        "is_late": "boolean", "ingest_time": "timestamptz", "source_partition": "integer",
        "source_offset": "bigint",
    },
    ScoredReading,
    {},
    _nothing_more,
    is_never_replaced=True,
)  # fmt: skip

DETECTIONS: Final = ColumnTable(
    "detections",
    {
        "camera_id": "text", "event_time": "timestamptz", "seq": "bigint", "site": "text", "label": "text",
        "confidence": "float8", "box_x": "float8", "box_y": "float8", "box_width": "float8",
        "box_height": "float8", "track_id": "bigint", "ingest_time": "timestamptz",
        "source_partition": "integer", "source_offset": "bigint",
    },
    CameraDetection,
    {"box_x": "box.x", "box_y": "box.y", "box_width": "box.width", "box_height": "box.height"},
    _place_in_kafka,
    is_never_replaced=True,
)  # fmt: skip

WINDOW_COUNTS: Final = ColumnTable(
    "window_counts",
    {
        "scope": "text", "key": "text", "window_start": "timestamptz", "window_end": "timestamptz",
        "source_topic": "text", "source_partition": "integer", "count": "bigint", "sum": "float8",
        "sum_of_squares": "float8", "min": "float8", "max": "float8", "late_count": "bigint",
        "included_offset": "bigint", "is_final": "boolean",
    },
    WindowCount,
    {},
    _nothing_more,
    is_never_replaced=False,
)  # fmt: skip

ALERTS: Final = RowTable(
    "alerts",
    {
        "alert_id": "text", "rule": "text", "kind": "text", "fingerprint": "text", "device_id": "text",
        "site": "text", "severity": "text", "state": "text", "started_at": "timestamptz",
        "ended_at": "timestamptz", "value": "float8", "threshold": "float8", "summary": "text",
        "ingest_time": "timestamptz", "source_topic": "text", "source_partition": "integer",
        "source_offset": "bigint",
    },
    Alert,
    _alert,
)  # fmt: skip

ALERT_ACTIONS: Final = RowTable(
    "alert_actions",
    {
        "action_id": "text", "alert_id": "text", "device_id": "text", "action": "text", "who": "text",
        "at": "timestamptz", "until": "timestamptz", "note": "text", "rule": "text",
    },
    AlertAction,
    _alert_action,
)  # fmt: skip

DEAD_LETTERS: Final = RowTable(
    "dead_letters",
    {
        "topic": "text", "partition": "integer", "offset": "bigint", "broker_time": "timestamptz",
        "stage": "text", "reason": "text", "detail": "text", "raw_key": "bytea", "raw_value": "bytea",
        "value_length": "bigint", "value_sha256": "text",
    },
    DeadLetter,
    _dead_letter,
)  # fmt: skip

TABLES: Final[tuple[ColumnTable | RowTable, ...]] = (
    READINGS,
    DETECTIONS,
    WINDOW_COUNTS,
    ALERTS,
    ALERT_ACTIONS,
    DEAD_LETTERS,
)
"""Every table that records are stored in. They are always written in this order."""
