"""Scores of a batch of readings: features, every detector, calibration, alarm policy. State for one partition.

What a detector says becomes an excess: powers of ten beyond the bar of the device's plan.

| detector | says | bar |
| --- | --- | --- |
| adaptive | 0.25 y + H | threshold |
| deviation | -log10 of the chance | sudden |
| half-space-trees, isolation-forest, River's by name | H + 0.25 min(size of the deviation, 6) | threshold + 0.75 |

Those that vote compete: the largest excess goes to the alarm policy. All of these look at one channel: one sensor type
of one device. The multivariate detector looks at all channels of a device together, and where it votes its verdict
stands by itself: a machine is abnormal for as long as it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from streams import features
from streams.alarms import AlarmFold
from streams.arrays import grown
from streams.detectors.adaptive import AdaptiveFold
from streams.detectors.deviation import DeviationFold
from streams.detectors.multivariate import MultivariateFold
from streams.detectors.river_half_space_trees import TREES_BY
from streams.pace import PaceFold
from streams.policy import EVIDENCE_THRESHOLD, PolicyFold, as_score
from streams.river_voters import RiverVoters
from streams.tuning import DETECTORS, SUDDEN, THRESHOLD, VOTERS, PlanFold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streams.batch import ActiveModel
    from streams.detectors.adaptive import Unusual
    from streams.detectors.deviation import Deviations
    from streams.detectors.multivariate import Together
    from streams.river_names import Parameters

ADAPTIVE, DEVIATION = range(2)
ISOLATION_FOREST: Final = 3
MULTIVARIATE: Final = 4
_BATCH: Final = 1
"""The batch model's column in raw scores and their calibration."""
_SIZE_WEIGHT, _SIZE_LIMIT = 0.25, 6.0
NO_RIVER: Final[Mapping[str, Parameters]] = {}
_MODEL_MARGIN: Final = 0.75
"""Models know less of a device than its own past does: they must be surer (the best of five values on NAB)."""


@dataclass(frozen=True)
class Scores:
    """Columns of a scored batch; NaN where there is no score (yet).

    ``rarity`` has a column for each of ``names``, in powers of ten: 4 is "1 in 10,000"; ``winner`` is the column that
    is furthest beyond its bar. ``is_together`` says where the multivariate detector alone makes the anomaly.
    ``raw_batch`` is the batch model's score before calibration, ``x`` what it was given. After a reading of
    ``unusual.restarts`` its channel has drifted and begins anew, until one of ``is_back``: it is ready again.
    """

    online: NDArray[np.float64]
    batch: NDArray[np.float64]
    score: NDArray[np.float64]
    is_ready: NDArray[np.bool_]
    is_anomaly: NDArray[np.bool_]
    is_record: NDArray[np.bool_]
    raw_batch: NDArray[np.float64]
    x: NDArray[np.float64]
    is_settled: NDArray[np.bool_]
    rarity: NDArray[np.float64]
    winner: NDArray[np.int64]
    unusual: Unusual
    deviations: Deviations
    together: Together
    is_together: NDArray[np.bool_]
    is_back: NDArray[np.bool_]
    names: tuple[str, ...]


class Scorer:
    """State of one partition; rows are channels (one sensor type of one device), models sensor types."""

    def __init__(
        self,
        warm_up: int,
        voters: Sequence[str] = VOTERS,
        trees_by: str = "kernel",
        river: Mapping[str, Parameters] = NO_RIVER,
    ) -> None:
        self.warm_up = warm_up
        self.river = RiverVoters(river)
        self.names = (*DETECTORS[:MULTIVARIATE], *self.river.names)
        self._votes = np.array([name in voters or name in river for name in self.names])
        self._together_votes = DETECTORS[MULTIVARIATE] in voters
        self.seen = np.zeros(0, np.int64)
        self.stats = np.zeros((0, features.WIDTH), np.float64)
        self.pace = PaceFold()
        self.plans = PlanFold()
        self.adaptive = AdaptiveFold()
        self.deviation = DeviationFold()
        self.multivariate = MultivariateFold()
        self.trees = TREES_BY[trees_by]()
        self.policy = PolicyFold(2)
        self.alarms = AlarmFold()

    def fold(  # noqa: PLR0913, PLR0917  # the columns of a batch
        self,
        devices: NDArray[np.int64],
        rows: NDArray[np.int64],
        models: NDArray[np.int64],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        active: Sequence[ActiveModel | None],
        overrides: NDArray[np.float64],
    ) -> Scores:
        """Score a batch in offset order, then learn from it.

        ``devices`` and ``rows`` number devices and channels, ``times`` are event times (ms), ``active`` is the batch
        model of each model number and ``overrides`` (models, tuning.WIDTH) its settings.
        """
        count = int(rows.max(initial=-1)) + 1
        self.seen = grown(self.seen, count)
        self.stats = grown(self.stats, count)
        intervals, gaps = self.pace.fold(rows, times)
        plans = self.plans.fold(rows, models, intervals, self.warm_up, overrides)
        unusual = self.adaptive.fold(rows, times, values, gaps, plans)
        restarts = unusual.restarts
        deviations = self.deviation.fold(rows, values, gaps, restarts)

        found, seen_before = features.fold_features(rows, values, self.seen, self.stats, restarts)
        is_settled = seen_before >= self.warm_up
        x = features.squash(found)
        raw = np.full((len(rows), 2), np.nan)
        raw[:, 0] = self.trees.fold(models, x)
        for number, model in enumerate(active):
            if model is not None:
                mine = models == number
                raw[mine, 1] = model.forest.score(x[mine])
        tails = self.policy.fold(models, raw, ~np.isnan(raw) & is_settled[:, None])

        size = np.minimum(_SIZE_WEIGHT * deviations.size, _SIZE_WEIGHT * _SIZE_LIMIT)
        by_models = [tails[:, 0], tails[:, 1], *self.river.fold(models, x, is_settled)]
        says = np.stack([unusual.score, deviations.evidence, *(tail + size for tail in by_models)], axis=1)
        bars = plans[:, [THRESHOLD, SUDDEN, *(THRESHOLD for _ in by_models)]]
        bars[:, 2:] += _MODEL_MARGIN
        excess = says - bars
        excess[:, ~self._votes] = -np.inf
        excess[np.isnan(excess)] = -np.inf
        winner = excess.argmax(axis=1)
        alarms = self.alarms.fold(rows, values, excess[np.arange(len(rows)), winner], plans, restarts)
        together = self.multivariate.fold(devices, rows, times, values, plans, restarts)
        is_together = together.is_abnormal & alarms.is_ready & ~alarms.is_alarm & self._together_votes
        is_alarm = alarms.is_alarm | is_together
        evidence = EVIDENCE_THRESHOLD + alarms.raised
        return Scores(
            online=as_score(tails[:, 0]),
            batch=as_score(tails[:, 1]),
            score=as_score(np.where(is_alarm, np.maximum(evidence, EVIDENCE_THRESHOLD), evidence)),
            is_ready=alarms.is_ready,
            is_anomaly=is_alarm,
            is_record=alarms.is_record,
            raw_batch=raw[:, 1],
            x=x,
            is_settled=is_settled,
            rarity=np.column_stack([unusual.rarity, deviations.evidence, *by_models]),
            winner=winner,
            unusual=unusual,
            deviations=deviations,
            together=together,
            is_together=is_together,
            is_back=alarms.is_back,
            names=self.names,
        )

    def recalibrate(self, kind: int, calibration: tuple[NDArray[np.float64], float] | None) -> None:
        """Begin the batch model's calibration of a sensor type anew: its model is another one from here on.

        ``calibration`` is how the new one was calibrated here as a shadow, with the weight of its next reading.
        """
        if kind < len(self.policy.weights):
            self.policy.replace(kind, _BATCH, calibration)

    _PARTS: Final = ("pace", "plans", "adaptive", "deviation", "multivariate", "trees", "policy", "alarms")
    BY_CHANNEL: Final = ("seen", "stats", "pace", "plans", "adaptive", "deviation", "alarms")
    """Parts of a snapshot whose arrays have a row for each channel."""

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs."""
        parts: dict[str, Any] = {part: getattr(self, part).snapshot() for part in self._PARTS}
        return parts | {"seen": self.seen, "stats": self.stats, "river": self.river.snapshot()}

    @classmethod
    def restore(
        cls,
        warm_up: int,
        state: dict[str, Any],
        voters: Sequence[str] = VOTERS,
        trees_by: str = "kernel",
        river: Mapping[str, Parameters] = NO_RIVER,
    ) -> Self:
        """Return a scorer that goes on where the snapshot was taken."""
        scorer = cls(warm_up, voters, trees_by, river)
        scorer.river.restore(state.get("river", {}))
        scorer.seen, scorer.stats = state["seen"].copy(), state["stats"].copy()
        for part in cls._PARTS:
            setattr(scorer, part, type(getattr(scorer, part)).restore(state[part]))
        return scorer
