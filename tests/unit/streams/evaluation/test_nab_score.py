"""NAB's scoring rules on cases worked out by hand."""

from __future__ import annotations

import math

import pytest

from streams.evaluation.nab_score import PROFILES, normalised, probation, score_series

STANDARD = PROFILES["standard"]
ROWS = 1000
"""Rows 0 to 149 are probation."""


@pytest.mark.parametrize(("rows", "expected"), [(1000, 150), (1127, 169), (4032, 604), (5000, 750), (15_902, 750)])
def test_probation_is_15_percent_and_at_most_750_rows(rows: int, expected: int) -> None:
    assert probation(rows) == expected


def test_the_first_row_of_a_window_earns_nearly_one() -> None:
    """y = -(599 - 400 + 1) / 200 = -1: 2 / (1 + e^-5) - 1 = 0.98661."""
    assert score_series([400], [(400, 599)], ROWS, STANDARD) == pytest.approx(1.0, abs=1e-5)


def test_the_middle_and_the_end_of_a_window_earn_less() -> None:
    """y = -100/200 = -0.5: 0.84828 / 0.98661; last row: y = -1/200: 0.0125 / 0.98661."""
    assert score_series([500], [(400, 599)], ROWS, STANDARD) == pytest.approx(0.848284 / 0.98661, abs=1e-5)
    last = (2 / (1 + math.exp(-5 / 200)) - 1) / 0.98661
    assert score_series([599], [(400, 599)], ROWS, STANDARD) == pytest.approx(last, abs=1e-9)


def test_only_the_first_detection_in_a_window_counts() -> None:
    windows = [(400, 599)]
    assert score_series([450, 460, 599], windows, ROWS, STANDARD) == score_series([450], windows, ROWS, STANDARD)


def test_a_missed_window_costs_its_weight() -> None:
    assert score_series([], [(400, 599)], ROWS, STANDARD) == -1.0
    assert score_series([], [(400, 599)], ROWS, PROFILES["low_fn"]) == -2.0


def test_a_detection_before_the_first_window_costs_the_whole_weight() -> None:
    found = [400]
    assert score_series([200, *found], [(400, 599)], ROWS, STANDARD) == pytest.approx(1.0 - 0.11, abs=1e-5)
    assert score_series([200, *found], [(400, 599)], ROWS, PROFILES["low_fp"]) == pytest.approx(1.0 - 0.22, abs=1e-5)


def test_right_after_a_window_a_detection_costs_little_and_more_later() -> None:
    """y = 1/199: 0.01256; y = 1: 0.98661; beyond three widths: 1."""
    windows = [(200, 399)]
    earned = score_series([200], windows, ROWS, STANDARD)
    costs = [earned - score_series([200, row], windows, ROWS, STANDARD) for row in (400, 598, 999)]
    assert costs == pytest.approx([0.11 * (1 - 2 / (1 + math.exp(5 / 199))), 0.11 * 0.98661, 0.11], abs=1e-5)


def test_probation_is_not_scored() -> None:
    assert score_series([0, 10, 149], [], ROWS, STANDARD) == 0.0
    assert score_series([150], [], ROWS, STANDARD) == pytest.approx(-0.11)


def test_nothing_is_0_and_perfection_is_100() -> None:
    windows = [(200, 299), (600, 699)]
    for profile in PROFILES.values():
        assert normalised(score_series([], windows, ROWS, profile), 2, profile) == 0.0
        assert normalised(score_series([200, 600], windows, ROWS, profile), 2, profile) == pytest.approx(100, abs=1e-2)


def test_a_corpus_without_windows_has_no_score() -> None:
    with pytest.raises(ValueError, match="no labelled window"):
        normalised(0.0, 0, STANDARD)
