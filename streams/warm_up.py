"""Compiles every kernel once by folding a small batch of each kind, so that the compiled code is on disk."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np

from fleetwatch import avro, topics
from fleetwatch.record_batch import Records, read_batch, write_batches
from fleetwatch.recording.form import form_of
from fleetwatch.recording.rows import Messages, encode_rows, read_payload
from fleetwatch.records import Box, CameraDetection, SensorReading, from_millis
from streams.batch import ActiveModel, RawBatch
from streams.detectors import isolation_forest
from streams.features import COUNT
from streams.lane import Lane, LaneSettings
from streams.rules import load_rules
from streams.windows import WindowRules


def compile_kernels() -> float:
    """Run both kinds of lane on a few events; return the seconds it took."""
    began = time.monotonic()
    settings = LaneSettings(WindowRules(1000, 0, 0), load_rules(), max_skew_ms=60_000, warm_up=2)
    sample = np.random.default_rng(0).random((64, COUNT))
    models = {"temperature": ActiveModel("none", isolation_forest.flatten(isolation_forest.train(sample)))}
    start = from_millis(1_700_000_000_000)
    readings = [
        SensorReading(
            device_id="d",
            sensor_type="temperature",
            site="s",
            event_time=start + timedelta(seconds=n),
            seq=n,
            value=float(n),
            unit="C",
        )
        for n in range(30)
    ]
    detections = [
        CameraDetection(
            camera_id="d",
            site="s",
            event_time=start + timedelta(seconds=n),
            seq=n,
            label="person",
            confidence=0.5,
            box=Box(x=0.0, y=0.0, width=0.1, height=0.1),
        )
        for n in range(30)
    ]
    for topic, events in ((topics.READINGS, readings), (topics.DETECTIONS, detections)):
        lane = Lane(topic, 0, settings)
        values = [avro.encode(event) for event in events]
        count = len(values)
        times = np.full(count, 1_700_000_030_000)
        records = Records.of(range(count), times, [b"d"] * count, values)
        lane.process(RawBatch(topic, 0, records), models)
        batches = write_batches(records.keys, records.values, 0, max_bytes=1 << 20)
        for batch in batches:
            read_batch(batch._build())  # noqa: SLF001  # the producer's side of it
        form = form_of(topic)
        places = np.zeros(count, np.int64)
        payload, _ = encode_rows(form, Messages(places, records.offsets, times, records.keys, records.values))
        rows, _ = read_payload(form, payload, count)
        rows.take(places == 0).shifted(1000).values()
        rows.keys()
        lane.early()
        lane.advance(1_700_000_060_000, 1_700_000_060_000)
    return time.monotonic() - began
