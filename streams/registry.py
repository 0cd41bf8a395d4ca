"""Trained models on disk: one folder a sensor type, a skops file and a JSON description a version.

``active.json`` in the type's folder names the version in force. Files are written beside their place and moved in,
so that a reader never sees half of one.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.logs import get_logger
from fleetwatch.records import Metric, ModelStatus, ModelVersion
from streams import features
from streams.batch import ActiveModel
from streams.detectors import isolation_forest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

log = get_logger(__name__)

ALGORITHM: Final = f"sklearn.IsolationForest({isolation_forest.N_TREES}x{isolation_forest.SAMPLES})"
_TRUSTED: Final = ["sklearn.tree._tree.Tree"]


class ModelRegistry:
    """Models below one folder.

    Raises:
        EnvironmentProblemError: the folder cannot be made or written.

    """

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblemError(
                f"cannot make the models folder {root} ({error.strerror}): set FLEETWATCH_MODELS_DIR"
            ) from None

    def train(self, sensor_type: str, sample: NDArray[np.float64], now: datetime) -> tuple[ModelVersion, ActiveModel]:
        """Train on squashed features (n, features), store the model and make it the active one."""
        record, model, facts = self._trained(sensor_type, sample, now)
        _write(self._description(sensor_type), facts)
        return record, ActiveModel(record.version, isolation_forest.flatten(model))

    def train_first(
        self, sensor_type: str, sample: NDArray[np.float64], now: datetime
    ) -> tuple[ModelVersion, ActiveModel]:
        """Train as ``train`` does, unless somebody made a usable model active meanwhile: then return that one.

        Several workers that share a folder may train the first model of a type at the same time, each from what it saw.
        The first one's counts for all.
        """
        record, model, facts = self._trained(sensor_type, sample, now)
        description = self._description(sensor_type)
        if not _write_new(description, facts):
            first = self._active(description)
            if first is not None:
                return first
            _write(description, facts)
        return record, ActiveModel(record.version, isolation_forest.flatten(model))

    def _trained(self, sensor_type: str, sample: NDArray[np.float64], now: datetime) -> tuple[ModelVersion, Any, bytes]:
        """Train and store a model; return its record, itself, and what describes it as the active one."""
        model = isolation_forest.train(sample)
        fingerprint = hashlib.sha256(np.ascontiguousarray(sample).tobytes()).hexdigest()[:8]
        version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{fingerprint}"
        scores = -model.score_samples(sample)
        record = ModelVersion(
            sensor_type=sensor_type,
            version=version,
            algorithm=ALGORITHM,
            status=ModelStatus.ACTIVE,
            location=f"{_folder_name(sensor_type)}/{version}.skops",
            trained_at=now,
            training_rows=len(sample),
            metrics=(
                Metric(name="score_mean", value=float(scores.mean())),
                Metric(name="score_p99", value=float(np.quantile(scores, 0.99))),
            ),
        )
        return record, model, self._store(record, model)

    def load_active(self) -> dict[str, ActiveModel]:
        """Return the active model of each sensor type; one that cannot be read is said in the log and left out."""
        found: dict[str, ActiveModel] = {}
        for description in sorted(self._root.glob("*/active.json")):
            active = self._active(description)
            if active is not None:
                found[active[0].sensor_type] = active[1]
        return found

    def _active(self, description: Path) -> tuple[ModelVersion, ActiveModel] | None:
        """Return what a description names as active; None, and a line in the log, if it cannot be used."""
        try:
            facts = json.loads(description.read_text())
            if facts["features"] != list(features.NAMES):
                log.warning("model_ignored", model=facts["version"], reason="trained on other features")
                return None
            model = _load(self._root / facts["location"])
            record = ModelVersion(
                sensor_type=facts["sensor_type"],
                version=facts["version"],
                algorithm=facts["algorithm"],
                status=ModelStatus.ACTIVE,
                location=facts["location"],
                trained_at=datetime.fromisoformat(facts["trained_at"]),
                training_rows=facts["training_rows"],
                metrics=tuple(Metric(name=name, value=value) for name, value in facts["metrics"].items()),
            )
            return record, ActiveModel(record.version, isolation_forest.flatten(model))
        except Exception as error:  # noqa: BLE001  # damaged files raise whatever their bytes provoke
            log.warning("model_ignored", path=str(description), reason=f"{type(error).__name__}: {error}")
            return None

    def _description(self, sensor_type: str) -> Path:
        return self._root / _folder_name(sensor_type) / "active.json"

    def load(self, sensor_type: str, version: str) -> ActiveModel | None:
        """Return one version of a model, active or not; None, and a line in the log, if it cannot be read."""
        path = self._root / _folder_name(sensor_type) / f"{version}.skops"
        try:
            return ActiveModel(version, isolation_forest.flatten(_load(path)))
        except Exception as error:  # noqa: BLE001  # damaged files raise whatever their bytes provoke
            log.warning("model_ignored", path=str(path), reason=f"{type(error).__name__}: {error}")
            return None

    def find(self, version: str) -> dict[str, ActiveModel]:
        """Return one version, active or not, by its sensor type.

        Raises:
            EnvironmentProblemError: there is none of that name, or it cannot be used.

        """
        for path in sorted(self._root.glob(f"*/{glob.escape(version)}.skops")):
            facts = json.loads(path.with_name("active.json").read_text())
            if facts["features"] != list(features.NAMES):
                raise EnvironmentProblemError(f"the model {version} was trained on other features")
            model = self.load(facts["sensor_type"], version)
            if model is not None:
                return {facts["sensor_type"]: model}
        raise EnvironmentProblemError(f"there is no usable model {version} below {self._root}")

    def _store(self, record: ModelVersion, model: Any) -> bytes:
        """Store a model; return its description."""
        import skops.io  # noqa: PLC0415  # slow to import, needed when a model is stored or loaded

        path = self._root / record.location
        path.parent.mkdir(exist_ok=True)
        _write(path, skops.io.dumps(model))
        facts = {
            "sensor_type": record.sensor_type,
            "version": record.version,
            "algorithm": record.algorithm,
            "location": record.location,
            "features": list(features.NAMES),
            "trained_at": record.trained_at.isoformat(),
            "training_rows": record.training_rows,
            "metrics": {metric.name: metric.value for metric in record.metrics},
        }
        return json.dumps(facts, indent=1).encode()


def _load(path: Path) -> Any:
    import skops.io  # noqa: PLC0415

    return skops.io.load(path, trusted=_TRUSTED)


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet; return False if it is. A reader sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    _write(beside, content)
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True


def _folder_name(sensor_type: str) -> str:
    """Return a folder name for any sensor type: itself where it is harmless, otherwise with a hash."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", sensor_type):
        return sensor_type
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", sensor_type)[:40]
    return f"{plain}.{hashlib.sha256(sensor_type.encode()).hexdigest()[:12]}"
