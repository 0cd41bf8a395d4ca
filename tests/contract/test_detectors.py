"""The contract of detectors, over every one of ``streams/detectors`` and over the scorer that combines them.

Input stays as it was; a score is in 0..1 or there is none (NaN); the same seed gives the same scores; a snapshot,
taken anywhere and put through bytes, changes nothing; and where a batch is cut changes nothing. Bit for bit.
"""

from __future__ import annotations

import itertools
import pkgutil
from dataclasses import asdict
from functools import cache
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import detectors, features, tuning
from streams.batch import ActiveModel
from streams.detectors import (
    adaptive,
    deviation,
    half_space_trees,
    isolation_forest,
    multivariate,
    river_detector,
    river_half_space_trees,
)
from streams.detectors.adaptive import AdaptiveFold
from streams.detectors.deviation import DeviationFold
from streams.detectors.half_space_trees import HalfSpaceTreesFold
from streams.detectors.isolation_forest import FlatForest
from streams.detectors.multivariate import MultivariateFold
from streams.detectors.river_detector import RiverDetectorFold
from streams.detectors.river_half_space_trees import RiverHalfSpaceTreesFold
from streams.pace import PaceFold
from streams.policy import as_score
from streams.scoring import Scorer
from streams.tuning import PlanFold
from tests.unit.streams.lanes import through_the_changelog

EVENTS = 1200
KINDS = 2
MODEST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Detector(Protocol):
    """What the contract asks for: scores of a batch in offset order, and a state that can be carried away."""

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray: ...
    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, stored: dict[str, Any]) -> Detector: ...


class Trees:
    """Needs kinds and features only."""

    def __init__(self, fold: Any = None) -> None:
        self._fold = fold or HalfSpaceTreesFold()

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del rows, values
        return self._fold.fold(kinds, x)

    def snapshot(self) -> dict[str, Any]:
        return self._fold.snapshot()

    def restore(self, stored: dict[str, Any]) -> Trees:
        return Trees(type(self._fold).restore(stored))


class River:
    """Needs kinds and features only. Its window is short here, so that a model is succeeded several times."""

    def __init__(self, name: str, parameters: dict[str, Any], window: int) -> None:
        self._made_from = name, parameters, window
        self._fold = RiverDetectorFold(name, parameters, window)

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del rows, values
        return self._fold.fold(kinds, x)

    def snapshot(self) -> dict[str, Any]:
        return self._fold.snapshot()

    def restore(self, stored: dict[str, Any]) -> River:
        again = River(*self._made_from)
        again._fold.restore(stored)
        return again


@cache
def trained() -> FlatForest:
    return isolation_forest.flatten(isolation_forest.train(stream()[3][:400], seed=5))


class Forest:
    """Learns nothing after training: its state is itself."""

    def __init__(self, forest: FlatForest | None = None) -> None:
        self._forest = forest or trained()

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del kinds, rows, values
        return self._forest.score(x)

    def snapshot(self) -> dict[str, Any]:
        return asdict(self._forest)

    def restore(self, stored: dict[str, Any]) -> Forest:
        numbers = {"normal_depth": float(stored["normal_depth"]), "steps": int(stored["steps"])}
        return Forest(FlatForest(**(stored | numbers)))


TIMES = np.arange(EVENTS) * 60_000
"""Event times of the stream (ms): five devices, each every five minutes on average."""


class Adaptive:
    """Needs plans, which need the interval; knows where in the stream it is."""

    def __init__(self) -> None:
        self._at, self._pace, self._plans, self._fold = 0, PaceFold(), PlanFold(), AdaptiveFold()

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del x
        times = TIMES[self._at : self._at + len(rows)]
        self._at += len(rows)
        intervals, gaps = self._pace.fold(rows, times)
        plans = self._plans.fold(rows, kinds, intervals, 30, np.full((KINDS, tuning.WIDTH), np.nan))
        return as_score(self._fold.fold(rows, times, values, gaps, plans).score)

    def snapshot(self) -> dict[str, Any]:
        parts = {"pace": self._pace, "plans": self._plans, "fold": self._fold}
        return {name: part.snapshot() for name, part in parts.items()} | {"at": np.array([self._at])}

    def restore(self, stored: dict[str, Any]) -> Adaptive:
        again = Adaptive()
        again._at = int(stored["at"][0])
        again._pace, again._plans = PaceFold.restore(stored["pace"]), PlanFold.restore(stored["plans"])
        again._fold = AdaptiveFold.restore(stored["fold"])
        return again


class Deviation:
    """Needs devices and values only."""

    def __init__(self, fold: DeviationFold | None = None) -> None:
        self._fold = fold or DeviationFold()

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del kinds, x
        return as_score(self._fold.fold(rows, values, np.zeros(len(rows), np.bool_)).evidence)

    def snapshot(self) -> dict[str, Any]:
        return self._fold.snapshot()

    def restore(self, stored: dict[str, Any]) -> Deviation:
        return Deviation(DeviationFold.restore(stored))


class Multivariate:
    """Takes four devices for one with four channels, in rows of ten readings; without a row there is no score."""

    def __init__(self) -> None:
        self._at, self._fold = 0, MultivariateFold()

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del kinds, x
        times = TIMES[self._at : self._at + len(rows)] // 600_000
        self._at += len(rows)
        plans = np.full((len(rows), tuning.WIDTH), 40.0)
        return as_score(self._fold.fold(rows // 4, rows, times, values, plans).score)

    def snapshot(self) -> dict[str, Any]:
        return self._fold.snapshot() | {"at": np.array([self._at])}

    def restore(self, stored: dict[str, Any]) -> Multivariate:
        again = Multivariate()
        again._at, again._fold = int(stored["at"][0]), MultivariateFold.restore(stored)
        return again


class Whole:
    """The scorer: features, all detectors, policies. ``which`` column of its scores is looked at."""

    def __init__(self, which: str, scorer: Scorer | None = None) -> None:
        self._which, self._at = which, 0
        self._scorer = scorer or Scorer(warm_up=30)

    def fold(self, kinds: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        del x
        times = TIMES[self._at : self._at + len(rows)] // 300
        self._at += len(rows)
        active = [ActiveModel("v", trained()), None][: int(kinds.max(initial=-1)) + 1]
        scores: np.ndarray = getattr(
            self._scorer.fold(rows, rows, kinds, times, values, active, np.full((KINDS, tuning.WIDTH), np.nan)),
            self._which,
        )
        return scores

    def snapshot(self) -> dict[str, Any]:
        return self._scorer.snapshot() | {"at": np.array([self._at])}

    def restore(self, stored: dict[str, Any]) -> Whole:
        again = Whole(self._which, Scorer.restore(30, stored))
        again._at = int(stored["at"][0])
        return again


MAKERS = {
    adaptive.__name__: Adaptive,
    deviation.__name__: Deviation,
    multivariate.__name__: Multivariate,
    half_space_trees.__name__: Trees,
    river_half_space_trees.__name__: lambda: Trees(RiverHalfSpaceTreesFold()),
    isolation_forest.__name__: Forest,
    river_detector.__name__: lambda: River("river:anomaly.OneClassSVM", {"nu": 0.2}, 60),
    "half-space trees by name": lambda: River(
        "river:anomaly.HalfSpaceTrees", {"n_trees": 2, "height": 5, "window_size": 20}, 50
    ),
    "local outlier factor by name": lambda: River("river:anomaly.LocalOutlierFactor", {"n_neighbors": 2}, 10),
    "scorer, online": lambda: Whole("online"),
    "scorer, batch": lambda: Whole("batch"),
    "scorer, combined": lambda: Whole("score"),
}


@cache
def stream() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kinds, device rows, values, squashed features: two kinds, five devices, noise with spikes and a stuck device."""
    random = np.random.default_rng(11)
    rows = random.integers(0, 5, EVENTS)
    values = random.normal(20, 2, EVENTS)
    values[random.random(EVENTS) < 0.01] *= 5
    values[(rows == 4) & (np.arange(EVENTS) > 900)] = 20.0
    found, _ = features.fold_features(rows, values, np.zeros(5, np.int64), np.zeros((5, features.WIDTH)))
    return rows % KINDS, rows, values, features.squash(found)


def score(detector: Detector, start: int = 0, stop: int = EVENTS) -> np.ndarray:
    kinds, rows, values, x = stream()
    return detector.fold(kinds[start:stop], rows[start:stop], values[start:stop], x[start:stop])


@cache
def expected(name: str) -> np.ndarray:
    return score(MAKERS[name]())


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_every_detector_is_under_this_contract() -> None:
    modules = {f"{detectors.__name__}.{module.name}" for module in pkgutil.iter_modules(detectors.__path__)}
    assert modules <= MAKERS.keys()


def test_river_and_the_kernel_say_the_same_and_take_over_from_each_other() -> None:
    kinds, _, _, x = stream()
    kernel, river = HalfSpaceTreesFold(), RiverHalfSpaceTreesFold()
    first, second = slice(0, 700), slice(700, None)
    assert np.array_equal(kernel.fold(kinds[first], x[first]), river.fold(kinds[first], x[first]), equal_nan=True)
    taken_over = RiverHalfSpaceTreesFold.restore(kernel.snapshot()), HalfSpaceTreesFold.restore(river.snapshot())
    rest = kernel.fold(kinds[second], x[second])
    for fold in taken_over:
        assert np.array_equal(fold.fold(kinds[second], x[second]), rest, equal_nan=True)


def test_input_is_not_changed(name: str) -> None:
    columns = [column.copy() for column in stream()]
    MAKERS[name]().fold(*columns)
    for column, original in zip(columns, stream(), strict=True):
        assert np.array_equal(column, original)


def test_scores_lie_in_0_to_1_or_are_missing(name: str) -> None:
    scores = expected(name)
    known = scores[~np.isnan(scores)]
    assert scores.shape == (EVENTS,)
    assert len(known) > EVENTS // 20
    assert ((known >= 0) & (known <= 1)).all()
    assert len(np.unique(known)) > 20


@pytest.mark.parametrize("extreme", [0.0, 1.0, 0.5])
def test_scores_lie_in_0_to_1_at_the_edges_of_the_features(name: str, extreme: float) -> None:
    kinds, rows, values, x = stream()
    scores = MAKERS[name]().fold(kinds, rows, values * (1e300 if extreme else 0.0), np.full_like(x, extreme))
    known = scores[~np.isnan(scores)]
    assert ((known >= 0) & (known <= 1)).all()


def test_a_detector_made_again_gives_the_same_scores(name: str) -> None:
    trained.cache_clear()
    assert np.array_equal(score(MAKERS[name]()), expected(name), equal_nan=True)


@MODEST
@given(at=st.integers(0, EVENTS))
def test_a_snapshot_changes_nothing(name: str, at: int) -> None:
    detector = MAKERS[name]()
    before = score(detector, 0, at)
    stored = through_the_changelog(detector.snapshot())
    score(detector, at)  # whoever gave the snapshot goes on: what was stored is not touched by it
    after = score(MAKERS[name]().restore(stored), at)
    assert np.array_equal(np.concatenate([before, after]), expected(name), equal_nan=True)


def test_what_is_restored_shares_nothing_with_its_snapshot(name: str) -> None:
    detector = MAKERS[name]()
    score(detector, 0, 600)
    stored = through_the_changelog(detector.snapshot())
    first = score(detector.restore(stored), 600)
    assert np.array_equal(score(detector.restore(stored), 600), first, equal_nan=True)


@MODEST
@given(cuts=st.sets(st.integers(1, EVENTS - 1), max_size=30))
def test_cutting_a_batch_changes_nothing(name: str, cuts: set[int]) -> None:
    detector = MAKERS[name]()
    marks = [0, *sorted(cuts), EVENTS]
    parts = [score(detector, start, stop) for start, stop in itertools.pairwise(marks)]
    assert np.array_equal(np.concatenate(parts), expected(name), equal_nan=True)


def test_one_event_at_a_time_changes_nothing(name: str) -> None:
    detector = MAKERS[name]()
    parts = [score(detector, at, at + 1) for at in range(EVENTS)]
    assert np.array_equal(np.concatenate(parts), expected(name), equal_nan=True)


def test_an_empty_batch_changes_nothing(name: str) -> None:
    detector = MAKERS[name]()
    parts = [score(detector, 0, 700), score(detector, 700, 700), score(detector, 700)]
    assert np.array_equal(np.concatenate(parts), expected(name), equal_nan=True)
