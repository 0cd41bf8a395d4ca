"""Files of the models folder: what describes a version as JSON, and writes of which a reader sees all or nothing."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleetwatch.records import Metric, ModelStatus, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def facts_of(record: ModelVersion) -> dict[str, Any]:
    """Return a version's record as plain values for JSON."""
    return {
        "sensor_type": record.sensor_type,
        "version": record.version,
        "algorithm": record.algorithm,
        "status": record.status.value,
        "changed_at": record.changed_at.isoformat(),
        "previous": record.previous,
        "location": record.location,
        "features": list(record.features),
        "parameters": {parameter.name: parameter.value for parameter in record.parameters},
        "trained_at": record.trained_at.isoformat(),
        "training_rows": record.training_rows,
        "training_from": record.training_from.isoformat() if record.training_from else None,
        "training_until": record.training_until.isoformat() if record.training_until else None,
        "fingerprint": record.fingerprint,
        "metrics": {metric.name: metric.value for metric in record.metrics},
        "note": record.note,
    }


def record_of(facts: Mapping[str, Any]) -> ModelVersion:
    """Return the record that ``facts_of`` was given; older files lack some facts.

    Raises:
        KeyError, TypeError, ValueError: these are not such facts.

    """
    trained_at = datetime.fromisoformat(facts["trained_at"])
    changed_at = facts.get("changed_at")
    return ModelVersion(
        sensor_type=facts["sensor_type"],
        version=facts["version"],
        algorithm=facts["algorithm"],
        status=ModelStatus(facts.get("status", ModelStatus.ACTIVE.value)),
        location=facts["location"],
        trained_at=trained_at,
        training_rows=facts["training_rows"],
        metrics=_numbers(facts["metrics"]),
        changed_at=datetime.fromisoformat(changed_at) if changed_at else trained_at,
        previous=facts.get("previous", ""),
        training_from=_time(facts.get("training_from")),
        training_until=_time(facts.get("training_until")),
        fingerprint=facts.get("fingerprint", ""),
        note=facts.get("note", ""),
        features=tuple(facts["features"]),
        parameters=_numbers(facts.get("parameters", {})),
    )


def _numbers(values: Mapping[str, Any]) -> tuple[Metric, ...]:
    return tuple(Metric(name=name, value=float(value)) for name, value in values.items())


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def write(path: Path, content: bytes) -> None:
    """Write a file in place of another one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_new(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet; return False if it is."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    write(beside, content)
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True
