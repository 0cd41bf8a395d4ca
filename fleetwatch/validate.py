"""What makes an input event usable, as rows. ``fleetwatch.columns`` and ``streams`` apply the same rules to batches.

The order of the checks is part of the contract: an event has one reason, the first that applies.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

from fleetwatch import avro
from fleetwatch.errors import RefusedError
from fleetwatch.records import CameraDetection, Reason, Record, SensorReading, Stage, to_millis

R = TypeVar("R", bound=Record)

_VALIDATE: Final = frozenset({Reason.KEY_MISMATCH, Reason.NOT_A_NUMBER, Reason.INFINITE, Reason.TOO_FAR_AHEAD})


def stage_of(reason: Reason) -> Stage:
    """Return which stage refuses for this reason (scoring and stores name theirs by themselves)."""
    return Stage.VALIDATE if reason in _VALIDATE else Stage.DECODE


def check_reading(key: bytes | None, value: bytes | None, broker_time_ms: int, max_skew_ms: int) -> SensorReading:
    """Decode and check one reading.

    Raises:
        RefusedError: with the first reason that applies.

    """
    reading = _decode(key, value, SensorReading)
    _check_key(key, reading.device_id)
    _check_finite(reading.value)
    _check_time(to_millis(reading.event_time), broker_time_ms, max_skew_ms)
    return reading


def check_detection(key: bytes | None, value: bytes | None, broker_time_ms: int, max_skew_ms: int) -> CameraDetection:
    """Decode and check one detection.

    Raises:
        RefusedError: with the first reason that applies.

    """
    detection = _decode(key, value, CameraDetection)
    _check_key(key, detection.camera_id)
    box = detection.box
    for number in (detection.confidence, box.x, box.y, box.width, box.height):
        _check_finite(number)
    _check_time(to_millis(detection.event_time), broker_time_ms, max_skew_ms)
    return detection


def _decode(key: bytes | None, value: bytes | None, record_type: type[R]) -> R:
    if not value:
        raise RefusedError(Reason.EMPTY_VALUE, "the event has no value")
    if len(value) > avro.MAX_EVENT_BYTES:
        raise RefusedError(Reason.TOO_LARGE, f"{len(value)} bytes, at most {avro.MAX_EVENT_BYTES} are read")
    if not key:
        raise RefusedError(Reason.EMPTY_KEY, "the key must be the device id")
    return avro.decode(value, record_type, strict=True)


def _check_key(key: bytes | None, device_id: str) -> None:
    if key != device_id.encode():
        raise RefusedError(Reason.KEY_MISMATCH, f"the key is not the device id {device_id[:80]!r}")


def _check_finite(number: float) -> None:
    if math.isnan(number):
        raise RefusedError(Reason.NOT_A_NUMBER, "a number is NaN")
    if math.isinf(number):
        raise RefusedError(Reason.INFINITE, "a number is infinite")


def _check_time(event_ms: int, broker_ms: int, max_skew_ms: int) -> None:
    if event_ms > broker_ms + max_skew_ms:
        raise RefusedError(
            Reason.TOO_FAR_AHEAD, f"event time is {(event_ms - broker_ms) / 1000:.0f} s ahead of the broker's"
        )
