"""Alerts about devices that have changed for good: from the drift of a channel until it is ready again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.rules import Openings


class Turn(NamedTuple):
    """An alert of a device row fires or ends with a row of the batch; ``started_ms`` is when it fired."""

    row: int
    at: int
    fires: bool
    started_ms: int


def judge(
    rows: NDArray[np.int64],
    times: NDArray[np.int64],
    drifted: NDArray[np.bool_],
    is_back: NDArray[np.bool_],
    openings: Openings,
) -> list[Turn]:
    """Open and close a rule's alerts over readings of matching devices; return what changed, in order.

    ``drifted`` are last readings before a channel begins anew, ``is_back`` the first ones at which it is ready again. A
    device with several channels is told of once, and is done when all of its channels are; ``openings.last`` counts
    those that are not.
    """
    turns = []
    for at in np.flatnonzero(drifted | is_back).tolist():
        row, time = int(rows[at]), int(times[at])
        if drifted[at]:
            openings.last[row] = openings.last[row] + 1 if openings.is_open[row] else 1
            if not openings.is_open[row]:
                openings.is_open[row], openings.started[row] = True, time
                turns.append(Turn(row, at, True, time))
        elif openings.is_open[row]:
            openings.last[row] -= 1
            if openings.last[row] == 0:
                openings.is_open[row] = False
                turns.append(Turn(row, at, False, int(openings.started[row])))
    return turns
