"""Rows of one machine: how they are formed, when they are judged, and what a shift of several channels looks like."""

from __future__ import annotations

import numpy as np

from streams import tuning
from streams.detectors.multivariate import MultivariateFold, Together

CHANNELS = 4
CALIBRATION = 200


def fold(rows: np.ndarray, times: np.ndarray, values: np.ndarray, fresh: MultivariateFold | None = None) -> Together:
    plans = np.full((len(rows), tuning.WIDTH), np.nan)
    plans[:, tuning.CALIBRATION] = CALIBRATION
    return (fresh or MultivariateFold()).fold(np.zeros(len(rows), np.int64), rows, times, values, plans)


def machine(count: int, shift_from: int | None = None, shift: float = 1.5) -> np.ndarray:
    values = np.random.default_rng(1).normal(0, 1, (count, CHANNELS)) * [1, 5, 0.1, 30] + [10, 0, 3, 500]
    if shift_from is not None:
        values[shift_from : shift_from + 100] += shift * np.array([1, 5, 0.1, 30])
    return values


def whole(values: np.ndarray) -> Together:
    count = len(values)
    rows = np.tile(np.arange(CHANNELS), count)
    return fold(rows, np.repeat(np.arange(count) * 1000, CHANNELS), values.reshape(-1))


def test_a_row_is_judged_when_its_last_channel_arrives() -> None:
    score = whole(machine(400)).score.reshape(-1, CHANNELS)
    assert np.isnan(score[:CALIBRATION]).all()
    assert np.isnan(score[CALIBRATION + 1 :, :-1]).all()
    assert not np.isnan(score[CALIBRATION + 1 :, -1]).any()


def test_a_shift_of_several_channels_is_abnormal_while_it_lasts() -> None:
    abnormal = whole(machine(900, 500)).is_abnormal.reshape(-1, CHANNELS)[:, -1]
    assert abnormal[:500].mean() < 0.02
    assert abnormal[515:600].mean() > 0.9
    assert abnormal[640:].mean() < 0.05


def test_a_missing_channel_delays_the_verdict_to_the_next_row() -> None:
    values = machine(400)
    rows = np.tile(np.arange(CHANNELS), 400)
    times = np.repeat(np.arange(400) * 1000, CHANNELS)
    kept = np.ones(len(rows), np.bool_)
    kept[350 * CHANNELS + 3] = False
    score = fold(rows[kept], times[kept], values.reshape(-1)[kept]).score
    at = 350 * CHANNELS
    assert np.isnan(score[at : at + 3]).all()
    assert not np.isnan(score[at + 3])  # the first reading of row 351
    assert not np.isnan(score[at + 3 + 3])  # and that row's own last one


def test_fewer_than_half_of_the_channels_are_no_row() -> None:
    values = machine(400)
    rows = np.tile(np.arange(CHANNELS), 400)
    times = np.repeat(np.arange(400) * 1000, CHANNELS)
    kept = np.ones(len(rows), np.bool_)
    kept[350 * CHANNELS + 1 : 351 * CHANNELS] = False
    score = fold(rows[kept], times[kept], values.reshape(-1)[kept]).score
    assert np.isnan(score[350 * CHANNELS : 350 * CHANNELS + 1 + CHANNELS - 1]).all()


def test_a_late_or_repeated_reading_is_in_no_row() -> None:
    values = machine(400)
    rows = np.tile(np.arange(CHANNELS), 400)
    times = np.repeat(np.arange(400) * 1000, CHANNELS)
    at = 350 * CHANNELS + 2
    more_rows = np.insert(rows, at, [0, 1])
    more_times = np.insert(times, at, [350_000, 120_000])
    more_values = np.insert(values.reshape(-1), at, [1e6, 1e6])
    plain, more = fold(rows, times, values.reshape(-1)).score, fold(more_rows, more_times, more_values).score
    assert np.array_equal(np.delete(more, [at, at + 1]), plain, equal_nan=True)
    assert np.isnan(more[[at, at + 1]]).all()


def test_a_channel_that_wanders_by_itself_is_left_out() -> None:
    values = machine(800)
    values[:, 2] = np.cumsum(np.random.default_rng(5).normal(0, 1, 800))
    abnormal = whole(values).is_abnormal.reshape(-1, CHANNELS)[:, -1]
    assert abnormal.mean() < 0.05


def test_a_device_with_one_channel_is_never_judged() -> None:
    found = fold(np.zeros(500, np.int64), np.arange(500) * 1000, np.random.default_rng(6).normal(0, 1, 500))
    assert np.isnan(found.score).all()
    assert not found.is_abnormal.any()
