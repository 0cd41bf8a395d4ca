"""Plans: what follows from an interval, what a file sets, and that plans hold from reading to reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fleetwatch.errors import EnvironmentProblemError
from streams import tuning
from streams.pace import PaceFold
from streams.tuning import VOTERS, PlanFold, Tuning, Tunings, load_tunings

if TYPE_CHECKING:
    from pathlib import Path


def plan(interval: float, settings: Tuning | None = None, warm_up: int = 40) -> dict[str, float]:
    count = tuning.SETTLE + 1
    zeros = np.zeros(count, np.int64)
    overrides = Tunings(default=settings or Tuning()).table(["t"])
    plans = PlanFold().fold(zeros, zeros, np.full(count, interval), warm_up, overrides)
    assert np.isnan(plans[: tuning.SETTLE]).all()
    return dict(zip(tuning.NAMES, plans[-1].tolist(), strict=True))


def test_a_device_of_five_minutes_is_judged_as_on_nab() -> None:
    found = plan(300.0)
    assert (found["calibration"], found["smoothing"], found["threshold"]) == (pytest.approx(748.8), 16.0, 2.45)
    assert (found["cool_down"], found["record_margin"], found["raise_bar"]) == (0.2, 0.03, 0.25)
    assert found["ready_after"] == found["calibration"]
    assert found["sudden"] == tuning.NEVER


def test_a_device_of_one_second_needs_rarer_things() -> None:
    found = plan(1.0)
    assert found["threshold"] == pytest.approx(2.45 + np.log10(300) + 1)
    assert found["sudden"] == pytest.approx(np.log10(604_800) + 1.5)
    assert (found["calibration"], found["cool_down"], found["ready_after"]) == (750.0, 0.0, 40.0)
    assert found["half_life"] == 604_800


def test_slow_devices_calibrate_for_150_readings_and_smooth_over_four() -> None:
    found = plan(3600.0)
    assert (found["calibration"], found["smoothing"], found["threshold"]) == (150.0, 4.0, 2.45)


def test_settings_replace_what_is_derived_and_strictness_adds_to_both_bars() -> None:
    found = plan(1.0, Tuning(calibration=100, threshold=3.0, strictness=0.5))
    assert (found["calibration"], found["threshold"]) == (100.0, 3.5)
    assert found["sudden"] == pytest.approx(np.log10(604_800) + 2.0)


def test_a_plan_follows_a_device_whose_interval_changes_for_good() -> None:
    intervals = np.concatenate([np.full(50, 1.0), np.full(50, 3.0), np.full(50, 5.0)])
    zeros = np.zeros(150, np.int64)
    found = PlanFold().fold(zeros, zeros, intervals, 40, Tunings().table(["t"]))[:, tuning.HALF_LIFE]
    assert set(found[20:100].tolist()) == {604_800.0}
    assert found[149] == pytest.approx(604_800 / 5)


def test_restored_plans_use_the_settings_of_now() -> None:
    zeros = np.zeros(30, np.int64)
    before = PlanFold()
    before.fold(zeros, zeros, np.full(30, 1.0), 40, Tunings().table(["t"]))
    after = PlanFold.restore(before.snapshot())
    strict = Tunings(default=Tuning(threshold=9.0)).table(["t"])
    assert after.fold(zeros[:1], zeros[:1], np.ones(1), 40, strict)[0, tuning.THRESHOLD] == 9.0


def test_the_pace_is_the_usual_distance_and_an_outage_does_not_change_it_much() -> None:
    times = np.concatenate([np.arange(100) * 1000, [99_000 + 600_000]])
    intervals, gaps = PaceFold().fold(np.zeros(101, np.int64), times)
    assert intervals[99] == pytest.approx(1.0)
    assert intervals[100] < 1.2
    assert gaps.tolist() == [False] * 100 + [True]


def test_an_old_reading_changes_no_pace() -> None:
    times = np.array([0, 1000, 2000, 500, 3000, 4000])
    intervals, gaps = PaceFold().fold(np.zeros(6, np.int64), times)
    assert intervals[1:].tolist() == [1.0] * 5
    assert not gaps.any()


def test_a_detection_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "detection.yaml"
    path.write_text("detectors: [adaptive]\nsensor_types: {pump: {calibration: 300}}\ndefault: {strictness: 0.5}\n")
    found = load_tunings(path)
    assert found.detectors == ("adaptive",)
    table = found.table(["pump", "other"])
    assert table[0, tuning.CALIBRATION] == 300
    assert np.isnan(table[0, tuning.STRICTNESS])
    assert table[1, tuning.STRICTNESS] == 0.5
    assert load_tunings(None).detectors == VOTERS


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("default: {calibraton: 3}", "default.calibraton"),
        ("sensor_types: {pump: {calibration: 3}}", "sensor_types.pump.calibration"),
        ("detectors: [magic]", "detectors.0"),
        ("detectors: []", "detectors"),
        ("a: [", "no YAML"),
    ],
)
def test_a_mistake_in_it_is_one_line_that_names_the_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "detection.yaml"
    path.write_text(text)
    with pytest.raises(EnvironmentProblemError, match=place) as problem:
        load_tunings(path)
    assert "\n" not in str(problem.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="cannot read"):
        load_tunings(tmp_path / "none.yaml")
