"""The first picture of the fleet, from the hot cache: what the tail has not heard itself.

Reads at most ``MAX_DEVICES`` devices, the most recently heard. An entry that cannot be read is left out: the
tail brings the device as soon as it speaks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import redis

from dashboard.live import (
    MAX_DEVICES,
    Board,
    CameraLive,
    DeviceLive,
    Point,
    Sighting,
    fold_alerts,
    merge_camera,
    merge_device,
)
from fleetwatch.cached_alert import alert_of
from fleetwatch.errors import TransientError
from fleetwatch.records import DetectorState, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetwatch.records import Alert
    from fleetwatch.settings import Settings

CHUNK: Final = 500
EVENTS_PER_DEVICE: Final = 60
DEVICES_WITH_EVENTS: Final = 2_000
"""Only so many devices get their sparkline from the cache; the others from what they send next."""
UNREADABLE: Final = (KeyError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cache knew."""

    devices: tuple[DeviceLive, ...]
    cameras: tuple[CameraLive, ...]
    open_alerts: tuple[Alert, ...]


def read_snapshot(settings: Settings) -> Snapshot:
    """Read the cache once.

    Raises:
        TransientError: Redis does not answer.

    """
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
    )
    devices: list[DeviceLive] = []
    cameras: list[CameraLive] = []
    try:
        names: list[Any] = client.zrevrange("devices:last_seen", 0, MAX_DEVICES - 1)
        for start in range(0, len(names), CHUNK):
            with client.pipeline(transaction=False) as pipeline:
                chunk = names[start : start + CHUNK]
                events = EVENTS_PER_DEVICE if start < DEVICES_WITH_EVENTS else 1
                for name in chunk:
                    pipeline.hgetall(f"device:{name}")
                    pipeline.lrange(f"device:{name}:events", 0, events - 1)
                answers = pipeline.execute()
            for name, entry, recent in zip(chunk, answers[0::2], answers[1::2], strict=True):
                found = device_of(name, entry, recent)
                if isinstance(found, DeviceLive):
                    devices.append(found)
                elif found is not None:
                    cameras.append(found)
        texts: Any = client.hvals("alerts:open")
    except redis.RedisError as error:
        raise TransientError(f"Redis does not answer ({type(error).__name__})") from None
    finally:
        client.close()
    alerts = (alert_of(text) for text in texts)
    return Snapshot(tuple(devices), tuple(cameras), tuple(alert for alert in alerts if alert is not None))


def merge_snapshot(board: Board, snapshot: Snapshot) -> Board:
    """Join a snapshot into the board; what the board knows better stays."""
    devices = dict(board.devices)
    for device in snapshot.devices:
        known = devices.get(device.device_id)
        devices[device.device_id] = device if known is None else merge_device(device, known)
    cameras = dict(board.cameras)
    for camera in snapshot.cameras:
        seen = cameras.get(camera.camera_id)
        cameras[camera.camera_id] = camera if seen is None else merge_camera(camera, seen)
    return fold_alerts(replace(board, devices=devices, cameras=cameras), snapshot.open_alerts)


def device_of(name: str, entry: Mapping[str, str], recent: Sequence[str]) -> DeviceLive | CameraLive | None:
    """Read one cache entry and its newest events; None when it cannot be used."""
    try:
        proof = "label" if entry["kind"] == "camera" else "value"  # a box under one name may be a sensor and a camera
        events = [event for event in map(json.loads, recent) if proof in event] or [entry]
        if entry["kind"] == "camera":
            return CameraLive(
                camera_id=name,
                site=entry["site"],
                heard_ms=int(entry["ingest_ms"]),
                sightings=tuple(sorted(_sighting(event) for event in events)),
            )
        anomalies = [int(event["ingest_ms"]) for event in events if event.get("verdict") == Verdict.ANOMALY.value]
        return DeviceLive(
            device_id=name,
            sensor_type=entry["sensor_type"],
            site=entry["site"],
            unit=entry["unit"],
            state=DetectorState(entry["state"]),
            heard_ms=int(entry["ingest_ms"]),
            anomaly_ms=max(anomalies, default=None),
            points=tuple(sorted((_point(event) for event in events), key=lambda point: point[:2])),
        )
    except UNREADABLE:
        return None


def _point(event: Mapping[str, Any]) -> Point:
    score = event.get("score")
    return Point(
        int(event["event_time_ms"]),
        int(event["seq"]),
        float(event["value"]),
        None if score in (None, "") else float(score),
        event.get("verdict") == Verdict.ANOMALY.value,
    )


def _sighting(event: Mapping[str, Any]) -> Sighting:
    return Sighting(int(event["event_time_ms"]), int(event["seq"]), str(event["label"]), float(event["confidence"]))
