"""Trained models on disk: one folder a sensor type, a skops file and a JSON description a version.

``active.json`` in the type's folder describes the version in force. Files are written beside their place and moved in,
so that a reader never sees half of one. What is not on disk is fetched from the archive, if there is one, and kept.
"""

from __future__ import annotations

import glob
import json
import time
from typing import TYPE_CHECKING, Any, Final

from fleetwatch.errors import EnvironmentProblemError, FleetwatchError
from fleetwatch.logs import get_logger
from fleetwatch.records import ModelStatus
from streams import features, model_training
from streams.model_files import facts_of, record_of, write, write_new
from streams.model_names import folder_name, location, version_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fleetwatch.records import ModelVersion
    from streams.batch import ActiveModel
    from streams.model_archive import ModelArchive

log = get_logger(__name__)

_ACTIVE: Final = "active.json"


class ModelRegistry:
    """Models below one folder.

    Raises:
        EnvironmentProblemError: the folder cannot be made or written.

    """

    def __init__(self, root: Path, archive: ModelArchive | None = None) -> None:
        self._root = root
        self._archive = archive
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblemError(
                f"cannot make the models folder {root} ({error.strerror}): set FLEETWATCH_MODELS_DIR"
            ) from None

    # --- training

    def train(self, sensor_type: str, sample: NDArray[np.float64], now: datetime) -> tuple[ModelVersion, ActiveModel]:
        """Train on squashed features (n, features), store the model and make it the active one."""
        trained = model_training.train(sensor_type, sample, now, status=ModelStatus.ACTIVE)
        self.put(trained.record, trained.artefact)
        write(self._description(sensor_type), _json(trained.record))
        return trained.record, trained.model

    def train_first(
        self, sensor_type: str, sample: NDArray[np.float64], now: datetime
    ) -> tuple[ModelVersion, ActiveModel]:
        """Train as ``train`` does, unless somebody made a usable model active meanwhile: then return that one.

        Several workers that share a folder may train the first model of a type at the same time, each from what it saw.
        The first one's counts for all.
        """
        trained = model_training.train(sensor_type, sample, now, status=ModelStatus.ACTIVE)
        self.put(trained.record, trained.artefact)
        description = self._description(sensor_type)
        if not write_new(description, _json(trained.record)):
            first = self._active(description)
            if first is not None:
                return first
            write(description, _json(trained.record))
        return trained.record, trained.model

    # --- what is there

    def load_active(self) -> dict[str, ActiveModel]:
        """Return the active model of each sensor type; one that cannot be read is said in the log and left out."""
        found = (self._active(description) for description in sorted(self._root.glob(f"*/{_ACTIVE}")))
        return {record.sensor_type: model for record, model in filter(None, found)}

    def active_records(self) -> list[ModelVersion]:
        """Return what describes the active model of each sensor type; nothing of what cannot be read."""
        found = (_read(description) for description in sorted(self._root.glob(f"*/{_ACTIVE}")))
        return [record for record in found if record is not None]

    def load(self, sensor_type: str, version: str, *, patience: float = 0.0) -> ActiveModel | None:
        """Return one version of a model, active or not; None, and a line in the log, if it cannot be had.

        ``version`` may be as scored readings call it. An archive that cannot be had is tried for ``patience`` seconds.
        """
        version = version_of(version)
        path = self._root / location(sensor_type, version)
        record = self._record(sensor_type, version)
        if (record is None or not path.exists()) and self._archive is not None:
            deadline = time.monotonic() + patience
            while not self._fetch(sensor_type, version) and time.monotonic() < deadline:
                time.sleep(1.0)
            record = self._record(sensor_type, version)
        return self._load(sensor_type, version, record)

    def find(self, version: str) -> dict[str, ActiveModel]:
        """Return one version, active or not, by its sensor type.

        Raises:
            EnvironmentProblemError: there is none of that name, or it cannot be used.

        """
        for path in sorted(self._root.glob(f"*/{glob.escape(version)}.skops")):
            record = _read(path.with_suffix(".json")) or _read(path.with_name(_ACTIVE))
            if record is None:
                continue
            if record.features != features.NAMES:
                raise EnvironmentProblemError(f"the model {version} was trained on other features")
            model = self.load(record.sensor_type, version)
            if model is not None:
                return {record.sensor_type: model}
        raise EnvironmentProblemError(f"there is no usable model {version} below {self._root}")

    def artefact(self, record: ModelVersion) -> bytes | None:
        """Return the bytes of a version's model; None when they are not on disk."""
        try:
            return (self._root / location(record.sensor_type, record.version)).read_bytes()
        except OSError:
            return None

    # --- changes

    def put(self, record: ModelVersion, artefact: bytes) -> None:
        """Store a version: its artefact, then what describes it.

        Raises:
            EnvironmentProblemError: the folder cannot be written.

        """
        path = self._root / location(record.sensor_type, record.version)
        try:
            path.parent.mkdir(exist_ok=True)
            write(path, artefact)
            write(path.with_suffix(".json"), _json(record))
        except OSError as error:
            raise EnvironmentProblemError(f"cannot write {path}: {error.strerror}") from None

    def activate(self, record: ModelVersion) -> None:
        """Remember which version of a type is in force, for the next start.

        Raises:
            EnvironmentProblemError: the folder cannot be written.

        """
        description = self._description(record.sensor_type)
        try:
            description.parent.mkdir(exist_ok=True)
            write(description, _json(record))
        except OSError as error:
            raise EnvironmentProblemError(f"cannot write {description}: {error.strerror}") from None

    # --- files

    def _description(self, sensor_type: str) -> Path:
        return self._root / folder_name(sensor_type) / _ACTIVE

    def _active(self, description: Path) -> tuple[ModelVersion, ActiveModel] | None:
        """Return what a description names as active; None, and a line in the log, if it cannot be used."""
        record = _read(description)
        if record is None:
            return None
        model = self._load(record.sensor_type, record.version, record)
        return None if model is None else (record, model)

    def _record(self, sensor_type: str, version: str) -> ModelVersion | None:
        """Return what describes a version: its own file; of older versions of this project only the active one's."""
        path = self._root / location(sensor_type, version)
        own = path.with_suffix(".json")
        if own.exists():
            return _read(own)
        description = self._description(sensor_type)
        active = _read(description) if description.exists() else None
        return active if active is not None and active.version == version else None

    def _load(self, sensor_type: str, version: str, record: ModelVersion | None) -> ActiveModel | None:
        if record is not None and record.features != features.NAMES:
            log.warning("model_ignored", model=version, reason="trained on other features")
            return None
        path = self._root / location(sensor_type, version)
        level = None if record is None else record.metric(model_training.ALARM_LEVEL)
        try:
            artefact = path.read_bytes()
            return model_training.load(sensor_type, version, artefact, float("inf") if level is None else level)
        except Exception as error:  # noqa: BLE001  # damaged files raise whatever their bytes provoke
            log.warning("model_ignored", path=str(path), reason=f"{type(error).__name__}: {error}")
            return None

    def _fetch(self, sensor_type: str, version: str) -> bool:
        """Bring a version from the archive to the disk; say whether that is settled: it is here, or not even there."""
        assert self._archive is not None
        try:
            found = self._archive.get(sensor_type, version)
            if found is None:
                return True
            self.put(record_of(found[0]), found[1])
        except (FleetwatchError, KeyError, TypeError, ValueError) as error:
            log.warning("model_not_fetched", sensor_type=sensor_type, model=version, reason=str(error))
            return False
        log.info("model_fetched", sensor_type=sensor_type, model=version)
        return True


def _json(record: ModelVersion) -> bytes:
    return json.dumps(facts_of(record), indent=1).encode()


def _read(description: Path) -> ModelVersion | None:
    """Return what a description says; None, and a line in the log, if that cannot be read."""
    try:
        facts: Any = json.loads(description.read_text())
        record = record_of(facts)
    except Exception as error:  # noqa: BLE001  # damaged files raise whatever their bytes provoke
        log.warning("model_ignored", path=str(description), reason=f"{type(error).__name__}: {error}")
        return None
    if record.location != location(record.sensor_type, record.version):
        log.warning("model_ignored", path=str(description), reason=f"its artefact is said to be {record.location}")
        return None
    return record
