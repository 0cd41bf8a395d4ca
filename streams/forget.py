"""Leaving devices out of a lane's snapshot: a fleet whose devices come and go does not grow its state for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch.records import Scope
from streams.detectors.multivariate import of_devices
from streams.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Rows = NDArray[np.int64]


def without(snapshot: Mapping[str, Any], kept: Rows, scopes: Sequence[Scope]) -> dict[str, Any]:
    """Return a lane's snapshot with only the kept device rows (ascending); they get the numbers 0, 1, 2, ..."""
    names = snapshot["names"]
    pairs, kept_pairs = _pairs(names["pairs"], kept)
    taken = {
        "names": names
        | {"devices": _strings(names["devices"], kept), "pairs": pairs}
        | {name: names[name][kept] for name in ("site_of", "kind_of")},
        "recent": _rows(snapshot["recent"], kept),
        "place": _rows(snapshot["place"], kept),
        "windows": _windows(snapshot["windows"], {Scope.DEVICE: kept, Scope.DEVICE_LABEL: kept_pairs}, scopes),
        "rules": _each(snapshot["rules"], kept),
    }
    if "surges" in snapshot:
        surges = snapshot["surges"]
        series = {"cameras": _each(surges["cameras"], kept), "labels": _each(surges["labels"], kept_pairs)}
        taken["surges"] = surges | series
    if "scorer" in snapshot:
        scorer = snapshot["scorer"]
        taken["scorer"] = (
            scorer
            | {name: _each(scorer[name], kept_pairs) for name in Scorer.BY_CHANNEL}
            | {"multivariate": of_devices(scorer["multivariate"], kept, kept_pairs)}
        )
    return {**snapshot, **taken}


def _rows(array: NDArray[Any], kept: Rows) -> NDArray[Any]:
    """Take device rows of an array that may have been made before the newest devices came."""
    return array[kept[kept < len(array)]]


def _each(state: Any, kept: Rows) -> Any:
    if isinstance(state, dict):
        return {name: _each(part, kept) for name, part in state.items()}
    return _rows(state, kept)


def _strings(interner: Mapping[str, NDArray[Any]], kept: Rows) -> dict[str, NDArray[Any]]:
    return {**interner, "starts": interner["starts"][kept], "lengths": interner["lengths"][kept]}


def _pairs(interner: Mapping[str, NDArray[Any]], kept: Rows) -> tuple[dict[str, NDArray[Any]], Rows]:
    """Return the pairs of kept devices with their new numbers, and which rows those were."""
    count = len(interner["starts"])
    table = interner["arena"][: count * 16].view(np.int64).reshape(count, 2)
    kept_pairs = np.flatnonzero(np.isin(table[:, 0], kept))
    renumbered = np.stack([np.searchsorted(kept, table[kept_pairs, 0]), table[kept_pairs, 1]], axis=1)
    starts = np.arange(len(kept_pairs), dtype=np.int64) * 16
    arena = np.ascontiguousarray(renumbered, np.int64).reshape(-1).view(np.uint8)
    return {"arena": arena, "starts": starts, "lengths": np.full(len(starts), 16, np.int64)}, kept_pairs


def _windows(
    windows: Mapping[str, NDArray[Any]], kept_keys: Mapping[Scope, Rows], scopes: Sequence[Scope]
) -> dict[str, Any]:
    """Move the kept keys of a scope to the front and empty the rest; scopes wider than a device stay as they are."""
    taken = {name: windows[name].copy() for name in ("ints", "floats", "dirty", "keys_used")}
    for number, scope in enumerate(scopes):
        kept = kept_keys.get(scope)
        if kept is None:
            continue
        for name in ("ints", "floats", "dirty"):
            keys = windows[name][number]
            taken[name][number] = 0
            taken[name][number][:, : len(kept)] = keys[:, kept]
        taken["keys_used"][number] = len(kept)
    return {**windows, **taken}
