"""Samples for the first training."""

from __future__ import annotations

import numpy as np

from streams.training import TrainingSamples


def rows(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.float64)[:, None] * np.ones(4)


def test_a_sample_is_handed_out_when_it_is_full_and_only_once() -> None:
    samples = TrainingSamples(10)
    assert samples.add("temperature", rows(6)) is None
    sample = samples.add("temperature", rows(6, first=6))
    assert sample is not None
    assert np.array_equal(sample, rows(10))
    assert samples.add("temperature", rows(50)) is None


def test_sensor_types_fill_up_apart() -> None:
    samples = TrainingSamples(10)
    assert samples.add("temperature", rows(9)) is None
    assert samples.add("vibration", rows(9)) is None
    assert samples.add("vibration", rows(1)) is not None
    assert samples.add("temperature", rows(1)) is not None


def test_after_a_failed_training_collecting_starts_again() -> None:
    samples = TrainingSamples(3)
    assert samples.add("temperature", rows(3)) is not None
    samples.forget("temperature")
    assert samples.add("temperature", rows(2)) is None
    assert samples.add("temperature", rows(2)) is not None
