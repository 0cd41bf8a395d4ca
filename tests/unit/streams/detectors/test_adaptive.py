"""The adaptive detector against its description, written down plainly; and what it does with gaps and time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streams import tuning
from streams.detectors import adaptive
from streams.detectors.adaptive import AdaptiveFold, Unusual

CALIBRATION, SMOOTHING, HALF_LIFE = 200.0, 16.0, 500.0
FIVE_MINUTES = 300_000


def plans(count: int) -> np.ndarray:
    plan = np.full(tuning.WIDTH, np.nan)
    plan[[tuning.CALIBRATION, tuning.SMOOTHING, tuning.HALF_LIFE]] = CALIBRATION, SMOOTHING, HALF_LIFE
    plan[tuning.DRIFT], plan[tuning.READY_AFTER] = 0.5, CALIBRATION
    return np.tile(plan, (count, 1))


def fold(values: np.ndarray, gaps: np.ndarray | None = None, fresh: AdaptiveFold | None = None) -> Unusual:
    count = len(values)
    times = np.arange(count) * FIVE_MINUTES
    no_gaps = np.zeros(count, np.bool_) if gaps is None else gaps
    return (fresh or AdaptiveFold()).fold(np.zeros(count, np.int64), times, values, no_gaps, plans(count))


def reference(values: np.ndarray) -> list[tuple[float, float]]:
    """Score and H of each reading, as the module's text says."""
    profile: dict[int, list[float]] = {}
    short, mean, variance = [0.0] * 4, [0.0] * 4, [0.0] * 4
    past: list[tuple[int, int]] = []
    running = step = 0.0
    steps = 0
    out = []
    for i, x in enumerate(values.tolist()):
        slot = i * FIVE_MINUTES % 86_400_000 // 1_800_000
        base = profile[slot][0] if slot in profile else (running if i else x)
        away = abs(x - values[i - 1]) if i else 0.0
        rough = math.log(away / (step + 1e-12) + 0.05) if i and step > 0 else 0.0
        deviations = []
        for k, signal in enumerate((x, x - base, abs(x - base), rough)):
            gain = max(1 / (i + 1), 1 / SMOOTHING) if i >= 20 else 1 / (i + 1)
            short[k] += gain * (signal - short[k])
            z = abs(short[k] - mean[k]) / (math.sqrt(variance[k]) + 1e-9 * abs(mean[k]) + 1e-12)
            deviations.append(0.0 if i < (20 if k in (0, 3) else CALIBRATION / 4) else min(z, 6.0))
            gain = max(1 / (i + 1), 1 / (16 * CALIBRATION))
            far = short[k] - mean[k]
            mean[k] += gain * far
            variance[k] = (1 - gain) * (variance[k] + gain * far * far)
        y = sum(deviations) / 4
        place = min(int(math.log(max(y, 0.05) / 0.05) / math.log(1000) * 60), 59)
        # a reading's weight halves every HALF_LIFE readings, from the 20th on
        weights = [2 ** ((max(n + 1, 20) - max(i, 20)) / HALF_LIFE) for n, _ in past]
        above = sum(weight for weight, (_, its) in zip(weights, past, strict=True) if its >= place)
        rarity = -math.log10((above + 1) / (sum(weights) + 1))
        out.append((0.25 * y + rarity, rarity))
        past.append((i, place))
        old, count = profile.get(slot, [0.0, 0])
        profile[slot] = [old + max(1 / (count + 1), 1 / 20) * (x - old), count + 1]
        running += (x - running) / (i + 1) if i else x
        if i:
            steps += 1
            step += (away - step) / steps
    return out


def test_scores_are_those_of_the_description() -> None:
    random = np.random.default_rng(1)
    values = 10 + np.sin(np.arange(900) * 2 * np.pi / 288) + random.normal(0, 0.3, 900)
    values[600:640] += 3
    found = fold(values)
    expected = np.array(reference(values))
    assert np.allclose(found.score, expected[:, 0], rtol=1e-4, atol=1e-4)
    assert np.allclose(found.rarity, expected[:, 1], rtol=1e-4, atol=1e-4)


def test_a_new_level_is_the_strangest_so_far() -> None:
    random = np.random.default_rng(2)
    values = random.normal(20, 1, 1500)
    values[1200:1240] += 6
    found = fold(values).score
    assert found[1200:1240].max() > found[200:1200].max()
    assert found[1200:1240].max() > 3


def test_what_is_usual_depends_on_the_time_of_day() -> None:
    """A value of noon at midnight stands out, though the day has seen it often."""
    random = np.random.default_rng(3)
    hours = np.arange(288 * 8) % 288 / 12
    values = 10 + 5 * (np.abs(hours - 12) < 4) + random.normal(0, 0.2, len(hours))
    values[288 * 7 + 12 : 288 * 7 + 24] = 15.0
    found = fold(values)
    night = slice(288 * 7 + 12, 288 * 7 + 24)
    assert found.centre[288 * 7 + 12] == pytest.approx(10, abs=0.5)
    assert found.score[night].max() > 2.45
    assert adaptive.NAMES[found.which[night][found.score[night].argmax()]] != "level"


def test_after_a_gap_the_reading_before_is_forgotten() -> None:
    """A value that is far from the one before a gap is no leap: nothing is known of the time between."""
    values = np.concatenate([np.random.default_rng(4).normal(0, 1, 300), [40.0]])
    gaps = np.zeros(301, np.bool_)
    gaps[300] = True
    with_gap, without = AdaptiveFold(), AdaptiveFold()
    fold(values, gaps, with_gap)
    fold(values, None, without)
    size = adaptive._DIFF
    assert with_gap.stats[0, size] < 1.5 < without.stats[0, size] + 0.5
    assert without.stats[0, size] - with_gap.stats[0, size] == pytest.approx(40 / 300, rel=0.1)


@pytest.mark.parametrize("value", [0.0, 5e-324, -1e308, 1e308, np.pi])
def test_a_constant_device_is_never_strange(value: float) -> None:
    found = fold(np.full(2000, value))
    assert np.isfinite(found.score).all()
    assert found.score.max() < 0.5


def test_state_is_below_two_kilobytes() -> None:
    fresh = AdaptiveFold()
    fold(np.zeros(1), None, fresh)
    assert sum(array[0].nbytes for array in fresh.snapshot().values()) < 2048
