"""Features by example; tests/properties/test_streams_features.py compares them with a reference."""

from __future__ import annotations

import numpy as np
import pytest

from streams import features


def fold(values: np.ndarray) -> np.ndarray:
    """Features of one device's readings."""
    rows = np.zeros(len(values), np.int64)
    out, _ = features.fold_features(
        rows, np.asarray(values, np.float64), np.zeros(1, np.int64), np.zeros((1, features.WIDTH))
    )
    return out


def column(name: str) -> int:
    return features.NAMES.index(name)


def test_the_first_readings_of_a_device_have_no_features() -> None:
    noise = np.random.default_rng(1).normal(20, 3, features.SETTLE + 5)
    out = fold(noise)
    assert (out[: features.SETTLE] == 0).all()
    assert (out[features.SETTLE :, : column("repeat")] != 0).all()


def test_seen_is_counted_before_the_reading() -> None:
    seen, stats = np.array([0, 7]), np.zeros((2, features.WIDTH))
    _, before = features.fold_features(np.array([1, 0, 1]), np.zeros(3), seen, stats)
    assert before.tolist() == [7, 0, 8]
    assert seen.tolist() == [1, 9]


def test_a_reading_is_measured_before_it_is_learned() -> None:
    """A spike of ten deviations stands out by some ten deviations, not by what is left after averaging it in."""
    noise = np.random.default_rng(2).normal(50, 2, 300)
    noise[250] = 50 + 10 * 2
    value = fold(noise)[250, column("value")]
    assert 8 < value < 13


def test_each_fault_shows_in_its_feature() -> None:
    """Spike: value. Drift: short. Stuck: repeat. Noise burst: rough."""
    calm = np.random.default_rng(3).normal(100, 1, 900)
    drift, stuck, burst = calm.copy(), calm.copy(), calm.copy()
    drift[600:] += np.linspace(0, 4, 300)
    stuck[600:] = stuck[600]
    burst[600:] += np.random.default_rng(4).normal(0, 8, 300)
    quiet = np.abs(fold(calm)[600:]).max(axis=0)
    assert fold(drift)[600:, column("short")].max() > quiet[column("short")]
    assert fold(stuck)[600:, column("repeat")].max() > 4 + quiet[column("repeat")]
    assert fold(burst)[600:, column("rough")].max() > quiet[column("rough")]


def test_devices_do_not_touch_each_other() -> None:
    noise = np.random.default_rng(5).normal(0, 1, (2, 100))
    rows = np.tile([0, 1], 100)
    both, _ = features.fold_features(
        rows, noise.T.reshape(-1).copy(), np.zeros(2, np.int64), np.zeros((2, features.WIDTH))
    )
    assert (both[0::2] == fold(noise[0])).all()
    assert (both[1::2] == fold(noise[1])).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_features_do_not_depend_on_the_unit(scale: float) -> None:
    noise = np.random.default_rng(6).normal(20, 3, 400)
    assert np.allclose(fold(noise * scale), fold(noise), rtol=1e-3, atol=1e-3)


def test_squash_keeps_the_order_and_stays_inside() -> None:
    wide = np.concatenate([-np.geomspace(1e6, 1e-6, 200), [0.0], np.geomspace(1e-6, 1e6, 200)])
    squashed = features.squash(wide)
    assert (np.diff(squashed) > 0).all()
    assert squashed.min() > 0
    assert squashed.max() < 1
    assert features.squash(np.array([0.0, 4.0, -4.0])).tolist() == [0.5, 0.75, 0.25]
