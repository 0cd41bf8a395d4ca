"""River's detectors that a detection file names: each with its models and a calibration of its own, by its name.

So the list may change from one run to the next: who is new begins anew, who is no longer named is left out of the next
snapshot, and whoever stays goes on. With other parameters than before it learns its samples again and is calibrated
anew. Without names all of this costs nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.detectors.river_detector import RiverDetectorFold
from streams.policy import PolicyFold
from streams.river_names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from streams.river_names import Parameters


class RiverVoters:
    """State of one partition."""

    def __init__(self, detectors: Mapping[str, Parameters]) -> None:
        self.names = tuple(detectors)
        self._folds = {name: RiverDetectorFold(name, parameters) for name, parameters in detectors.items()}
        self._calibrations = {name: PolicyFold(1) for name in detectors}

    def fold(
        self, models: NDArray[np.int64], x: NDArray[np.float64], is_settled: NDArray[np.bool_]
    ) -> list[NDArray[np.float64]]:
        """Return the H of each detector (n); NaN while its model is cold or the channel has not settled.

        What has not settled is not learned either: it lies in the middle of every feature.
        """
        tails = []
        for name, fold in self._folds.items():
            raw = fold.fold(models, x, is_settled)[:, None]
            tails.append(self._calibrations[name].fold(models, raw, ~np.isnan(raw))[:, 0])
        return tails

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` needs, by the detector's name."""
        return {
            name.removeprefix(PREFIX): fold.snapshot()
            | {"calibration": self._calibrations[name].snapshot(), "parameters": _as_bytes(fold.parameters)}
            for name, fold in self._folds.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the snapshot was taken, as far as its detectors are these."""
        for name, fold in self._folds.items():
            found = state.get(name.removeprefix(PREFIX))
            if found is None:
                continue
            if np.array_equal(found["parameters"], _as_bytes(fold.parameters)):
                fold.restore(found)
                self._calibrations[name] = PolicyFold.restore(found["calibration"])
            else:
                fold.restore(found, with_scale=False)


def _as_bytes(parameters: Parameters) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(parameters, sort_keys=True).encode(), np.uint8)
