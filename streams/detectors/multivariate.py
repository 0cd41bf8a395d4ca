"""The multivariate detector: whether the channels of one machine, taken together, are where they usually are.

A device that sends several sensor types has as many channels. Its readings of one event time form a row:

- The row is judged when every channel of the device has arrived; the verdict is the last one's.
- A newer event time closes a row that still misses channels; its verdict is that newer reading's. A missing channel is
  taken to be where it was; a row of fewer than half of the channels is no row.
- A reading older than the open row, or of a channel that the row has already, is in no row. A channel that was never
  seen before belongs to the next row.

For each channel, z = (x - m) / sigma with mean and deviation of its first ``calibration`` rows; two short means of
it, abs(mean of z) over 8 rows and the mean of abs(z) over 16, are standardised once more by their mean and deviation
in rows 20 to ``calibration``, and cut at 20. The score is the mean of both over the channels. Channels that wander by
themselves are left out: those whose 50-row means vary by more than half of what single rows do.

The device is abnormal from a score of ``ON`` until one below ``OFF``, or until the score (its mean over 8 rows) has
fallen below 0.45 of its highest in this episode: then the machine is on its way back, and the way counts no more.
While the device is not abnormal, m and sigma follow slowly (100 calibrations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numba import njit

from streams.arrays import grown
from streams.tuning import CALIBRATION, SETTLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

ON, OFF, FALLEN = 1.6, 1.2, 0.45
BLOCK: Final = 50
WANDERING: Final = 0.5
CLIP: Final = 20.0
_SHORT, _MIDDLE = 1.0 / 8.0, 1.0 / 16.0
_MEMORY: Final = 100.0
_LIMIT: Final = 1e150

# Columns of a channel.
(_N, _X, _M, _V, _A, _B, _MA, _VA, _MB, _VB, _SUM, _MBLOCK, _SBLOCK, _BLOCKS, _KEEP, _CALIBRATION) = range(16)
WIDTH: Final = 16
# Columns of a device: integers and floats.
_TIME, _ARRIVED, _KNOWN, _CHANNELS, _FIRST, _STATE = range(6)
_PEAK, _SMOOTH = range(2)
_OPEN_NEVER: Final = -(2**62)


@njit(cache=True, nogil=True)
def _learn_channel(c, is_calm):
    """Take a channel's value into its row; return its part of the score, NaN while it calibrates or wanders."""
    n, x, calibration = c[_N], c[_X], c[_CALIBRATION]
    c[_N] = n + 1.0
    calibrating = not n >= calibration  # not known yet is NaN
    if calibrating:
        d = x - c[_M]
        c[_M] += d / (n + 1.0)
        c[_V] += (d * (x - c[_M]) - c[_V]) / (n + 1.0)
        c[_SUM] += x / BLOCK
        if (n + 1.0) % BLOCK == 0.0:
            c[_BLOCKS] += 1.0
            d = c[_SUM] - c[_MBLOCK]
            c[_MBLOCK] += d / c[_BLOCKS]
            c[_SBLOCK] += d * (c[_SUM] - c[_MBLOCK])
            c[_SUM] = 0.0
    z = (x - c[_M]) / (math.sqrt(c[_V]) + 1e-9 * abs(c[_M]) + 1e-12)
    c[_A] += max(1.0 / (n + 1.0), _SHORT) * (z - c[_A])
    c[_B] += max(1.0 / (n + 1.0), _MIDDLE) * (abs(z) - c[_B])
    a, b = abs(c[_A]), c[_B]
    part = np.nan
    if not calibrating and c[_KEEP] > 0.0:
        part = 0.5 * min(max((a - c[_MA]) / (math.sqrt(c[_VA]) + 1e-9), -CLIP), CLIP)
        part += 0.5 * min(max((b - c[_MB]) / (math.sqrt(c[_VB]) + 1e-9), -CLIP), CLIP)
    gain = 0.0
    if calibrating and n >= SETTLE:
        gain = 1.0 / (n - SETTLE + 1.0)
    elif not calibrating and is_calm:
        gain = 1.0 / (_MEMORY * calibration)
        d = x - c[_M]
        c[_M] += gain * d
        c[_V] = (1.0 - gain) * (c[_V] + gain * d * d)
    if gain > 0.0:
        d = a - c[_MA]
        c[_MA] += gain * d
        c[_VA] = (1.0 - gain) * (c[_VA] + gain * d * d)
        d = b - c[_MB]
        c[_MB] += gain * d
        c[_VB] = (1.0 - gain) * (c[_VB] + gain * d * d)
    if n < calibration <= n + 1.0:
        wander = c[_SBLOCK] / max(c[_BLOCKS], 1.0)
        c[_KEEP] = 1.0 if wander <= WANDERING * c[_V] else 0.0
    return part


@njit(cache=True, nogil=True)
def _close(d, e, channels, following, out, is_abnormal, which, i):
    """Judge a device's open row; the verdict goes to reading ``i``."""
    known, arrived = d[_CHANNELS], d[_ARRIVED]
    d[_ARRIVED] = 0
    d[_KNOWN] = known
    if known < 2 or 2 * arrived < known:
        return
    total, largest, used = 0.0, -CLIP - 1.0, 0
    channel = d[_FIRST]
    for _ in range(known):
        part = _learn_channel(channels[channel], d[_STATE] == 0)
        if not np.isnan(part):
            total += part
            used += 1
            if part > largest:
                largest = part
                which[i] = channel
        channel = following[channel]
    if used == 0:
        return
    score = total / used
    e[_SMOOTH] += _SHORT * (score - e[_SMOOTH])
    if d[_STATE] == 0:
        if score >= ON:
            d[_STATE] = 1
            e[_PEAK] = e[_SMOOTH]
    elif d[_STATE] == 1:
        e[_PEAK] = max(e[_PEAK], e[_SMOOTH])
        if score < OFF or e[_SMOOTH] < FALLEN * e[_PEAK]:
            d[_STATE] = 0 if score < ON else 2
    elif score < ON:
        d[_STATE] = 0
    elif e[_SMOOTH] > e[_PEAK]:
        d[_STATE] = 1
    out[i] = score
    is_abnormal[i] = d[_STATE] == 1


@njit(cache=True, nogil=True)
def _begin_anew(device, row, plan, ints, floats, channels):
    """Have a channel calibrate again; until then the device is not abnormal."""
    x = channels[row, _X]
    channels[row] = 0.0
    channels[row, _X], channels[row, _CALIBRATION] = x, plan[CALIBRATION]
    ints[device, _STATE] = 0
    floats[device] = 0.0


@njit(cache=True, nogil=True)
def _fold(  # state and columns, as arrays
    devices,
    rows,
    times,
    values,
    plans,
    restarts,
    ints,
    floats,
    channels,
    following,
    latest,
    out,
    is_abnormal,
    which,
):
    for i in range(rows.shape[0]):
        if restarts[i] and following[rows[i]] != -2:
            _begin_anew(devices[i], rows[i], plans[i], ints, floats, channels)
        device, row, time = devices[i], rows[i], times[i]
        d, c = ints[device], channels[row]
        out[i], is_abnormal[i], which[i] = np.nan, False, row
        if d[_CHANNELS] == 0:
            d[_TIME] = time
        if time < d[_TIME]:
            continue
        if time > d[_TIME]:
            if d[_ARRIVED] > 0:
                _close(d, floats[device], channels, following, out, is_abnormal, which, i)
            d[_TIME] = time
        if following[row] == -2:  # a channel that was never seen
            following[row] = d[_FIRST] if d[_CHANNELS] > 0 else -1
            d[_FIRST] = row
            d[_CHANNELS] += 1
            c[_CALIBRATION] = plans[i, CALIBRATION]
            latest[row] = _OPEN_NEVER
        if latest[row] == time:
            continue
        latest[row] = time
        c[_X] = min(max(values[i], -_LIMIT), _LIMIT)
        if np.isnan(c[_CALIBRATION]):
            c[_CALIBRATION] = plans[i, CALIBRATION]
        d[_ARRIVED] += 1
        if d[_KNOWN] >= 2 and d[_ARRIVED] == d[_CHANNELS] and d[_KNOWN] == d[_CHANNELS]:
            _close(d, floats[device], channels, following, out, is_abnormal, which, i)


@dataclass(frozen=True)
class Together:
    """Columns: score (NaN where no row was judged), whether the device is abnormal, the channel row furthest out."""

    score: NDArray[np.float64]
    is_abnormal: NDArray[np.bool_]
    which: NDArray[np.int64]


_PARTS: Final = ("ints", "floats", "channels", "following", "latest")


class MultivariateFold:
    """State by device row and by channel row."""

    def __init__(self) -> None:
        self.ints = np.zeros((0, 6), np.int64)
        self.floats = np.zeros((0, 2), np.float64)
        self.channels = np.zeros((0, WIDTH), np.float64)
        self.following = np.zeros(0, np.int64)
        self.latest = np.zeros(0, np.int64)

    def fold(
        self,
        devices: NDArray[np.int64],
        rows: NDArray[np.int64],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        plans: NDArray[np.float64],
        restarts: NDArray[np.bool_] | None = None,
    ) -> Together:
        """Judge each row, then learn it, in order. ``rows`` are channels, ``times`` in ms, ``plans`` (n, WIDTH).

        With a reading of ``restarts`` its channel begins anew.
        """
        count = int(devices.max(initial=-1)) + 1
        self.ints, self.floats = grown(self.ints, count), grown(self.floats, count)
        count = int(rows.max(initial=-1)) + 1
        self.channels, self.latest = grown(self.channels, count), grown(self.latest, count)
        self.following = grown(self.following, count, -2)
        size = len(rows)
        found = Together(np.empty(size, np.float64), np.empty(size, np.bool_), np.empty(size, np.int64))
        state = (self.ints, self.floats, self.channels, self.following, self.latest)
        restarts = np.zeros(size, np.bool_) if restarts is None else restarts
        _fold(devices, rows, times, values, plans, restarts, *state, found.score, found.is_abnormal, found.which)
        return found

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {part: getattr(self, part) for part in _PARTS}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        for part in _PARTS:
            setattr(fold, part, state[part].copy())
        return fold


def of_devices(
    state: dict[str, NDArray[Any]], devices: NDArray[np.int64], channels: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return a snapshot of some device rows and all of their channel rows (both ascending), numbered from 0."""
    kept_devices = devices[devices < len(state["ints"])]
    kept_channels = channels[channels < len(state["channels"])]
    ints, following = state["ints"][kept_devices], state["following"][kept_channels]
    has_channels, has_next = ints[:, _CHANNELS] > 0, following >= 0
    ints[has_channels, _FIRST] = np.searchsorted(channels, ints[has_channels, _FIRST])
    following[has_next] = np.searchsorted(channels, following[has_next])
    return {
        "ints": ints,
        "floats": state["floats"][kept_devices],
        "channels": state["channels"][kept_channels],
        "following": following,
        "latest": state["latest"][kept_channels],
    }
