"""Calibration against the formula of the module's docstring."""

from __future__ import annotations

import numpy as np
import pytest

from streams.policy import BINS, EVIDENCE_THRESHOLD, HALF_LIFE, PolicyFold, as_score


def fold(policy: PolicyFold, scores: list[float] | np.ndarray) -> np.ndarray:
    """One detector, one sensor type."""
    raw = np.ascontiguousarray(np.asarray(scores, np.float64)[:, None])
    return policy.fold(np.zeros(len(raw), np.int64), raw, ~np.isnan(raw))[:, 0]


def test_h_is_the_tail_share_after_every_step() -> None:
    """-log10 of the share of scores so far (this one included) in the score's bin or above, weighted by age."""
    scores = np.random.default_rng(1).beta(2, 6, 700)
    tails = fold(PolicyFold(1), scores)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    weights = 2.0 ** (np.arange(len(scores)) / HALF_LIFE)
    for k in range(len(scores)):
        as_high = bins[: k + 1] >= bins[k]
        share = weights[: k + 1][as_high].sum() / weights[: k + 1].sum()
        assert tails[k] == pytest.approx(-np.log10(share), rel=1e-9, abs=1e-12)


def test_one_in_ten_thousand_is_four() -> None:
    """A score that ten thousand others stay below has H = 4, whatever the detector's own scale."""
    for usual, strange in ((0.3, 0.9), (0.01, 0.05)):
        tails = fold(PolicyFold(1), [usual] * 9_999 + [strange])
        assert tails[-1] == pytest.approx(4.0, abs=0.1)
        assert tails[-2] == pytest.approx(0.0, abs=1e-12)


def test_a_cold_detector_takes_no_part() -> None:
    """Nothing is added to its histogram, its H is missing, and the other's is what it would be alone."""
    raw = np.column_stack([np.random.default_rng(3).random(200), np.full(200, np.nan)])
    both, alone = PolicyFold(2), PolicyFold(1)
    tails = both.fold(np.zeros(200, np.int64), raw, ~np.isnan(raw))
    assert np.isnan(tails[:, 1]).all()
    assert not both.histograms[0, 1].any()
    assert np.array_equal(tails[:, 0], fold(alone, raw[:, 0]))


def test_sensor_types_are_calibrated_apart() -> None:
    raw = np.random.default_rng(4).random((400, 1))
    models = np.arange(400) % 2
    tails = PolicyFold(1).fold(models, raw, np.ones((400, 1), np.bool_))
    alone = fold(PolicyFold(1), raw[models == 1, 0])
    assert np.array_equal(tails[models == 1, 0], alone)


def test_after_a_half_life_the_past_weighs_half() -> None:
    policy = PolicyFold(1)
    fold(policy, [0.9])
    fold(policy, np.full(HALF_LIFE - 1, np.nan))  # readings without a score age it as well
    tails = fold(policy, [0.1])
    # 0.9 weighs 1, the new 0.1 weighs 2: all are as high as 0.1
    assert tails[0] == pytest.approx(0.0, abs=1e-12)
    tails = fold(policy, [0.95])
    assert 10 ** -tails[0] == pytest.approx(2 / 5, rel=1e-3)


def test_scaling_the_weights_down_changes_no_h() -> None:
    """Weights grow until 1e12, then weights and histograms shrink together."""
    scores = np.random.default_rng(5).random(600)
    plain, about_to = PolicyFold(1), PolicyFold(1)
    fold(plain, scores[:300])
    fold(about_to, scores[:300])
    factor = 0.999_995e12 / about_to.weights[0]
    about_to.histograms *= factor
    about_to.weights *= factor
    expected = fold(plain, scores[300:])
    found = fold(about_to, scores[300:])
    assert about_to.weights[0] < 2
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_scores_at_the_edges_have_a_bin() -> None:
    tails = fold(PolicyFold(1), [0.0, 1.0, 1.0, 0.0])
    assert np.isfinite(tails).all()
    assert tails[-1] == pytest.approx(0.0, abs=1e-12)


def test_a_score_is_in_0_to_1() -> None:
    assert as_score(np.array([0.0, -0.0, 1.0, 8.0])).tolist() == pytest.approx([0.0, 0.0, 0.9, 1 - 1e-8])
    assert as_score(np.array([EVIDENCE_THRESHOLD]))[0] == pytest.approx(1 - 10**-EVIDENCE_THRESHOLD, abs=1e-12)
