"""Arrays of per-device state that grow as devices appear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grown(array: NDArray[Any], rows: int, fill: float = 0) -> NDArray[Any]:
    """Return the array with room for at least ``rows`` rows, new ones filled.

    It grows by half at least, so that a fleet that appears batch by batch is not copied with every batch.
    """
    if rows <= len(array):
        return array
    larger = np.full((max(rows, len(array) * 3 // 2), *array.shape[1:]), fill, array.dtype)
    larger[: len(array)] = array
    return larger
