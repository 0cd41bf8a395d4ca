"""Training a version of a batch model: a sample of squashed features becomes a forest, its artefact and its record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch.records import Metric, ModelStatus, ModelVersion
from streams import features
from streams.batch import ActiveModel
from streams.detectors import isolation_forest
from streams.model_names import label, location

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALGORITHM: Final = f"sklearn.IsolationForest({isolation_forest.N_TREES}x{isolation_forest.SAMPLES})"
ALARM_LEVEL: Final = "alarm_level"
"""The metric that says from which raw score on a reading is rarer than one in 1,000 of the training sample."""
STRANGE: Final = 0.99
_SEED: Final = 0


@dataclass(frozen=True)
class Trained:
    """A version that was trained: its record (a shadow, until somebody says otherwise), itself, and as skops bytes."""

    record: ModelVersion
    model: ActiveModel
    artefact: bytes


def train(  # noqa: PLR0913  # what is said of the version, all named
    sensor_type: str,
    sample: NDArray[np.float64],
    now: datetime,
    *,
    status: ModelStatus = ModelStatus.SHADOW,
    span: tuple[datetime, datetime] | None = None,
    note: str = "",
) -> Trained:
    """Train on squashed features (n, features); ``span`` are the first and the last event time of the sample."""
    import skops.io  # noqa: PLC0415  # slow to import, needed when a model is stored or loaded

    model = isolation_forest.train(sample, _SEED)
    fingerprint = fingerprint_of(sample)
    version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{fingerprint[:8]}"
    forest = isolation_forest.flatten(model)
    scores = forest.score(sample)
    level = float(np.quantile(scores, 0.999))
    record = ModelVersion(
        sensor_type=sensor_type,
        version=version,
        algorithm=ALGORITHM,
        status=status,
        location=location(sensor_type, version),
        trained_at=now,
        training_rows=len(sample),
        metrics=(
            Metric(name="score_mean", value=float(scores.mean())),
            Metric(name="score_p99", value=float(np.quantile(scores, STRANGE))),
            Metric(name=ALARM_LEVEL, value=level),
        ),
        changed_at=now,
        training_from=span[0] if span else None,
        training_until=span[1] if span else None,
        fingerprint=fingerprint,
        note=note,
        features=features.NAMES,
        parameters=(
            Metric(name="trees", value=isolation_forest.N_TREES),
            Metric(name="samples", value=float(min(isolation_forest.SAMPLES, len(sample)))),
            Metric(name="seed", value=_SEED),
        ),
    )
    active = ActiveModel(label(sensor_type, version), forest, level)
    return Trained(record, active, skops.io.dumps(model))


def fingerprint_of(sample: NDArray[np.float64]) -> str:
    """Return the SHA-256 of what a model is trained on, hex: the rows in their order, as little-endian doubles."""
    return hashlib.sha256(np.ascontiguousarray(sample, "<f8").tobytes()).hexdigest()


def with_metrics(trained: Trained, metrics: dict[str, float]) -> Trained:
    """Return the same version with more metrics."""
    more = tuple(Metric(name=name, value=value) for name, value in metrics.items())
    return replace(trained, record=replace(trained.record, metrics=trained.record.metrics + more))


def held_out_metrics(
    model: ActiveModel, active: ActiveModel | None, sample: NDArray[np.float64], held_out: NDArray[np.float64]
) -> dict[str, float]:
    """Return how a model does on readings after those that it was trained on, beside the one in force.

    ``agreement``: of the held-out readings that are above the 99th percentile of the training sample for either of the
    two, the share that is for both.
    """
    if len(held_out) == 0:
        return {"held_out_rows": 0.0}
    mine = model.forest.score(held_out)
    found = {"held_out_rows": float(len(held_out)), "alarm_rate": float((mine > model.alarm_level).mean())}
    if active is None:
        return found
    theirs = active.forest.score(held_out)
    strange = [
        scores > np.quantile(one.forest.score(sample), STRANGE) for one, scores in ((model, mine), (active, theirs))
    ]
    either = int((strange[0] | strange[1]).sum())
    return found | {
        "alarm_rate_active": float((theirs > active.alarm_level).mean()),
        "agreement": int((strange[0] & strange[1]).sum()) / either if either else 1.0,
    }


def load(sensor_type: str, version: str, artefact: bytes, alarm_level: float) -> ActiveModel:
    """Return the model of skops bytes. They raise whatever they provoke when they are no model."""
    import skops.io  # noqa: PLC0415

    model: Any = skops.io.loads(artefact, trusted=["sklearn.tree._tree.Tree"])
    return ActiveModel(label(sensor_type, version), isolation_forest.flatten(model), alarm_level)
