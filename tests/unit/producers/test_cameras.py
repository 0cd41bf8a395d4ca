from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fleetwatch.records import FaultKind
from producers.simulate import cameras
from producers.simulate.faults import Fault
from producers.simulate.fleet import make_fleet
from producers.simulate.scenario import Scenario, load_scenario

START = 1_767_225_600_000
FLEET = make_fleet(Scenario(name="x", sensors={}, cameras=8))


def run(seconds: float, faults: list[Fault] | None = None, *, seed: int = 1, rate: float = 2, day: float = 600) -> list:
    traits = cameras.make_traits(FLEET.cameras, seed=seed, start_ms=START, mean_rate=rate, day_seconds=day)
    state = cameras.first_state(traits)
    rows = []
    for _ in range(round(seconds * 1000 / cameras.FRAME_MS)):
        state, columns = cameras.step(traits, state, faults or [])
        rows += cameras.as_rows(FLEET.cameras, columns)
    return rows


def surge(magnitude: float, start_s: float, end_s: float, kind: FaultKind = FaultKind.SURGE) -> Fault:
    return Fault(
        fault_id="f",
        kind=kind,
        is_camera=True,
        device_id="cam-01",
        row=0,
        start_ms=START + round(start_s * 1000),
        end_ms=START + round(end_s * 1000),
        magnitude=magnitude,
        direction=1,
    )


def test_the_same_seed_gives_the_same_detections_and_another_seed_others() -> None:
    assert run(20, seed=3) == run(20, seed=3)
    assert run(20, seed=3) != run(20, seed=4)


def test_detections_are_in_order_and_count_up_per_camera() -> None:
    rows = run(60)
    times = [row["event_time"] for row in rows]
    assert times == sorted(times)
    for camera in FLEET.cameras:
        own = [row["seq"] for row in rows if row["camera_id"] == camera.camera_id]
        assert own == list(range(len(own)))
        assert len(own) > 20


def test_boxes_lie_in_the_frame_and_confidences_between_0_and_1() -> None:
    for row in run(120, [surge(25, 10, 40)]):
        box = row["box"]
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 1.0002
        assert 0 <= box["y"] <= box["y"] + box["height"] <= 1.0002
        assert box["width"] > 0
        assert box["height"] > 0
        assert 0 < row["confidence"] < 1


def test_labels_come_in_their_shares() -> None:
    counts = Counter(row["label"] for row in run(1200))
    assert set(counts) == set(cameras.LABELS)
    assert counts["person"] > counts["car"] > counts["dog"]


def test_the_mean_rate_over_a_day_is_that_of_the_scenario_and_the_day_has_a_rhythm() -> None:
    rows = run(600, rate=3)
    assert len(rows) / 600 / 8 == pytest.approx(3, rel=0.25)
    of_day = np.array([(row["event_time"] % 600_000) / 600_000 for row in rows])
    by_day = np.sum(np.abs(of_day - cameras.PEAK) < 0.1)
    by_night = np.sum(np.abs((of_day - cameras.PEAK) % 1 - 0.5) < 0.1)
    assert by_day > 3 * by_night


def test_a_track_keeps_its_label_and_moves_little_and_some_cameras_do_not_track() -> None:
    rows = run(120)
    by_track: dict[tuple[str, int], list] = {}
    for row in rows:
        if row["track_id"] is not None:
            by_track.setdefault((row["camera_id"], row["track_id"]), []).append(row)
    assert any(len(seen) > 3 for seen in by_track.values())
    for seen in by_track.values():
        assert len({row["label"] for row in seen}) == 1
        assert all(abs(a["box"]["x"] - b["box"]["x"]) < 0.08 for a, b in pairwise(seen))
    assert {row["camera_id"] for row in rows if row["track_id"] is None} == {"cam-04", "cam-08"}


@pytest.mark.parametrize("name", ["demo", "factory"])
@pytest.mark.parametrize("offset_s", range(0, 10, 3))
def test_a_surge_fills_a_tumbling_window_of_10_seconds_with_200_detections(name: str, offset_s: int) -> None:
    """Wherever the surge lies against the windows, and at the least magnitude of the shipped scenarios."""
    scenario = load_scenario(name)
    (series,) = (series for series in scenario.faults if series.kind == "SURGE")
    length = series.duration_seconds or 15.0
    begin = 20 + offset_s
    rows = run(
        begin + length + 20,
        [surge(series.magnitudes[0], begin, begin + length)],
        rate=scenario.detections_per_second,
        day=scenario.day_seconds,
    )
    windows = Counter((row["event_time"] - START) // 10_000 for row in rows if row["camera_id"] == "cam-01")
    assert max(windows.values()) >= 200
    assert max(count for window, count in windows.items() if window < 2) < 100
    others = Counter(
        (row["camera_id"], (row["event_time"] - START) // 10_000) for row in rows if row["camera_id"] != "cam-01"
    )
    assert max(others.values()) < 100


def test_in_an_outage_a_camera_sees_nothing_and_the_others_go_on() -> None:
    rows = run(30, [surge(0.0, 10, 20, FaultKind.OUTAGE)])
    during = [row["camera_id"] for row in rows if START + 10_000 <= row["event_time"] < START + 20_000]
    assert "cam-01" not in during
    assert len(set(during)) == len(FLEET.cameras) - 1
    assert any(row["camera_id"] == "cam-01" for row in rows if row["event_time"] >= START + 20_000)
