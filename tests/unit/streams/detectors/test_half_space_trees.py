"""The compiled trees give River's scores, event by event."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from river.anomaly import HalfSpaceTrees

from streams import features
from streams.detectors.half_space_trees import HEIGHT, N_TREES, SEED, WINDOW, HalfSpaceTreesFold, grow_trees

SERIES = sorted((Path(__file__).resolve().parents[4] / "producers" / "data" / "nab").glob("*/*.csv"))


class River:
    """River's own models, one a number; a cold one says NaN where River says 0."""

    def __init__(self) -> None:
        self.models: dict[int, HalfSpaceTrees] = {}
        self.learned: dict[int, int] = {}

    def fold(self, numbers: np.ndarray, x: np.ndarray) -> np.ndarray:
        scores = []
        for number, row in zip(numbers.tolist(), x.tolist(), strict=True):
            model = self.models.setdefault(
                number, HalfSpaceTrees(n_trees=N_TREES, height=HEIGHT, window_size=WINDOW, seed=SEED)
            )
            columns = dict(enumerate(row))
            score = model.score_one(columns)
            is_cold = self.learned.get(number, 0) < WINDOW
            assert not is_cold or score == 0
            scores.append(np.nan if is_cold else score)
            model.learn_one(columns)
            self.learned[number] = self.learned.get(number, 0) + 1
        return np.array(scores)


def test_equal_to_river_on_random_input_with_three_models() -> None:
    """Over the warm-up and several pivots; the models pivot at different events."""
    random = np.random.default_rng(7)
    count = 9 * WINDOW
    x = random.beta(2, 5, (count, features.COUNT))
    x[random.random(count) < 0.02] = 0.99
    numbers = random.choice(3, count, p=[0.6, 0.3, 0.1])
    ours = HalfSpaceTreesFold().fold(numbers, x)
    assert np.array_equal(ours, River().fold(numbers, x), equal_nan=True)
    assert np.isnan(ours).sum() == sum(min(WINDOW, int((numbers == number).sum())) for number in range(3))


def test_equal_to_river_on_edges() -> None:
    """Features at 0, at 1, at the middle, and on every threshold of the first tree."""
    _, thresholds = grow_trees()
    cuts = np.unique(thresholds[0][thresholds[0] > 0])
    grid = np.concatenate([[0.0, 0.5, 1.0, np.nextafter(1.0, 0)], cuts, np.nextafter(cuts, 0)])
    x = np.random.default_rng(8).choice(grid, (4 * WINDOW, features.COUNT))
    numbers = np.zeros(len(x), np.int64)
    assert np.array_equal(HalfSpaceTreesFold().fold(numbers, x), River().fold(numbers, x), equal_nan=True)


@pytest.mark.parametrize("path", SERIES[:3], ids=lambda path: path.stem)
def test_equal_to_river_on_a_recorded_series(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        values = np.array([float(row["value"]) for row in csv.DictReader(file)][: 5 * WINDOW + 20])
    rows = np.zeros(len(values), np.int64)
    found, _ = features.fold_features(rows, values, np.zeros(1, np.int64), np.zeros((1, features.WIDTH)))
    x = features.squash(found)
    scores = HalfSpaceTreesFold().fold(rows, x)
    assert np.array_equal(scores, River().fold(rows, x), equal_nan=True)
    assert np.nanstd(scores) > 0


def test_a_recorded_series_is_there() -> None:
    assert len(SERIES) >= 3


def test_a_strange_reading_scores_higher_than_the_usual_ones() -> None:
    random = np.random.default_rng(9)
    x = random.normal(0.5, 0.03, (1001, features.COUNT)).clip(0, 1)
    x[-1] = 0.97
    scores = HalfSpaceTreesFold().fold(np.zeros(len(x), np.int64), x)
    assert scores[-1] > np.nanquantile(scores[:-1], 0.999)


def test_no_events_make_no_models() -> None:
    fold = HalfSpaceTreesFold()
    assert len(fold.fold(np.empty(0, np.int64), np.empty((0, features.COUNT)))) == 0
    assert len(fold.counter) == 0
