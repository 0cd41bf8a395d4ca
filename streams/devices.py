"""Per-device folds that need no model: duplicates, last seen, silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

HORIZON: Final = 64
"""A repeat of one of a device's last HORIZON events is found; an older one is not."""
TICK_MS: Final = 1000
"""Silence is judged whenever the watermark passes a multiple of this."""


@njit(cache=True, nogil=True)
def _fold_duplicates(rows, times, seqs, recent, place, out):
    for i in range(rows.shape[0]):
        row = rows[i]
        found = False
        for k in range(recent.shape[1]):
            if recent[row, k, 0] == times[i] and recent[row, k, 1] == seqs[i]:
                found = True
                break
        out[i] = found
        if not found:
            recent[row, place[row], 0] = times[i]
            recent[row, place[row], 1] = seqs[i]
            place[row] = (place[row] + 1) % recent.shape[1]


def fold_duplicates(
    rows: NDArray[np.int64],
    times: NDArray[np.int64],
    seqs: NDArray[np.int64],
    recent: NDArray[np.int64],
    place: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return which events repeat a (device, event time, seq) within the horizon; updates ``recent`` and ``place``.

    ``recent`` has shape (devices, HORIZON, 2), filled with the least integer; ``place`` (devices,).
    """
    out = np.empty(len(rows), np.bool_)
    _fold_duplicates(rows, times, seqs, recent, place, out)
    return out


@njit(cache=True, nogil=True)
def _fold_silence(rows, times, watermarks, previous, timeouts, last_seen, is_silent, out):
    filled = 0
    for i in range(times.shape[0]):
        tick = watermarks[i] // TICK_MS
        if tick > previous // TICK_MS:
            now = tick * TICK_MS
            for row in range(last_seen.shape[0]):
                if not is_silent[row] and last_seen[row] >= 0 and timeouts[row] > 0:
                    if last_seen[row] + timeouts[row] <= now:
                        is_silent[row] = True
                        out[filled, 0], out[filled, 1], out[filled, 2] = row, i, 1
                        filled += 1
        previous = watermarks[i]
        row = rows[i]
        if row < 0:
            continue
        if is_silent[row] and times[i] > last_seen[row]:
            is_silent[row] = False
            out[filled, 0], out[filled, 1], out[filled, 2] = row, i, 0
            filled += 1
        last_seen[row] = max(last_seen[row], times[i])
    return filled


def fold_silence(
    rows: NDArray[np.int64],
    times: NDArray[np.int64],
    watermarks: NDArray[np.int64],
    previous: int,
    timeouts: NDArray[np.int64],
    last_seen: NDArray[np.int64],
    is_silent: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return transitions (device row, batch row, 1 silent or 0 speaking again), in order.

    ``watermarks`` is the watermark after each event and ``previous`` the one before the batch; ``timeouts`` (ms) is
    0 where no rule applies. A row of -1 only moves the watermark. Updates ``last_seen`` (-1: never) and ``is_silent``.
    """
    out = np.empty((len(last_seen) + 2 * len(rows), 3), np.int64)
    filled = _fold_silence(rows, times, watermarks, previous, timeouts, last_seen, is_silent, out)
    transitions: NDArray[np.int64] = out[:filled]
    return transitions
