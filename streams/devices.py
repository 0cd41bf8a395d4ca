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
UNKNOWN_MS: Final = 3_600_000
"""Where usual pauses count, a device that was heard once only is given this long."""
_FADE_MS: Final = 600_000.0
_LONGEST: Final = 8.0
"""A pause counts as so many usual ones at most: an outage must not make silence look usual."""


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
def _usual(pauses):
    return pauses[1] / pauses[0] if pauses[0] > 0.0 else 0.0


@njit(cache=True, nogil=True)
def _timeout(least, intervals, pauses):
    if intervals > 0.0 and pauses[0] <= 0.0:
        return max(least, UNKNOWN_MS)
    return max(least, np.int64(intervals * _usual(pauses)))


@njit(cache=True, nogil=True)
def _fold_silence(rows, times, watermarks, previous, timeouts, intervals, last_seen, is_silent, pauses, out):
    filled = 0
    for i in range(times.shape[0]):
        tick = watermarks[i] // TICK_MS
        if tick > previous // TICK_MS:
            now = tick * TICK_MS
            for row in range(last_seen.shape[0]):
                if not is_silent[row] and last_seen[row] >= 0 and timeouts[row] > 0:
                    timeout = _timeout(timeouts[row], intervals, pauses[row])
                    if last_seen[row] + timeout <= now:
                        is_silent[row] = True
                        out[filled, 0], out[filled, 1], out[filled, 2], out[filled, 3] = row, i, 1, timeout
                        filled += 1
        previous = watermarks[i]
        row = rows[i]
        if row < 0:
            continue
        if is_silent[row] and times[i] > last_seen[row]:
            is_silent[row] = False
            out[filled, 0], out[filled, 1], out[filled, 2], out[filled, 3] = row, i, 0, 0
            filled += 1
        if last_seen[row] >= 0 and times[i] > last_seen[row]:
            pause = float(times[i] - last_seen[row])
            if pauses[row, 0] > 0.0:
                pause = min(pause, _LONGEST * _usual(pauses[row]))
            fade = np.exp(-pause / _FADE_MS)
            pauses[row, 0] = pauses[row, 0] * fade + pause
            pauses[row, 1] = pauses[row, 1] * fade + pause * pause
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
    pauses: NDArray[np.float64],
    intervals: float = 0.0,
) -> NDArray[np.int64]:
    """Return transitions (device row, batch row, 1 silent or 0 speaking again, timeout in ms), in order.

    ``watermarks`` is the watermark after each event, ``previous`` the one before the batch; ``timeouts`` (ms) is
    0 where no rule applies, and no less than ``intervals`` usual pauses. A row of -1 only moves the watermark. Updates
    ``last_seen`` (-1: never), ``is_silent`` and ``pauses``: sums of pauses and of their squares (devices, 2; ms),
    fading over ten minutes. Their ratio is what a device's pause usually is for somebody who looks at any time.
    """
    out = np.empty((len(last_seen) + 2 * len(rows), 4), np.int64)
    filled = _fold_silence(
        rows, times, watermarks, previous, timeouts, float(intervals), last_seen, is_silent, pauses, out
    )
    transitions: NDArray[np.int64] = out[:filled]
    return transitions


def silence_timeouts(least_ms: int, intervals: float, pauses: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how long (ms) each device may be silent, see ``fold_silence``."""
    if intervals <= 0.0:
        return np.full(len(pauses), least_ms)
    is_known = pauses[:, 0] > 0.0
    usual = np.divide(pauses[:, 1], pauses[:, 0], out=np.zeros(len(pauses)), where=is_known)
    timeouts: NDArray[np.int64] = np.maximum(
        least_ms, np.where(is_known, (intervals * usual).astype(np.int64), UNKNOWN_MS)
    )
    return timeouts
