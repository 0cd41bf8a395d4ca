"""Shadow models: they score beside the model in force and are compared with it. No output depends on them.

What both say of a reading is compared in three ways: whether the raw score is above the model's own alarm level (what
one training reading in 1,000 is), whether the reading is among the strangest hundredth of what the model has seen here,
and by how much the calibrated scores differ. Readings count once the shadow is calibrated on its partition.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwatch.logs import get_logger
from fleetwatch.model_catalogue import FALLBACK
from fleetwatch.records import ModelComparison, from_millis
from streams.model_names import version_of
from streams.policy import PolicyFold, as_score
from streams.scoring import ISOLATION_FOREST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from streams.batch import ActiveModel
    from streams.scoring import Scores

log = get_logger(__name__)

CALIBRATION: Final = 300
"""Readings on a partition before a shadow's score is compared: one in 100 must mean something."""
STRANGE: Final = 2.0
"""One in 100, in powers of ten."""


class ShadowFold:
    """One shadow on one partition."""

    def __init__(self, sensor_type: str, model: ActiveModel, before: ModelComparison) -> None:
        self.sensor_type, self.model, self.total = sensor_type, model, before
        self.is_changed = False
        self._policy = PolicyFold(1)
        self._seen = 0

    def fold(self, scores: Scores, mine: NDArray[np.int64], level: float, until_ms: int) -> None:
        """Score the rows ``mine`` of a batch; ``level`` is the alarm level of the model in force."""
        raw = self.model.forest.score(scores.x[mine])[:, None]
        settled = scores.is_settled[mine] & ~np.isnan(scores.raw_batch[mine])
        tails = self._policy.fold(np.zeros(len(mine), np.int64), raw, settled[:, None])[:, 0]
        order = self._seen + np.cumsum(settled)
        self._seen = int(order[-1])
        counted = settled & (order > CALIBRATION)
        if not counted.any():
            return
        ours, theirs = tails[counted], scores.rarity[mine, ISOLATION_FOREST][counted]
        strange, strange_against = ours >= STRANGE, theirs >= STRANGE
        total = self.total
        self.total = replace(
            total,
            readings=total.readings + int(counted.sum()),
            alarms=total.alarms + int((raw[counted, 0] > self.model.alarm_level).sum()),
            alarms_against=total.alarms_against + int((scores.raw_batch[mine][counted] > level).sum()),
            strange_both=total.strange_both + int((strange & strange_against).sum()),
            strange_either=total.strange_either + int((strange | strange_against).sum()),
            difference_sum=total.difference_sum + float(np.abs(as_score(ours) - as_score(theirs)).sum()),
            since=total.since if total.readings else from_millis(until_ms),
            until=from_millis(until_ms),
        )
        self.is_changed = True

    def histogram(self) -> tuple[NDArray[np.float64], float]:
        """Return its calibration here, and the weight of the next reading in it."""
        return self._policy.histograms[0, 0], float(self._policy.weights[0])

    @property
    def is_calibrated(self) -> bool:
        """Whether its calibration says more than none."""
        return self._seen > CALIBRATION


class Shadows:
    """The shadows of one lane."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._folds: dict[str, ShadowFold] = {}

    def watch(
        self,
        shadows: Mapping[str, ActiveModel],
        models: Mapping[str, ActiveModel],
        known: Callable[[str, str, int], ModelComparison | None],
    ) -> None:
        """Have these shadows score from now on, beside these models; what is ``known`` of a pair is gone on with."""
        before, self._folds = self._folds, {}
        for sensor_type, model in shadows.items():
            active = models.get(sensor_type)
            if active is None or active.version == model.version:
                continue
            version, against = version_of(model.version), version_of(active.version)
            fold = before.get(sensor_type)
            if fold is not None and (fold.total.version, fold.total.against) == (version, against):
                self._folds[sensor_type] = fold
                continue
            total = known(sensor_type, version, self._partition)
            if total is None or total.against != against:
                total = _nothing(sensor_type, version, against, self._partition)
            self._folds[sensor_type] = ShadowFold(sensor_type, model, total)

    def fold(
        self,
        names: list[str],
        kinds: NDArray[np.int64],
        scores: Scores,
        models: Mapping[str, ActiveModel],
        until_ms: int,
    ) -> None:
        """Score a batch that the models in force have scored; ``names`` are the sensor types by number.

        A shadow that cannot score is said in the log and given up: it must not hinder the others.
        """
        for sensor_type, shadow in list(self._folds.items()):
            served = [
                number
                for number, name in enumerate(names)
                if name == sensor_type or (sensor_type == FALLBACK and name not in models)
            ]
            mine = np.flatnonzero(np.isin(kinds, served))
            if len(mine) == 0:
                continue
            try:
                shadow.fold(scores, mine, models[sensor_type].alarm_level, until_ms)
            except Exception:
                log.exception("shadow_given_up", sensor_type=sensor_type, model=shadow.model.version)
                del self._folds[sensor_type]

    def calibration(self, sensor_type: str, version: str) -> tuple[NDArray[np.float64], float] | None:
        """Return how a shadow is calibrated here; None if it is not. ``version`` as scored readings call it."""
        shadow = self._folds.get(sensor_type)
        if shadow is None or shadow.model.version != version or not shadow.is_calibrated:
            return None
        return shadow.histogram()

    def changed(self) -> list[ModelComparison]:
        """Return the comparisons that changed since last time."""
        found = [shadow for shadow in self._folds.values() if shadow.is_changed]
        for shadow in found:
            shadow.is_changed = False
        return [shadow.total for shadow in found]


def _nothing(sensor_type: str, version: str, against: str, partition: int) -> ModelComparison:
    return ModelComparison(
        sensor_type=sensor_type,
        version=version,
        against=against,
        partition=partition,
        readings=0,
        alarms=0,
        alarms_against=0,
        strange_both=0,
        strange_either=0,
        difference_sum=0.0,
        since=from_millis(0),
        until=from_millis(0),
    )
