"""First training: collects settled features of each sensor type that has no model, until there are enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TrainingSamples:
    """Samples by sensor type; a full one is handed out once."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self._parts: dict[str, list[NDArray[np.float64]]] = {}
        self._taken: set[str] = set()

    def add(self, sensor_type: str, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Add features (n, features); return the whole sample when it has just become full."""
        if sensor_type in self._taken:
            return None
        parts = self._parts.setdefault(sensor_type, [])
        parts.append(rows)
        if sum(len(part) for part in parts) < self.wanted:
            return None
        self._taken.add(sensor_type)
        return np.concatenate(self._parts.pop(sensor_type))[: self.wanted]

    def forget(self, sensor_type: str) -> None:
        """Start collecting again, after a training that failed."""
        self._taken.discard(sensor_type)
