"""The alarm policy by example: ready, bar, raised bar, cool-down, record."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streams import tuning
from streams.alarms import AlarmFold

CALIBRATION = 100.0


def fold(
    excess: np.ndarray, values: np.ndarray | None = None, *, cool_down: float = 0.2, raise_bar: float = 0.25
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Rows with alarms, the raised excess, and which are ready."""
    count = len(excess)
    plan = np.full(tuning.WIDTH, np.nan)
    plan[tuning.CALIBRATION], plan[tuning.COOL_DOWN], plan[tuning.RAISE_BAR] = CALIBRATION, cool_down, raise_bar
    plan[tuning.RECORD_MARGIN], plan[tuning.READY_AFTER] = 0.03, 50.0
    numbers = np.zeros(count) if values is None else values
    found = AlarmFold().fold(
        np.zeros(count, np.int64), numbers, np.asarray(excess, np.float64), np.tile(plan, (count, 1))
    )
    return np.flatnonzero(found.is_alarm).tolist(), found.raised, found.is_ready


def peaks(count: int, *rows: int, height: float = 5.0) -> np.ndarray:
    excess = np.full(count, -1.0)
    excess[list(rows)] = height
    return excess


def test_a_device_that_is_not_ready_neither_scores_nor_alarms() -> None:
    alarms, raised, ready = fold(peaks(120, 10, 49, 60))
    assert alarms == [60]
    assert ready.tolist() == [False] * 50 + [True] * 70
    assert np.isnan(raised[:50]).all()


def test_the_bar_itself_is_an_alarm() -> None:
    assert fold(peaks(120, 60, height=0.0))[0] == [60]
    assert fold(peaks(120, 60, height=-1e-9))[0] == []


def test_within_the_cool_down_there_is_no_second_alarm() -> None:
    """0.2 calibrations are 20 readings: the 21st after an alarm may alarm again."""
    assert fold(peaks(200, 60, 80, 100))[0] == [60, 100]
    assert fold(peaks(200, 60, 81))[0] == [60, 81]


def test_each_alarm_raises_the_bar_and_the_rise_fades() -> None:
    _, raised, _ = fold(peaks(600, 100, 130))
    assert raised[101] == pytest.approx(-1 - 0.25 * math.exp(-1 / 400))
    both = math.exp(-30 / 400) + 1
    assert raised[131] == pytest.approx(-1 - 0.25 * both * math.exp(-1 / 400))
    assert raised[530] == pytest.approx(-1 - 0.25 * both * math.exp(-1))


def test_alarms_of_one_event_raise_it_once() -> None:
    """Without a cool-down a long event alarms with every reading."""
    alarms, raised, _ = fold(peaks(200, *range(100, 120)), cool_down=0.0)
    assert alarms == list(range(100, 120))
    assert raised[120] == pytest.approx(-1 - 0.25 * math.exp(-1 / 400), abs=0.02)


def test_a_record_alarms_without_any_evidence() -> None:
    """More than 3 % of the range beyond everything seen: from 0 to 10, that is beyond 10.3."""
    for value, expected in ((10.29, []), (10.31, [90]), (-0.29, []), (-0.31, [90])):
        values = np.tile([0.0, 10.0], 60)
        values[90] = value
        assert fold(np.full(120, -1.0), values)[0] == expected


def test_what_was_seen_before_being_ready_counts_for_the_range() -> None:
    values = np.zeros(120)
    values[10], values[90] = 5.0, 4.0
    assert fold(np.full(120, -1.0), values)[0] == []
