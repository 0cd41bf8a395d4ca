"""What a batch means for the cache: only the newest write per key is left. Pure; the time of the write comes in.

A value that a record does not have is an empty string in a hash and null in JSON.
"""

from __future__ import annotations

import json
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from fleetwatch.records import Alert, AlertState, CameraDetection, ScoredReading, WindowCount, to_millis
from sinks.column_values import ColumnValues
from sinks.devices import Grouped, group, starts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sinks.stretch import Rows, Stretch

    IntArray = NDArray[np.int64]

KEPT_EVENTS: Final = 100
KEPT_RESOLVED: Final = 10_000
DAY_MS: Final = 86_400_000

DEVICE: Final = "device:{}"
EVENTS: Final = "device:{}:events"
LAST_SEEN: Final = "devices:last_seen"
OPEN_ALERTS: Final = "alerts:open"
RESOLVED_ALERTS: Final = "alerts:resolved"
WINDOW: Final = "window:{}:{}"

Argument: TypeAlias = str | int | float

_TIMES: Final = ("started_at", "ended_at", "ingest_time")
_SENSOR: Final = (
    "sensor_type", "site", "value", "unit", "online_score", "batch_score", "score", "verdict", "state",
    "event_time", "seq", "ingest_time",
)  # fmt: skip
_CAMERA: Final = ("site", "label", "confidence", "event_time", "seq")
_WINDOW: Final = ("window_start", "window_end", "count", "sum", "is_final", "included_offset")


class Call(NamedTuple):
    """One call of a script: its name, the keys it touches, its arguments."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]


def calls_of(stretch: Stretch, now_ms: int, window_ttl_ms: int = DAY_MS) -> Iterator[Call]:
    """Yield the script calls of a stretch: one per device, per key and partition of windows, per alert."""
    if readings := stretch.of_columns(ScoredReading):
        yield from _sensor_calls(readings, now_ms)
    if detections := stretch.of_columns(CameraDetection):
        broker_ms = [stretch.events[position].broker_time_ms for position in detections.positions.tolist()]
        yield from _camera_calls(detections, np.array(broker_ms, np.int64), now_ms)
    if windows := stretch.of_columns(WindowCount):
        yield from _window_calls(windows, now_ms, window_ttl_ms)
    last: dict[str, Alert] = {}
    for alert in stretch.of_records(Alert):
        known = last.get(alert.alert_id)
        if known is None or known.state is AlertState.FIRING:
            last[alert.alert_id] = alert
    for alert in last.values():
        yield _alert_call(alert, now_ms)


# --- Devices


def _sensor_calls(readings: Rows, now_ms: int) -> Iterator[Call]:
    columns = ColumnValues(readings)
    names = columns.texts("device_id", readings.rows)
    picked = _pick(names, readings)
    rows, heads = readings.rows[picked.order], readings.rows[picked.newest]
    events = [
        f'{{"event_time_ms":{time},"seq":{seq},"value":{value},"score":{score},"verdict":"{verdict}",'
        f'"ingest_ms":{ingest},"cached_ms":{now_ms}}}'
        for time, seq, value, score, verdict, ingest in zip(
            columns.numbers("event_time", rows),
            columns.numbers("seq", rows),
            columns.json_numbers("value", rows),
            columns.json_numbers("score", rows),
            columns.texts("verdict", rows),
            columns.numbers("ingest_time", rows),
            strict=True,
        )
    ]
    values = zip(*(columns.any(name, heads) for name in _SENSOR), strict=True)
    kind = ("kind", "sensor")
    labels = tuple(f"{name}_ms" if name == "event_time" else name for name in _SENSOR[:-1])
    for found, head, newest in _devices(columns, picked, events, values):
        fields_of = (*kind, *_pairs(labels, newest), "ingest_ms", newest[-1], "cached_ms", now_ms)
        yield _device_call(names[head], fields_of, found)


def _camera_calls(detections: Rows, broker_ms: IntArray, now_ms: int) -> Iterator[Call]:
    columns = ColumnValues(detections)
    names = columns.texts("camera_id", detections.rows)
    picked = _pick(names, detections)
    rows, heads, ingest_ms = detections.rows[picked.order], detections.rows[picked.newest], broker_ms[picked.order]
    events = [
        f'{{"event_time_ms":{time},"seq":{seq},"label":{_json(label)},"confidence":{confidence},'
        f'"ingest_ms":{ingest},"cached_ms":{now_ms}}}'
        for time, seq, label, confidence, ingest in zip(
            columns.numbers("event_time", rows),
            columns.numbers("seq", rows),
            columns.texts("label", rows),
            columns.json_numbers("confidence", rows),
            ingest_ms.tolist(),
            strict=True,
        )
    ]
    values = zip(*(columns.any(name, heads) for name in _CAMERA), broker_ms[picked.newest].tolist(), strict=True)
    labels = tuple(f"{name}_ms" if name == "event_time" else name for name in _CAMERA)
    for found, head, newest in _devices(columns, picked, events, values):
        fields_of = ("kind", "camera", *_pairs(labels, newest), "ingest_ms", newest[-1], "cached_ms", now_ms)
        yield _device_call(names[head], fields_of, found)


def _pick(names: list[str], rows: Rows) -> Grouped:
    """Group the rows and leave at most ``KEPT_EVENTS`` of a device, the newest."""
    time, seq = rows.batch.numbers("event_time")[rows.rows], rows.batch.numbers("seq")[rows.rows]
    order, starts = group(names, time, seq)
    rank = np.arange(len(order)) - np.repeat(starts[:-1], np.diff(starts))
    device = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return Grouped(order[rank < KEPT_EVENTS], starts_of(device[rank < KEPT_EVENTS]))


def _devices(
    columns: ColumnValues, picked: Grouped, events: list[str], newest: Iterator[tuple[Any, ...]]
) -> Iterator[tuple[list[Argument], int, tuple[Any, ...]]]:
    """Yield of each device its events as the script takes them, its newest row, and the values of that."""
    arguments: list[Argument] = [""] * (3 * len(picked.order))
    kept = columns.rows[picked.order]
    arguments[0::3] = columns.numbers("event_time", kept)
    arguments[1::3] = columns.numbers("seq", kept)
    arguments[2::3] = events
    bounds = picked.starts.tolist()
    for start, stop, head, values in zip(bounds, bounds[1:], picked.newest.tolist(), newest, strict=False):
        yield arguments[3 * start : 3 * stop], head, values


def _device_call(name: str, fields_of: tuple[Argument, ...], events: list[Argument]) -> Call:
    arguments = (name, KEPT_EVENTS, len(fields_of), *fields_of, *events)
    return Call("device", (DEVICE.format(name), EVENTS.format(name), LAST_SEEN), arguments)


# --- Windows and alerts


def _window_calls(windows: Rows, now_ms: int, ttl_ms: int) -> Iterator[Call]:
    best: dict[tuple[str, str], tuple[Any, ...]] = {}
    columns = ColumnValues(windows)
    places = [columns.any(name, windows.rows) for name in ("scope", "key", "source_topic", "source_partition")]
    values = zip(*(columns.any(name, windows.rows) for name in _WINDOW), strict=True)
    for scope, key, topic, partition, window in zip(*places, values, strict=True):
        place = (WINDOW.format(scope, key), f"{topic}/{partition}:")
        known = best.get(place)
        if known is None or _rank(window) > _rank(known):
            best[place] = window
    for (key, prefix), window in best.items():
        start, end, count, total, is_final, included_offset = window
        yield Call(
            "window",
            (key,),
            (
                prefix, start, is_final, included_offset, ttl_ms,
                f"{prefix}window_start_ms", start, f"{prefix}window_end_ms", end, f"{prefix}count", count,
                f"{prefix}sum", total, f"{prefix}is_final", is_final, f"{prefix}included_offset", included_offset,
                f"{prefix}cached_ms", now_ms,
            ),
        )  # fmt: skip


def _rank(window: tuple[Any, ...]) -> tuple[int, int, int]:
    return (window[0], window[4], window[5])


def _alert_call(alert: Alert, now_ms: int) -> Call:
    return Call(
        "alert",
        (OPEN_ALERTS, RESOLVED_ALERTS),
        (alert.alert_id, alert.state.value, alert_json(alert), now_ms, KEPT_RESOLVED),
    )


def alert_json(alert: Alert) -> str:
    """Return an alert as JSON: times as ``started_at_ms`` and so on, in milliseconds."""
    plain: dict[str, Any] = {}
    for one in fields(alert):
        value = getattr(alert, one.name)
        if one.name in _TIMES:
            plain[f"{one.name}_ms"] = None if value is None else to_millis(value)
        else:
            plain[one.name] = value.value if isinstance(value, Enum) else value
    return _json(plain)


def _pairs(names: tuple[str, ...], values: tuple[Any, ...]) -> Iterator[Argument]:
    for name, value in zip(names, values, strict=False):
        yield name
        yield value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
