"""What the dashboard knows of the live fleet: a bounded, immutable board and the fold that moves it on.

Pure: time comes in with the events. ``merge_device``, ``merge_camera`` and the folds of counts and alerts do
not depend on the order of their events and take a repeated event as one, as far as the board keeps its memory
(the newest ``MAX_POINTS`` of a device, the newest ``MAX_RESOLVED`` resolved alerts). Rates are the exception:
they count arrivals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from dashboard.notes import Note, Notes, fold_notes
from fleetwatch.records import (
    Alert,
    AlertAction,
    AlertState,
    CameraDetection,
    DeadLetter,
    DetectorState,
    ModelComparison,
    ModelVersion,
    Scope,
    ScoredReading,
    Severity,
    Verdict,
    WindowCount,
    to_millis,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_POINTS: Final = 200
"""Readings kept of one device."""
MAX_POINTS_IN_ALL: Final = 600_000
"""With many devices each keeps fewer, up to half as many again between two cuts (some 150 bytes a point)."""
LEAST_POINTS: Final = 20
MAX_DEVICES: Final = 20_000
MAX_CAMERAS: Final = 2_000
MAX_SIGHTINGS: Final = 600
"""Detections kept of one camera."""
MAX_OPEN_ALERTS: Final = 2_000
MAX_RESOLVED: Final = 5_000
"""Resolved alerts remembered, so that a FIRING that comes late does not open them again."""
MAX_WINDOWS: Final = 5_000
WINDOW_MEMORY_MS: Final = 15 * 60_000
RATE_MEMORY_S: Final = 120


class Point(NamedTuple):
    """One reading, as small as it goes."""

    event_ms: int
    seq: int
    value: float
    score: float | None
    is_anomaly: bool


class Sighting(NamedTuple):
    """One detection, as small as it goes."""

    event_ms: int
    seq: int
    label: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLive:
    """A sensor as last heard; points are in order of event time and there is at least one."""

    device_id: str
    sensor_type: str
    site: str
    unit: str
    state: DetectorState
    heard_ms: int
    """When the broker got its newest reading."""
    anomaly_ms: int | None
    points: tuple[Point, ...]
    came_ms: int = 0
    """When its newest reading came out of the streams; 0 if only the cache knows the device."""

    @property
    def last(self) -> Point:
        """The newest reading by event time."""
        return self.points[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLive:
    """A camera as last heard; sightings are in order of event time and there is at least one."""

    camera_id: str
    site: str
    heard_ms: int
    sightings: tuple[Sighting, ...]

    @property
    def last(self) -> Sighting:
        """The newest detection by event time."""
        return self.sightings[-1]


P = TypeVar("P", Point, Sighting)
L = TypeVar("L", "DeviceLive", "CameraLive")
K = TypeVar("K")
V = TypeVar("V")


class WindowKey(NamedTuple):
    """Identity of a window's count; a wider scope than a device has one per partition."""

    key: str
    start_ms: int
    end_ms: int
    source_topic: str
    source_partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All of it. Replaced as a whole, never changed: a reader in another thread needs no lock."""

    devices: Mapping[str, DeviceLive] = field(default_factory=dict)
    cameras: Mapping[str, CameraLive] = field(default_factory=dict)
    open_alerts: Mapping[str, Alert] = field(default_factory=dict)
    resolved: Mapping[str, int] = field(default_factory=dict)
    label_windows: Mapping[WindowKey, WindowCount] = field(default_factory=dict)
    readings_per_second: Mapping[int, int] = field(default_factory=dict)
    dead_letters: int = 0
    dead_letters_per_second: Mapping[int, int] = field(default_factory=dict)
    unusable: int = 0
    skipped: int = 0
    notes: Notes = field(default_factory=Notes)


Record: TypeAlias = (
    ScoredReading | CameraDetection | WindowCount | Alert | AlertAction | ModelVersion | ModelComparison | DeadLetter
)


class Arrival(NamedTuple):
    """A decoded record, the broker's timestamp of its event, and its offset."""

    record: Record
    broker_ms: int
    offset: int = 0


def fold(board: Board, arrivals: Iterable[Arrival]) -> Board:
    """Return the board after these arrivals. Cost: one copy of each index that changes, then O(arrivals)."""
    readings: dict[str, list[tuple[ScoredReading, int]]] = {}
    sightings: dict[str, list[tuple[CameraDetection, int]]] = {}
    windows: list[WindowCount] = []
    alerts: list[Alert] = []
    notes: list[Note] = []
    seconds: Counter[int] = Counter()
    for record, broker_ms, offset in arrivals:
        match record:
            case ScoredReading():
                readings.setdefault(record.device_id, []).append((record, broker_ms))
                seconds[broker_ms // 1000] += 1
            case CameraDetection():
                sightings.setdefault(record.camera_id, []).append((record, broker_ms))
            case WindowCount():
                windows.append(record)
            case Alert():
                alerts.append(record)
            case _:
                notes.append(Note(record, broker_ms, offset))
    if readings:
        board = replace(
            board,
            devices=_fold_devices(board.devices, readings),
            readings_per_second=_add(board.readings_per_second, seconds),
        )
    if sightings:
        board = replace(board, cameras=_fold_cameras(board.cameras, sightings))
    if windows:
        board = replace(board, label_windows=_fold_windows(board.label_windows, windows))
    if notes:
        board = replace(board, notes=fold_notes(board.notes, notes))
    return fold_alerts(board, alerts) if alerts else board


def fold_alerts(board: Board, alerts: Iterable[Alert]) -> Board:
    """Open and close alerts: RESOLVED closes for good, also when it comes before its FIRING."""
    open_alerts = dict(board.open_alerts)
    resolved = dict(board.resolved)
    for alert in alerts:
        if alert.state is AlertState.RESOLVED:
            resolved[alert.alert_id] = to_millis(alert.ended_at or alert.started_at)
            open_alerts.pop(alert.alert_id, None)
        elif alert.alert_id not in resolved:
            open_alerts[alert.alert_id] = alert
    return replace(board, open_alerts=open_alerts, resolved=resolved)


def merge_device(one: DeviceLive, other: DeviceLive) -> DeviceLive:
    """Join two views of one device: the newest reading names it, the newest ``MAX_POINTS`` stay.

    Commutative, associative and idempotent, so the snapshot and the tail may overlap in any way.
    """
    newer = other if other.last[:2] >= one.last[:2] else one
    return replace(
        newer,
        heard_ms=max(one.heard_ms, other.heard_ms),
        came_ms=max(one.came_ms, other.came_ms),
        anomaly_ms=max(
            (ms for ms in (one.anomaly_ms, other.anomaly_ms) if ms is not None),
            default=None,
        ),
        points=_newest(one.points, other.points, MAX_POINTS),
    )


def merge_camera(one: CameraLive, other: CameraLive) -> CameraLive:
    """Join two views of one camera, as ``merge_device``."""
    newer = other if other.last[:2] >= one.last[:2] else one
    return replace(
        newer,
        heard_ms=max(one.heard_ms, other.heard_ms),
        sightings=_newest(one.sightings, other.sightings, MAX_SIGHTINGS),
    )


def count_dead_letters(board: Board, total: int, seconds: Mapping[int, int]) -> Board:
    """Note how many dead letters there are in all (it never goes back) and when the latest came."""
    return replace(
        board,
        dead_letters=max(board.dead_letters, total),
        dead_letters_per_second=_add(board.dead_letters_per_second, seconds),
    )


def prune(board: Board, *, now_ms: int, device_ttl_ms: int) -> Board:
    """Forget silent devices and whatever is over a bound; the most recently heard stay."""
    devices = _most_recent(board.devices, MAX_DEVICES, now_ms - device_ttl_ms)
    keep = max(LEAST_POINTS, min(MAX_POINTS, MAX_POINTS_IN_ALL // max(1, len(devices))))
    if keep < MAX_POINTS:
        devices = {
            key: device if len(device.points) <= keep * 3 // 2 else replace(device, points=device.points[-keep:])
            for key, device in devices.items()
        }
    newest = max((key.end_ms for key in board.label_windows), default=0)
    windows = {key: count for key, count in board.label_windows.items() if key.end_ms > newest - WINDOW_MEMORY_MS}
    return replace(
        board,
        devices=devices,
        cameras=_most_recent(board.cameras, MAX_CAMERAS, now_ms - device_ttl_ms),
        open_alerts=_largest(
            board.open_alerts,
            MAX_OPEN_ALERTS,
            {key: severity_rank(alert.severity) for key, alert in board.open_alerts.items()},
        ),
        resolved=_largest(board.resolved, MAX_RESOLVED, board.resolved),
        label_windows=_largest(windows, MAX_WINDOWS, {key: key.end_ms for key in windows}),
    )


def per_second(seconds: Mapping[int, int], *, now_ms: int, over: int = 10) -> float:
    """Return the mean rate over the last whole seconds; the second that is still running does not count."""
    now = now_ms // 1000
    return sum(seconds.get(second, 0) for second in range(now - over, now)) / over


def detections_per_minute(camera: CameraLive, *, now_ms: int) -> float:
    """Return the detections in the last minute; when the memory is shorter than that, its rate."""
    recent = [sighting for sighting in camera.sightings if now_ms - 60_000 < sighting.event_ms]
    if len(recent) < MAX_SIGHTINGS:
        return float(len(recent))
    span_ms = max(1, now_ms - recent[0].event_ms)
    return len(recent) * 60_000 / span_ms


def severity_rank(severity: Severity) -> int:
    """Higher is worse."""
    return (Severity.INFO, Severity.WARNING, Severity.CRITICAL).index(severity)


def _fold_devices(
    known: Mapping[str, DeviceLive], readings: Mapping[str, list[tuple[ScoredReading, int]]]
) -> dict[str, DeviceLive]:
    devices = dict(known)
    for device_id, rows in readings.items():
        fresh = _device_of(rows)
        earlier = devices.get(device_id)
        devices[device_id] = fresh if earlier is None else merge_device(earlier, fresh)
    return devices


def _fold_cameras(
    known: Mapping[str, CameraLive], sightings: Mapping[str, list[tuple[CameraDetection, int]]]
) -> dict[str, CameraLive]:
    cameras = dict(known)
    for camera_id, rows in sightings.items():
        fresh = _camera_of(rows)
        earlier = cameras.get(camera_id)
        cameras[camera_id] = fresh if earlier is None else merge_camera(earlier, fresh)
    return cameras


def _device_of(rows: list[tuple[ScoredReading, int]]) -> DeviceLive:
    newest, _ = max(rows, key=lambda row: (row[0].event_time, row[0].seq))
    return DeviceLive(
        device_id=newest.device_id,
        sensor_type=newest.sensor_type,
        site=newest.site,
        unit=newest.unit,
        state=newest.state,
        heard_ms=max(to_millis(row.ingest_time) for row, _ in rows),
        came_ms=max(broker_ms for _, broker_ms in rows),
        anomaly_ms=max((to_millis(row.ingest_time) for row, _ in rows if row.verdict is Verdict.ANOMALY), default=None),
        points=_newest(
            (),
            tuple(
                Point(to_millis(row.event_time), row.seq, row.value, row.score, row.verdict is Verdict.ANOMALY)
                for row, _ in rows
            ),
            MAX_POINTS,
        ),
    )


def _camera_of(rows: list[tuple[CameraDetection, int]]) -> CameraLive:
    newest, _ = max(rows, key=lambda row: (row[0].event_time, row[0].seq))
    return CameraLive(
        camera_id=newest.camera_id,
        site=newest.site,
        heard_ms=max(broker_ms for _, broker_ms in rows),
        sightings=_newest(
            (),
            tuple(Sighting(to_millis(row.event_time), row.seq, row.label, row.confidence) for row, _ in rows),
            MAX_SIGHTINGS,
        ),
    )


def _newest(one: tuple[P, ...], other: tuple[P, ...], limit: int) -> tuple[P, ...]:
    if one and other and other[0][:2] > one[-1][:2]:  # the usual case: only newer ones, both in order
        return (one + other)[-limit:]
    by_identity = {(point.event_ms, point.seq): point for point in one}
    by_identity.update(((point.event_ms, point.seq), point) for point in other)
    return tuple(by_identity[key] for key in sorted(by_identity)[-limit:])


def _fold_windows(
    known: Mapping[WindowKey, WindowCount], counts: Iterable[WindowCount]
) -> dict[WindowKey, WindowCount]:
    windows = dict(known)
    for count in counts:
        if count.scope is not Scope.LABEL:
            continue
        key = WindowKey(
            count.key,
            to_millis(count.window_start),
            to_millis(count.window_end),
            count.source_topic,
            count.source_partition,
        )
        earlier = windows.get(key)
        if earlier is None or _version(count) > _version(earlier):
            windows[key] = count
    return windows


def _version(count: WindowCount) -> tuple[bool, int]:
    return count.is_final, count.included_offset


def _add(seconds: Mapping[int, int], more: Mapping[int, int]) -> dict[int, int]:
    total = dict(seconds)
    for second, count in more.items():
        total[second] = total.get(second, 0) + count
    newest = max(total, default=0)
    return {second: count for second, count in total.items() if second > newest - RATE_MEMORY_S}


def _most_recent(known: Mapping[str, L], limit: int, heard_after_ms: int) -> Mapping[str, L]:
    alive = {key: device for key, device in known.items() if device.heard_ms > heard_after_ms}
    return _largest(alive, limit, {key: device.heard_ms for key, device in alive.items()})


def _largest(known: Mapping[K, V], limit: int, rank: Mapping[K, int]) -> Mapping[K, V]:
    if len(known) <= limit:
        return known
    return {key: known[key] for key in nlargest(limit, known, key=lambda key: rank[key])}
