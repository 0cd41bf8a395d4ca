"""The two input topics: what their records are, which field is what, and over which scopes they are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleetwatch import topics
from fleetwatch.records import CameraDetection, Record, Scope, SensorReading

CAMERA_TYPE: Final = "camera"
"""What rules call the sensor type of a camera."""


@dataclass(frozen=True)
class Input:
    """How a lane reads an input topic. ``kind`` is the field that names the kind of event (sensor type, label)."""

    topic: str
    record_type: type[Record]
    device: str
    kind: str
    value: str
    finite: tuple[str, ...]
    scopes: tuple[Scope, ...]


READINGS: Final = Input(
    topic=topics.READINGS,
    record_type=SensorReading,
    device="device_id",
    kind="sensor_type",
    value="value",
    finite=("value",),
    scopes=(Scope.DEVICE, Scope.SITE, Scope.SENSOR_TYPE),
)
DETECTIONS: Final = Input(
    topic=topics.DETECTIONS,
    record_type=CameraDetection,
    device="camera_id",
    kind="label",
    value="confidence",
    finite=("confidence", "box.x", "box.y", "box.width", "box.height"),
    scopes=(Scope.DEVICE, Scope.SITE, Scope.LABEL, Scope.DEVICE_LABEL),
)
BY_TOPIC: Final = {source.topic: source for source in (READINGS, DETECTIONS)}
