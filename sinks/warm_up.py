"""Compiles the sinks' kernel once, so that the compiled code is on disk."""

from __future__ import annotations

import time

from fleetwatch import avro, topics
from fleetwatch.records import Box, CameraDetection, from_millis
from sinks.batch import Event
from sinks.decoding import decode_all
from sinks.rows import DETECTIONS


def compile_kernels() -> float:
    """Copy one detection; return the seconds it took."""
    began = time.monotonic()
    box = Box(x=0.0, y=0.0, width=0.1, height=0.1)
    detection = CameraDetection(
        camera_id="c", site="s", event_time=from_millis(0), seq=1, label="person", confidence=0.5, box=box
    )
    stretch, _ = decode_all([Event(topics.DETECTIONS, 0, 0, 0, b"c", avro.encode(detection))], 0)
    for _ in DETECTIONS.copy_of(stretch) or ():
        pass
    return time.monotonic() - began
