"""Scores of a batch of readings: features, both models, policy. State for one partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streams import features
from streams.arrays import grown
from streams.detectors.half_space_trees import HalfSpaceTreesFold
from streams.policy import EVIDENCE_THRESHOLD, PolicyFold, as_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.batch import ActiveModel


@dataclass(frozen=True)
class Scores:
    """Columns of a scored batch; NaN where there is no score (yet)."""

    online: NDArray[np.float64]
    batch: NDArray[np.float64]
    score: NDArray[np.float64]
    is_ready: NDArray[np.bool_]
    is_anomaly: NDArray[np.bool_]
    has_model: NDArray[np.bool_]
    x: NDArray[np.float64]
    is_settled: NDArray[np.bool_]


class Scorer:
    """Feature, half-space-trees and calibration state of one partition; rows are devices, models sensor types."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.seen = np.zeros(0, np.int64)
        self.stats = np.zeros((0, features.WIDTH), np.float64)
        self.typical = np.zeros(0, np.float64)
        self.trees = HalfSpaceTreesFold()
        self.policy = PolicyFold(2)

    def fold(
        self,
        rows: NDArray[np.int64],
        models: NDArray[np.int64],
        values: NDArray[np.float64],
        active: Sequence[ActiveModel | None],
    ) -> Scores:
        """Score a batch in offset order, then learn from it. ``active`` is the batch model of each model number."""
        devices = int(rows.max(initial=-1)) + 1
        self.seen = grown(self.seen, devices)
        self.stats = grown(self.stats, devices)
        self.typical = grown(self.typical, devices, features.TYPICAL)
        found, seen_before = features.fold_features(rows, values, self.seen, self.stats)
        is_settled = seen_before >= self.warm_up
        x = features.squash(found)
        raw = np.full((len(rows), 2), np.nan)
        raw[:, 0] = self.trees.fold(models, x)
        for number, model in enumerate(active):
            if model is not None:
                mine = models == number
                raw[mine, 1] = model.forest.score(x[mine])
        has_model = ~np.isnan(raw[:, 1])
        magnitude = features.fold_magnitude(rows, found, self.typical)
        usable = ~np.isnan(raw) & is_settled[:, None]
        tails, evidence = self.policy.fold(models, raw, usable, magnitude)
        is_ready = ~np.isnan(evidence)
        return Scores(
            online=as_score(tails[:, 0]),
            batch=as_score(tails[:, 1]),
            score=as_score(evidence),
            is_ready=is_ready,
            is_anomaly=is_ready & (evidence >= EVIDENCE_THRESHOLD),
            has_model=has_model,
            x=x,
            is_settled=is_settled,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        return {
            "seen": self.seen,
            "stats": self.stats,
            "typical": self.typical,
            "trees": self.trees.snapshot(),
            "policy": self.policy.snapshot(),
        }

    @classmethod
    def restore(cls, warm_up: int, state: dict[str, Any]) -> Self:
        """Return a scorer that goes on where the snapshot was taken."""
        scorer = cls(warm_up)
        scorer.seen, scorer.stats = state["seen"].copy(), state["stats"].copy()
        scorer.typical = state["typical"].copy()
        scorer.trees = HalfSpaceTreesFold.restore(state["trees"])
        scorer.policy = PolicyFold.restore(state["policy"])
        return scorer
