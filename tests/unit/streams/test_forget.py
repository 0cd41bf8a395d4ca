"""Devices that were silent for too long leave the state, and come back as new ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fleetwatch import topics
from fleetwatch.records import AlertState
from streams.lane import Lane
from tests.unit.streams.lanes import (
    START_MS,
    detection,
    event,
    make_lane,
    make_rules,
    make_settings,
    raw,
    reading,
    sent,
)

TTL_MS = 60_000
SILENT = {"name": "silent", "kind": "silence", "after_seconds": 15}
HOT = {"name": "hot", "kind": "level", "above": 60, "clear": 50}


def forgetful(*rules: dict[str, Any], topic: str = topics.READINGS) -> Lane:
    return Lane(topic, 0, replace(make_settings(make_rules(*rules)), device_ttl_ms=TTL_MS))


def feed(lane: Lane, device: str, seconds: range, value: float = 20.0) -> Any:
    events = [event(reading(second * 1000, device=device, seq=second, value=value)) for second in seconds]
    return lane.process(raw(events, first=lane.next_offset), {})


def sizes(state: Any, path: str = "") -> dict[str, int]:
    if isinstance(state, dict):
        return {name: size for key, value in state.items() for name, size in sizes(value, f"{path}/{key}").items()}
    return {path: np.asarray(state).size}


def test_a_silent_device_leaves_every_array_and_the_others_keep_theirs() -> None:
    lane, alone = forgetful(SILENT, HOT), forgetful(SILENT, HOT)
    feed(lane, "gone", range(20), value=70.0)
    for second in range(100):
        feed(lane, "press-1", range(second, second + 1))
        feed(alone, "press-1", range(second, second + 1))
    assert [lane.names.devices.name(row) for row in range(lane.names.devices.count)] == [b"press-1"]
    mine, only = lane.copy().snapshot(), alone.copy().snapshot()
    for name in ("seen", "stats"):
        assert np.array_equal(mine["scorer"][name][:1], only["scorer"][name][:1])
    assert mine["scorer"]["adaptive"]["stats"][0].tobytes() == only["scorer"]["adaptive"]["stats"][0].tobytes()
    assert np.array_equal(mine["recent"][:1], only["recent"][:1])
    assert np.array_equal(mine["rules"]["last_seen"], only["rules"]["last_seen"])


def test_the_channels_of_a_machine_that_stays_go_on_together() -> None:
    """Channels are numbered in the order of their first sight: those of who is gone lie between those of who stays."""

    def both_channels(lane: Lane, second: int, *devices: str) -> None:
        events = [
            event(
                reading(second * 1000, device=device, seq=2 * second + place, sensor_type=kind, value=float(second % 7))
            )
            for place, kind in enumerate(("pressure", "flow"))
            for device in devices
        ]
        lane.process(raw(events, first=lane.next_offset), {})

    lane, alone = forgetful(), forgetful()
    for second in range(100):
        both_channels(lane, second, *(["gone", "press-1"] if second < 20 else ["press-1"]))
        both_channels(alone, second, "press-1")
    assert lane.names.devices.count == 1
    assert lane.names.pairs.count == 2
    mine, only = lane.copy().snapshot()["scorer"], alone.copy().snapshot()["scorer"]
    for name in ("ints", "floats", "channels", "following", "latest"):
        count = 1 if name in {"ints", "floats"} else 2
        assert np.array_equal(mine["multivariate"][name][:count], only["multivariate"][name][:count]), name
    assert np.array_equal(mine["adaptive"]["stats"][:2], only["adaptive"]["stats"][:2])


def test_its_alerts_end_and_say_why() -> None:
    lane = forgetful(SILENT, HOT)
    alerts = sent(feed(lane, "gone", range(5), value=70.0), topics.ALERTS)
    for second in range(5, 100):
        alerts += sent(feed(lane, "press-1", range(second, second + 1)), topics.ALERTS)
    assert [(alert.rule, alert.state) for alert in alerts] == [
        ("hot", AlertState.FIRING),
        ("silent", AlertState.FIRING),
        ("silent", AlertState.RESOLVED),
        ("hot", AlertState.RESOLVED),
    ] or [(alert.rule, alert.state) for alert in alerts[-2:]] == [
        ("hot", AlertState.RESOLVED),
        ("silent", AlertState.RESOLVED),
    ]
    assert {alert.summary for alert in alerts[-2:]} == {"gone was given up: nothing heard for 60 s"}
    assert {int(alert.ended_at.timestamp() * 1000) for alert in alerts[-2:]} == {START_MS + 4000 + TTL_MS}


def test_it_comes_back_as_new() -> None:
    lane = forgetful()
    feed(lane, "gone", range(30))
    feed(lane, "press-1", range(30, 200))
    (scored,) = sent(feed(lane, "gone", range(200, 201)), topics.SCORED)
    assert scored.state.value == "WARMING_UP"
    assert lane.names.devices.count == 2


def test_without_a_ttl_nobody_is_forgotten() -> None:
    lane = make_lane()
    feed(lane, "gone", range(5))
    feed(lane, "press-1", range(5, 500))
    assert lane.names.devices.count == 2


def test_the_clock_forgets_too() -> None:
    lane = forgetful(SILENT)
    feed(lane, "gone", range(5))
    lane.advance(START_MS + 30_000, START_MS + 30_000)
    assert lane.names.devices.count == 1
    out = lane.advance(START_MS + 200_000, START_MS + 200_000)
    assert lane.names.devices.count == 0
    assert out.counters["devices_forgotten"] == 1


def test_state_does_not_grow_with_devices_that_come_and_go() -> None:
    lane = forgetful(SILENT, HOT)
    largest: dict[str, int] = {}
    for generation in range(30):
        feed(lane, f"device-{generation}", range(generation * 40, generation * 40 + 40))
        if generation == 10:
            largest = sizes(lane.copy().snapshot())
    now = sizes(lane.copy().snapshot())
    assert lane.names.devices.count < 10
    assert all(size <= 2 * largest[name] + 64 for name, size in now.items())


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_cameras_keep_their_labels(gone: int) -> None:
    lane = forgetful(topic=topics.DETECTIONS)
    numbers = [number for number in range(3) if number != gone]

    def see(second: int, cameras: list[int], labels: tuple[str, ...] = ("person", "car")) -> Any:
        events = [
            event(detection(second * 1000, camera=f"cam-{camera}", seq=second * 10 + n, label=label))
            for camera in cameras
            for n, label in enumerate(labels)
        ]
        return lane.process(raw(events, topic=topics.DETECTIONS, first=lane.next_offset), {})

    see(0, [0, 1, 2])
    counts = [count for second in range(1, 101) for count in sent(see(second, numbers), topics.COUNTS)]
    assert lane.names.devices.count == 2
    late = {count.key for count in counts if count.window_start.timestamp() * 1000 >= START_MS + 80_000}
    expected = {f"cam-{number}" for number in numbers} | {
        f"cam-{number}|{label}" for number in numbers for label in ("person", "car")
    }
    assert {key for key in late if key.startswith("cam-")} == expected
    ended = see(101, numbers, ("person",))
    ended.extend(lane.advance(START_MS + 130_000, START_MS + 130_000))
    finals = {count.key: count.count for count in sent(ended, topics.COUNTS) if count.is_final}
    for number in numbers:
        assert finals[f"cam-{number}|person"] == 2
        assert finals[f"cam-{number}|car"] == 1
