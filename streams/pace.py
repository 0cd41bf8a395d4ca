"""How often each device reports: its sampling interval, and which readings come after a gap.

The interval is a running mean (gain 1/32) of the distances between event times, each counted as four intervals at
most, so that an outage does not change it. A reading more than ten intervals after the one before comes after a gap. An
event that is not newer than the newest one changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numba import njit

from streams.arrays import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAP: Final = 10.0
_GAIN: Final = 1.0 / 32.0


@njit(cache=True, nogil=True)
def _fold(rows, times, newest, interval, steps, out, gaps):
    for i in range(rows.shape[0]):
        row = rows[i]
        seconds = (times[i] - newest[row]) / 1000.0
        gaps[i] = False
        if newest[row] < 0:
            newest[row] = times[i]
        elif seconds > 0.0:
            n = steps[row]
            gaps[i] = n >= 4 and seconds > GAP * interval[row]
            if n >= 4:
                seconds = min(seconds, 4.0 * interval[row])
            interval[row] += max(1.0 / (n + 1.0), _GAIN) * (seconds - interval[row])
            steps[row] = n + 1
            newest[row] = times[i]
        out[i] = interval[row]


class PaceFold:
    """Newest event time (ms), interval (s) and number of steps by device row."""

    def __init__(self) -> None:
        self.newest = np.zeros(0, np.int64)
        self.interval = np.zeros(0, np.float64)
        self.steps = np.zeros(0, np.int64)

    def fold(self, rows: NDArray[np.int64], times: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the interval (s) after each event, 0 while unknown, and whether the event comes after a gap."""
        devices = int(rows.max(initial=-1)) + 1
        self.newest = grown(self.newest, devices, -1)
        self.interval, self.steps = grown(self.interval, devices), grown(self.steps, devices)
        out, gaps = np.empty(len(rows), np.float64), np.empty(len(rows), np.bool_)
        _fold(rows, times, self.newest, self.interval, self.steps, out, gaps)
        return out, gaps

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {"newest": self.newest, "interval": self.interval, "steps": self.steps}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        fold.newest, fold.interval, fold.steps = (state[name].copy() for name in ("newest", "interval", "steps"))
        return fold
