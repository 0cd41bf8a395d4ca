"""What a batch means for the cache: only the newest write per key is left. Pure; the time of the write comes in.

A value that a record does not have is an empty string in a hash and null in JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fleetwatch.records import Alert, AlertState, CameraDetection, ScoredReading, WindowCount, to_millis

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sinks.batch import Item

KEPT_EVENTS: Final = 100
KEPT_RESOLVED: Final = 10_000

DEVICE: Final = "device:{}"
EVENTS: Final = "device:{}:events"
LAST_SEEN: Final = "devices:last_seen"
OPEN_ALERTS: Final = "alerts:open"
RESOLVED_ALERTS: Final = "alerts:resolved"
WINDOW: Final = "window:{}:{}"

Argument: TypeAlias = str | int | float

_TIMES: Final = ("started_at", "ended_at", "ingest_time")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script: its name, the keys it touches, its arguments."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]


@dataclass
class _Batch:
    devices: dict[str, dict[tuple[int, int], Item]] = field(default_factory=dict)
    windows: dict[tuple[str, str], WindowCount] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)


def calls_of(items: Iterable[Item], now_ms: int) -> list[Call]:
    """Return the script calls of a batch: one per device, per key and partition of windows, per alert."""
    batch = _Batch()
    for item in items:
        record = item.record
        if isinstance(record, ScoredReading):
            events = batch.devices.setdefault(record.device_id, {})
            events.setdefault((to_millis(record.event_time), record.seq), item)
        elif isinstance(record, CameraDetection):
            events = batch.devices.setdefault(record.camera_id, {})
            events.setdefault((to_millis(record.event_time), record.seq), item)
        elif isinstance(record, WindowCount):
            place = (WINDOW.format(record.scope.value, record.key), _prefix(record))
            best = batch.windows.get(place)
            if best is None or _rank(record) > _rank(best):
                batch.windows[place] = record
        elif isinstance(record, Alert):
            known = batch.alerts.get(record.alert_id)
            if known is None or known.state is AlertState.FIRING:
                batch.alerts[record.alert_id] = record
    return [
        *(_device_call(device, events, now_ms) for device, events in batch.devices.items()),
        *(_window_call(key, prefix, window, now_ms) for (key, prefix), window in batch.windows.items()),
        *(_alert_call(alert, now_ms) for alert in batch.alerts.values()),
    ]


def _device_call(device: str, events: dict[tuple[int, int], Item], now_ms: int) -> Call:
    newest_first = sorted(events, reverse=True)[:KEPT_EVENTS]
    values = _device_fields(events[newest_first[0]], now_ms)
    pairs: list[Argument] = []
    for name, value in values.items():
        pairs += [name, "" if value is None else value]
    arguments: list[Argument] = [device, KEPT_EVENTS, len(pairs), *pairs]
    for time_ms, seq in newest_first:
        arguments += [time_ms, seq, _event_json(events[time_ms, seq], now_ms)]
    return Call("device", (DEVICE.format(device), EVENTS.format(device), LAST_SEEN), tuple(arguments))


def _device_fields(item: Item, now_ms: int) -> dict[str, Argument | None]:
    record = item.record
    times: dict[str, Argument | None] = {"ingest_ms": _ingest_ms(item), "cached_ms": now_ms}
    if isinstance(record, ScoredReading):
        return {
            "kind": "sensor",
            "sensor_type": record.sensor_type,
            "site": record.site,
            "value": record.value,
            "unit": record.unit,
            "online_score": record.online_score,
            "batch_score": record.batch_score,
            "score": record.score,
            "verdict": record.verdict.value,
            "state": record.state.value,
            "event_time_ms": to_millis(record.event_time),
            "seq": record.seq,
            **times,
        }
    assert isinstance(record, CameraDetection)
    return {
        "kind": "camera",
        "site": record.site,
        "label": record.label,
        "confidence": record.confidence,
        "event_time_ms": to_millis(record.event_time),
        "seq": record.seq,
        **times,
    }


def _event_json(item: Item, now_ms: int) -> str:
    """Return an event of the list; the script finds its identity at the front of the text."""
    record = item.record
    assert isinstance(record, ScoredReading | CameraDetection)
    event: dict[str, Any] = {"event_time_ms": to_millis(record.event_time), "seq": record.seq}
    if isinstance(record, ScoredReading):
        event |= {"value": record.value, "score": record.score, "verdict": record.verdict.value}
    else:
        event |= {"label": record.label, "confidence": record.confidence}
    return _json(event | {"ingest_ms": _ingest_ms(item), "cached_ms": now_ms})


def _ingest_ms(item: Item) -> int:
    """When the device's event reached the broker; a detection is that event itself."""
    if isinstance(item.record, ScoredReading):
        return to_millis(item.record.ingest_time)
    return item.event.broker_time_ms


def _prefix(window: WindowCount) -> str:
    return f"{window.source_topic}/{window.source_partition}:"


def _rank(window: WindowCount) -> tuple[datetime, bool, int]:
    return (window.window_start, window.is_final, window.included_offset)


def _window_call(key: str, prefix: str, window: WindowCount, now_ms: int) -> Call:
    start, is_final = to_millis(window.window_start), int(window.is_final)
    values: dict[str, Argument] = {
        "window_start_ms": start,
        "window_end_ms": to_millis(window.window_end),
        "count": window.count,
        "sum": window.sum,
        "is_final": is_final,
        "included_offset": window.included_offset,
        "cached_ms": now_ms,
    }
    pairs: list[Argument] = []
    for name, value in values.items():
        pairs += [prefix + name, value]
    return Call("window", (key,), (prefix, start, is_final, window.included_offset, *pairs))


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


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
