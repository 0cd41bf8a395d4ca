"""Sudden deviations: what each question finds, how rarely it is wrong, and what faults do not teach it."""

from __future__ import annotations

import numpy as np
import pytest

from streams.detectors.deviation import LEVEL, NAMES, NOISE, STUCK, VALUE, DeviationFold, Deviations

BAR = 7.3
"""That of a device that reports every second."""


def fold(values: np.ndarray, gaps: np.ndarray | None = None) -> Deviations:
    count = len(values)
    return DeviationFold().fold(np.zeros(count, np.int64), values, np.zeros(count, np.bool_) if gaps is None else gaps)


def correlated(seed: int, count: int, rho: float = 0.6) -> np.ndarray:
    fresh = np.random.default_rng(seed).standard_normal(count)
    out = np.empty(count)
    out[0] = fresh[0]
    for n in range(1, count):
        out[n] = rho * out[n - 1] + np.sqrt(1 - rho**2) * fresh[n]
    return 50 + 2 * out


def faulty(kind: int) -> np.ndarray:
    values = correlated(7, 2000)
    if kind == VALUE:
        values[1500] += 20
    elif kind == LEVEL:
        values[1500:1700] += 24 * np.arange(200) / 200
    elif kind == NOISE:
        values[1500:1550] += np.random.default_rng(8).normal(0, 8, 50)
    else:
        values[1500:1540] = values[1500]
    return values


@pytest.mark.parametrize("kind", [VALUE, LEVEL, NOISE, STUCK], ids=NAMES)
def test_each_fault_is_found_and_nothing_else(kind: int) -> None:
    found = fold(faulty(kind))
    alarms = np.flatnonzero(found.evidence >= BAR)
    assert len(alarms)
    assert alarms.min() >= 1500
    assert alarms.max() < 1720 + 100 * (kind == LEVEL)
    if kind in {VALUE, STUCK}:
        assert (found.which[alarms[:1]] == kind).all()


def test_a_million_quiet_readings_raise_nothing() -> None:
    """Twenty devices with noise of its own memory each: the bar is meant for one alarm in some thirty weeks."""
    for rho in (0.0, 0.5, 0.9):
        values = correlated(int(rho * 10) + 20, 50_000, rho)
        assert np.nanmax(fold(values).evidence) < BAR


def test_faults_teach_nothing() -> None:
    """A spike every three hundred readings is found the fortieth time as the first time."""
    values = correlated(9, 13_000)
    values[1000::300] += 24
    evidence = fold(values).evidence
    assert (evidence[1000::300] >= BAR).all()
    assert np.nanmax(np.delete(evidence, np.add.outer(np.arange(1000, 13_000, 300), np.arange(3)).ravel())) < BAR


def test_a_device_that_leaps_by_nature_is_given_less_weight() -> None:
    values = np.random.default_rng(10).standard_t(1.5, 60_000)
    evidence = fold(values).evidence
    early, late = (evidence[200:10_200] >= BAR).mean(), (evidence[50_000:] >= BAR).mean()
    assert late < early / 2
    assert late < 0.01


def test_values_that_come_in_runs_are_not_stuck() -> None:
    """Whole numbers that stay for some readings each."""
    random = np.random.default_rng(11)
    values = np.repeat(random.integers(20, 24, 3000).astype(float), random.integers(1, 12, 3000))
    found = fold(values)
    late = found.evidence[len(values) // 2 :]
    assert ((late >= BAR) & (found.which[len(values) // 2 :] == STUCK)).mean() < 0.001


def test_there_is_nothing_before_twenty_readings() -> None:
    found = fold(correlated(12, 40))
    assert np.isnan(found.evidence[:20]).all()
    assert not np.isnan(found.evidence[20:]).any()


def test_after_a_gap_the_level_is_expected_and_a_repeat_is_none() -> None:
    values = correlated(13, 400)
    values[398] = values[:398].mean() + 6
    values[399] = values[398]
    gaps = np.zeros(400, np.bool_)
    gaps[399] = True
    assert abs(fold(values, gaps).centre[399] - 50) < abs(fold(values).centre[399] - 50)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e120])
def test_evidence_is_finite_whatever_the_values(scale: float) -> None:
    values = np.random.default_rng(14).normal(0, scale, 500)
    values[[100, 200]] = 1e308, -1e308
    found = fold(values)
    assert np.isfinite(found.evidence[20:]).all()
    assert (found.evidence[20:] >= 0).all()
