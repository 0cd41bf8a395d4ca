"""Any River detector by name: what can be named, and that its scores come out comparable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import anomaly

from streams import features
from streams.detectors.river_detector import RiverDetectorFold
from streams.policy import PolicyFold
from streams.river_names import SEED, check, detector_class, new_model, usable

SVM, LOF, LODA = (f"river:anomaly.{name}" for name in ("OneClassSVM", "LocalOutlierFactor", "LODA"))


def squashed(count: int, seed: int = 1) -> np.ndarray:
    """Features of twenty devices' noise with heavy tails."""
    random = np.random.default_rng(seed)
    rows, values = random.integers(0, 20, count), random.standard_t(3, count)
    found, _ = features.fold_features(rows, values, np.zeros(20, np.int64), np.zeros((20, features.WIDTH)))
    return features.squash(found)


def placed_by(scores: np.ndarray, window: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Where in 0..1 the raw scores come out that a model gives once it has learned a window."""
    at = iter(scores.tolist())
    monkeypatch.setattr(anomaly.OneClassSVM, "score_one", lambda _model, _x: next(at))
    middle = np.full((len(scores) + window, features.COUNT), 0.5)
    return RiverDetectorFold(SVM, {}, window).fold(np.zeros(len(middle), np.int64), middle)[window:]


def test_every_unsupervised_detector_of_the_package_can_be_named_and_works() -> None:
    assert {"river:anomaly.HalfSpaceTrees", LODA, LOF, SVM} <= set(usable())
    for name in usable():
        check(name, {})


def test_a_longer_way_to_the_same_class_is_a_name_too() -> None:
    assert detector_class("river:anomaly.svm.OneClassSVM") is anomaly.OneClassSVM


def test_what_takes_a_seed_gets_one_unless_it_is_given() -> None:
    assert new_model(LODA, {}).seed == SEED
    assert new_model(LODA, {"seed": 3}).seed == 3


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("anomaly.GaussianScorer", "is told what is right"),
        ("anomaly.StandardAbsoluteDeviation", "is told what is right"),
        ("anomaly.QuantileFilter", "is no detector"),
        ("base.AnomalyDetector", "is no detector"),
        ("linear_model.LinearRegression", "is no detector"),
        ("anomaly.hst", "is no detector"),
        ("anomaly.Magic", "River has no anomaly.Magic"),
        ("nowhere.OneClassSVM", "River has no"),
        ("OneClassSVM", "River has no"),
        ("", "River has no"),
        ("anomaly..OneClassSVM", "River has no"),
        ("..os.system", "River has no"),
        ("anomaly.hst.random.Random", "River has no"),
        ("anomaly.hst.collections", "is no detector"),
        ("anomaly/OneClassSVM", "River has no"),
    ],
)
def test_other_names_are_refused_and_the_possible_ones_said(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"there are river:anomaly\.HalfSpaceTrees, .*anomaly\.OneClassSVM") as no:
        detector_class(f"river:{name}")
    assert why in str(no.value)


@pytest.mark.parametrize(
    ("name", "parameters", "why"),
    [
        (SVM, {"nuu": 0.1}, "has no parameter nuu; it has nu, optimizer"),
        (SVM, {"nu": "much"}, "cannot be made: TypeError"),
        (SVM, {"nu": float("nan")}, "no finite score"),
        (SVM, {"optimizer": 3}, "fails on samples"),
        (LOF, {"n_neighbors": "ten"}, "fails on samples"),
        ("river:anomaly.HalfSpaceTrees", {"window_size": 1000}, "the same score after 250"),
        ("river:anomaly.HalfSpaceTrees", {"limits": 3}, "cannot be made"),
    ],
)
def test_parameters_that_do_not_work_are_refused(name: str, parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as problem:
        check(name, parameters)
    assert "\n" not in str(problem.value)


def test_it_says_what_river_says_of_the_samples_that_are_kept() -> None:
    """Window 30: the model of sample 100 has learned 60 to 99, since at 90 the successor took over."""
    x = squashed(200)
    fold, river = RiverDetectorFold(SVM, {}, 30), anomaly.OneClassSVM()
    fold.fold(np.zeros(100, np.int64), x[:100])
    for values in x[60:100].tolist():
        river.learn_one(dict(zip(features.NAMES, values, strict=True)))
    assert fold._models[0]._current.weights == river.weights
    assert len(fold.snapshot()["samples"][0]) == 60


def test_a_rare_score_is_as_rare_after_calibration_as_its_exact_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 bins resolve scores of any scale: with those of a heavy tail H is too low by a tenth of a power."""
    scores = np.random.default_rng(5).standard_t(2, 6000) ** 3 * 1000 + 50
    placed = placed_by(scores, 100, monkeypatch)
    tails = PolicyFold(1).fold(np.zeros(6000, np.int64), placed[:, None], ~np.isnan(placed[:, None]))[:, 0]
    weights = 2.0 ** (np.arange(6000) / 20_000)
    seen = [slice(100, k + 1) for k in range(6000)]
    above = [weights[part][scores[part] >= scores[part.stop - 1]].sum() for part in seen]
    exact = np.array([-np.log10(a / weights[part].sum()) if a else 0.0 for a, part in zip(above, seen, strict=True)])
    late = np.arange(6000) > 1000
    for low in (1.0, 2.0):
        rare = late & (exact >= low) & (exact < low + 1)
        assert rare.sum() > 30
        assert abs(np.mean(exact[rare] - tails[rare])) < 0.1


@pytest.mark.parametrize("times", [1 / 20, 1.0, 20.0])
def test_scores_are_resolved_though_one_was_enormous_and_their_deviation_is_another_now(
    monkeypatch: pytest.MonkeyPatch, times: float
) -> None:
    random = np.random.default_rng(6)
    scores = np.concatenate([random.normal(0, 0.02, 500), [1e9], random.normal(0, 0.02 * times, 500)])
    placed = placed_by(scores, 100, monkeypatch)
    assert placed[500] == placed[100:].max() > 0.99
    upper_half = placed[501:][placed[501:] > np.median(placed[501:])]
    bins, counts = np.unique((upper_half * 256).astype(int), return_counts=True)
    assert (counts / len(upper_half))[bins > np.median(bins)].max() < 0.2


def test_a_scale_waits_for_scores_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = placed_by(np.concatenate([np.full(300, 0.7), np.linspace(0.7, 0.9, 50)]), 100, monkeypatch)
    assert np.isnan(placed[:300]).all()
    assert (np.diff(placed[310:]) > 0).all()


def test_what_is_not_usable_is_neither_scored_nor_learned() -> None:
    x, usable = squashed(600), np.random.default_rng(2).random(600) < 0.5
    some, only = (RiverDetectorFold(SVM, {}, 50) for _ in range(2))
    found = some.fold(np.zeros(600, np.int64), x, usable)
    assert np.isnan(found[~usable]).all()
    expected = only.fold(np.zeros(usable.sum(), np.int64), x[usable])
    assert np.array_equal(found[usable], expected, equal_nan=True)


def test_a_score_that_is_no_number_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomaly.OneClassSVM, "score_one", lambda _model, x: np.inf if x["value"] == 1.0 else x["value"])
    x = squashed(2000)[-200:]
    x[150, 0] = 1.0
    scores = RiverDetectorFold(SVM, {}, 10).fold(np.zeros(200, np.int64), x)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [*range(20), 150]


def test_a_snapshot_of_another_window_is_left_aside() -> None:
    before, after = RiverDetectorFold(SVM, {}, 10), RiverDetectorFold(SVM, {}, 20)
    before.fold(np.zeros(15, np.int64), squashed(15))
    after.restore(before.snapshot())
    assert np.isnan(after.fold(np.zeros(20, np.int64), squashed(20))).all()
