"""ADWIN as a compiled fold against River's, number by number."""

from __future__ import annotations

import numpy as np
import pytest
from river.drift import ADWIN

from streams import adwin

WHOLE = 380
"""Numbers that a window holds before it lets go of the oldest."""


def river() -> ADWIN:
    return ADWIN(
        delta=adwin.DELTA,
        clock=1,
        max_buckets=adwin.MAX_BUCKETS,
        min_window_length=adwin.MIN_LENGTH,
        grace_period=adwin.GRACE,
    )


def numbers(seed: int) -> np.ndarray:
    """Noise whose mean moves once or twice, by little or much; sometimes without noise, sometimes without a move."""
    random = np.random.default_rng(seed)
    values = random.normal(1, random.choice([0.0, 0.1, 1.0]), WHOLE - 10)
    for at in random.integers(0, len(values), seed % 3):
        values[at:] += random.uniform(-3, 3)
    return values


@pytest.mark.parametrize("group", range(4))
def test_equal_to_river(group: int) -> None:
    changes = 0
    for seed in range(group * 40, group * 40 + 40):
        theirs, ours = river(), np.zeros(adwin.WIDTH)
        for value in numbers(seed).tolist():
            theirs.update(value)
            before, since = adwin.add(ours, value)
            assert theirs.drift_detected == (not np.isnan(before))
            if theirs.drift_detected:
                changes += 1
                assert since == pytest.approx(theirs.estimation)
                assert not ours.any()
                continue
            assert ours[0] == theirs.width
            assert ours[1] == pytest.approx(theirs.total)
            assert ours[2] == pytest.approx(theirs.variance, abs=1e-9)
    assert changes > 15


def test_it_says_the_mean_before_and_since() -> None:
    window = np.zeros(adwin.WIDTH)
    found = [adwin.add(window, value) for value in [1.0] * 100 + [3.0] * 20]
    (before, since), *rest = [pair for pair in found if not np.isnan(pair[0])]
    assert not rest
    assert before == pytest.approx(1.0, abs=0.05)
    assert since > before


def test_a_window_without_change_lets_go_of_the_oldest() -> None:
    window = np.zeros(adwin.WIDTH)
    random = np.random.default_rng(3)
    lengths, kept = [], []
    for value in random.normal(5, 1, 5_000).tolist():
        adwin.add(window, value)
        kept.append(value)
        lengths.append(int(window[0]))
        recent = np.array(kept[len(kept) - lengths[-1] :])
        assert window[1] == pytest.approx(recent.sum())
        assert window[2] == pytest.approx(((recent - recent.mean()) ** 2).sum())
    assert min(lengths[WHOLE:]) > WHOLE // 2
    assert max(lengths) <= WHOLE + 2
