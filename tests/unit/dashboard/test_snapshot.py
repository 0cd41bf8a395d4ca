"""Cache entries become devices, cameras and alerts; what cannot be read is left out."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from dashboard.live import Arrival, Board, CameraLive, DeviceLive, fold
from dashboard.snapshot import Snapshot, alert_of, device_of, merge_snapshot
from fleetwatch.records import DetectorState, to_millis
from tests.unit.dashboard.factories import NOW_MS, alert, reading, resolved

SENSOR = {
    "kind": "sensor",
    "sensor_type": "temperature",
    "site": "north",
    "value": "21.5",
    "unit": "°C",
    "online_score": "",
    "batch_score": "",
    "score": "",
    "verdict": "UNKNOWN",
    "state": "WARMING_UP",
    "event_time_ms": str(NOW_MS),
    "seq": "7",
    "ingest_ms": str(NOW_MS + 20),
}
CAMERA = {
    "kind": "camera",
    "site": "gate",
    "label": "car",
    "confidence": "0.8",
    "event_time_ms": str(NOW_MS),
    "seq": "3",
    "ingest_ms": str(NOW_MS + 5),
}


def event(n, **more):
    return json.dumps({"event_time_ms": NOW_MS - 1000 * n, "seq": n, "ingest_ms": NOW_MS - 1000 * n + 20} | more)


def test_a_sensor_with_its_newest_events():
    events = [
        event(n, value=20.0 + n, score=0.9 if n == 1 else None, verdict="ANOMALY" if n == 1 else "NORMAL")
        for n in range(3)
    ]
    device = device_of("pump-1", SENSOR, events)
    assert isinstance(device, DeviceLive)
    assert [point.value for point in device.points] == [22.0, 21.0, 20.0]
    assert device.state is DetectorState.WARMING_UP
    assert device.anomaly_ms == NOW_MS - 980
    assert device.points[-1].score is None


def test_a_sensor_without_events_has_its_last_value():
    device = device_of("pump-1", SENSOR, [])
    assert isinstance(device, DeviceLive)
    assert device.last.value == 21.5


def test_a_camera():
    camera = device_of("cam-1", CAMERA, [event(n, label="car", confidence=0.5) for n in range(2)])
    assert isinstance(camera, CameraLive)
    assert len(camera.sightings) == 2
    assert camera.last.event_ms == NOW_MS


def test_a_sensor_and_a_camera_of_one_name_are_what_the_newest_event_says():
    events = [event(0, label="car", confidence=0.5), event(1, value=20.0, score=None, verdict="NORMAL")]
    camera, sensor = device_of("box-1", SENSOR | CAMERA, events), device_of("box-1", CAMERA | SENSOR, events)
    assert isinstance(camera, CameraLive)
    assert isinstance(sensor, DeviceLive)
    assert (len(camera.sightings), len(sensor.points)) == (1, 1)


@pytest.mark.parametrize("entry", [{}, SENSOR | {"seq": "x"}, SENSOR | {"state": "?"}, {"kind": "camera"}])
def test_an_entry_that_cannot_be_read_is_left_out(entry):
    assert device_of("pump-1", entry, []) is None


@pytest.mark.parametrize("suffix", ["", "_ms"])
def test_an_open_alert(suffix):
    record = alert()
    raw = {field.name: getattr(record, field.name) for field in fields(record)}
    for name in ("kind", "severity", "state"):
        raw[name] = raw[name].value
    for name in ("started_at", "ended_at", "ingest_time"):
        when = raw.pop(name)
        raw[name + suffix] = None if when is None else to_millis(when)
    assert alert_of(json.dumps(raw)) == record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"alert_id": "a"}', "null"])
def test_an_alert_that_cannot_be_read_is_left_out(text):
    assert alert_of(text) is None


def test_the_snapshot_does_not_undo_what_the_tail_knows():
    board = fold(Board(), [Arrival(reading(seq=9, value=99.0), NOW_MS), Arrival(resolved("a1"), NOW_MS)])
    device = device_of("pump-1", SENSOR, [])
    assert isinstance(device, DeviceLive)
    board = merge_snapshot(board, Snapshot((device,), (), (alert("a1"), alert("a2"))))
    assert board.devices["pump-1"].last.value == 99.0
    assert [point.seq for point in board.devices["pump-1"].points] == [7, 9]
    assert board.open_alerts.keys() == {"a2"}
