"""The flattened forest gives scikit-learn's scores."""

from __future__ import annotations

import numpy as np
import pytest

from streams.detectors import isolation_forest
from streams.detectors.isolation_forest import SAMPLES
from streams.features import COUNT


def sample_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.12, (count, COUNT)).clip(0, 1)


@pytest.mark.parametrize("count", [2, 3, 40, SAMPLES - 1, SAMPLES, SAMPLES + 1, 3000])
def test_equal_to_score_samples(count: int) -> None:
    """For samples below, at and above the size of a tree's own sample."""
    model = isolation_forest.train(sample_of(count))
    x = np.concatenate([sample_of(200, seed=1), np.random.default_rng(2).random((200, COUNT)), np.eye(COUNT)])
    scores = isolation_forest.flatten(model).score(x)
    assert np.abs(scores + model.score_samples(x)).max() < 1e-12


def test_equal_on_the_thresholds_themselves() -> None:
    """Values on a split, or beside it by one bit of a single float, go the way that scikit-learn sends them."""
    model = isolation_forest.train(sample_of(500))
    for estimator in model.estimators_:  # both compare single floats: let the thresholds be some
        estimator.tree_.threshold[:] = estimator.tree_.threshold.astype(np.float32)
    forest = isolation_forest.flatten(model)
    cuts = forest.threshold[np.isfinite(forest.threshold)][:400]
    x = np.repeat(cuts[:, None], COUNT, axis=1)
    near = np.nextafter(x.astype(np.float32), np.float32(1)).astype(np.float64)
    both = np.concatenate([x, near])
    assert np.abs(forest.score(both) + model.score_samples(both)).max() < 1e-12


def test_equal_for_a_constant_sample() -> None:
    """Trees of a single leaf."""
    model = isolation_forest.train(np.full((300, COUNT), 0.5))
    x = sample_of(20)
    assert np.abs(isolation_forest.flatten(model).score(x) + model.score_samples(x)).max() < 1e-12


def test_same_seed_same_forest() -> None:
    x = sample_of(50, seed=3)
    first, second, other = (
        isolation_forest.flatten(isolation_forest.train(sample_of(400), seed)).score(x) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_strange_reading_scores_higher() -> None:
    forest = isolation_forest.flatten(isolation_forest.train(sample_of(1000)))
    assert forest.score(np.full((1, COUNT), 0.99))[0] > forest.score(sample_of(300, seed=4)).max()


def test_no_rows_no_scores() -> None:
    forest = isolation_forest.flatten(isolation_forest.train(sample_of(100)))
    assert forest.score(np.empty((0, COUNT))).shape == (0,)
