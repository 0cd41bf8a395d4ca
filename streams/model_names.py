"""What models are called: in scored readings and snapshots, and as files."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from fleetwatch.model_catalogue import FALLBACK

_PREFIX: Final = f"{FALLBACK}/"


def label(sensor_type: str, version: str) -> str:
    """Return what scored readings call a version: the fallback's says so."""
    return _PREFIX + version if sensor_type == FALLBACK else version


def version_of(label: str) -> str:
    """Return the version of a label."""
    return label.removeprefix(_PREFIX)


def location(sensor_type: str, version: str) -> str:
    """Return where a version's artefact is, below the models folder."""
    return f"{folder_name(sensor_type)}/{version}.skops"


def folder_name(sensor_type: str) -> str:
    """Return a folder name for any sensor type: itself where it is harmless, otherwise with a hash."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", sensor_type):
        return sensor_type
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", sensor_type)[:40]
    return f"{plain}.{hashlib.sha256(sensor_type.encode()).hexdigest()[:12]}"
