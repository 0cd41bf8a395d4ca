"""The arithmetic of the peer comparison."""

from __future__ import annotations

import pytest

from bench import figures


def test_medians_are_of_the_rounds_that_have_a_contestant() -> None:
    rounds = [{"ours": 300.0, "faust": 3.0}, {"ours": 100.0}, {"ours": 200.0, "faust": 5.0}]
    assert figures.medians(rounds) == {"ours": 200.0, "faust": 4.0}


def test_a_ratio_is_made_within_each_round_before_the_median_is_taken() -> None:
    """A machine that is busy for one round slows all contestants of it: the ratio does not see that."""
    rounds = [{"ours": 300.0, "faust": 3.0}, {"ours": 30.0, "faust": 0.25}, {"ours": 90.0, "faust": 1.0}]
    assert figures.ratio_of(rounds, ["faust"]) == 100.0


def test_the_best_peer_may_be_another_one_in_each_round() -> None:
    rounds = [{"ours": 100.0, "quix": 10.0, "bytewax": 20.0}, {"ours": 100.0, "quix": 50.0, "bytewax": 20.0}]
    assert figures.ratio_of(rounds, figures.FRAMEWORK_PEERS) == pytest.approx(3.5)


def test_there_is_no_ratio_without_both_sides() -> None:
    assert figures.ratio_of([{"ours": 1.0}], ["faust"]) is None
    assert figures.ratio_of([{"faust": 1.0}], ["faust"]) is None


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert figures.percentile([3, 1, 4, 2], share) == expected


def test_a_rate_leaves_the_warm_up_out() -> None:
    samples = [(0, 0.0), (100, 5.0), (600, 6.0), (1100, 7.0)]
    assert figures.rate(samples, 100, 1100) == 500.0
    assert figures.rate(samples, 50, 550) == 500.0


def test_a_slow_contestant_is_measured_to_where_it_got() -> None:
    """What it spent on a step that it did not finish does not count."""
    assert figures.rate([(0, 0.0), (10, 1.0), (40, 4.0), (40, 6.0)], 10, 1000) == 10.0


@pytest.mark.parametrize("samples", [[], [(0, 0.0), (5, 1.0)], [(10, 1.0)], [(10, 1.0), (20, 1.0)]])
def test_there_is_no_rate_without_work_between_two_samples(samples: list[tuple[int, float]]) -> None:
    assert figures.rate(samples, 10, 20) is None
