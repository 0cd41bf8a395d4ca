"""The adaptive detector: how unusual a device's recent readings are for this device at this time of day.

For reading x, number i of its device, at event time t:

1. Profile: the mean of each of the day's 48 half hours (UTC, gain max(1/(n+1), 1/20)); a half hour not seen yet uses
   the running mean. s = x - profile, before x joins it. (With 96 of them there is a second day, for weekends.)
2. Four signals: x, s, abs(s), log(abs(x - x_prev) / D + 0.05), D the running mean of abs(x - x_prev).
3. u, the short mean of each (gain max(1/(i+1), 1/smoothing)); z = abs(u - m) / sigma with m and sigma the long mean and
   deviation of u (gain max(1/(i+1), 1/(16 calibration))), before u joins them. 0 in the first 20 readings
   (signals 1 and 4) or the first quarter of the calibration (2 and 3).
4. y = mean of the four min(z, 6).
5. H = -log10((past y in the same or a higher bin + 1) / (past y + 1)), from a histogram of the device's own y: 60 bins,
   log-spaced from 0.05 to 50, with a half-life of ``half_life`` readings.
6. score = 0.25 y + H.
7. Where the largest of the four has risen for good, the channel begins anew after this reading (``streams/drift.py``).

State: 20 numbers, the profile and the histogram, 832 bytes a channel, and 568 to notice a drift. Numbers in words come
from the device's plan (``streams/tuning.py``). After a gap x_prev is forgotten; nothing else is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numba import njit

from streams import drift
from streams.arrays import grown
from streams.tuning import CALIBRATION, DRIFT, HALF_LIFE, NEVER, READY_AFTER, SETTLE, SMOOTHING

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES: Final = ("level", "level for the time of day", "distance from the time of day's level", "roughness")
SLOTS: Final = 48
DAY_MS: Final = 86_400_000
SLOT_MS: Final = DAY_MS // SLOTS
BINS: Final = 60
LOWEST, HIGHEST = 0.05, 50.0
CLIP: Final = 6.0
MEMORY: Final = 16.0
"""The long means remember so many calibrations."""
_PROFILE_GAIN: Final = 1.0 / 20.0
_PER_BIN: Final = BINS / math.log(HIGHEST / LOWEST)
_LIMIT: Final = 1e150
_SIGNALS: Final = 4

_N, _PREV, _HAS_PREV, _DIFF, _MEAN, _SPREAD, _WEIGHT, _TOTAL = range(8)
_U, _M, _V = 8, 12, 16
WIDTH: Final = 20


@njit(cache=True, nogil=True)
def _slot(time, slots):
    """Return the half hour of the day; of a weekend the second day's, if there is one. 1970 began with a Thursday."""
    slot = time % DAY_MS // SLOT_MS
    if slots > SLOTS and (time // DAY_MS + 3) % 7 >= 5:
        slot += SLOTS
    return slot


@njit(cache=True, nogil=True)
def _fold(  # state and columns, as arrays
    rows,
    times,
    values,
    gaps,
    plans,
    stats,
    profile,
    visits,
    histogram,
    watch,
    out,
    rarity,
    which,
    centre,
    spread,
    restarts,
):
    signal = np.zeros(_SIGNALS)
    for i in range(rows.shape[0]):
        row = rows[i]
        s, plan = stats[row], plans[i]
        n = s[_N]
        x = min(max(values[i], -_LIMIT), _LIMIT)
        if n == 0.0:
            s[_MEAN] = x
            s[_WEIGHT] = 1.0
        is_planned = n >= SETTLE
        calibration = plan[CALIBRATION] if is_planned else 1e9
        slot = _slot(times[i], profile.shape[1])
        base = profile[row, slot] if visits[row, slot] > 0 else s[_MEAN]
        residual = x - base
        has_prev = s[_HAS_PREV] > 0.0 and not gaps[i]
        diff = abs(x - s[_PREV]) if has_prev else 0.0
        signal[0] = x
        signal[1] = residual
        signal[2] = abs(residual)
        signal[3] = math.log(diff / (s[_DIFF] + 1e-12) + 0.05) if has_prev and s[_DIFF] > 0.0 else 0.0
        short_gain = 1.0 / (n + 1.0)
        long_gain = short_gain
        if is_planned:
            short_gain = max(short_gain, 1.0 / plan[SMOOTHING])
            long_gain = max(long_gain, 1.0 / (MEMORY * calibration))
        y, largest = 0.0, -1.0
        for k in range(_SIGNALS):
            u = s[_U + k] + short_gain * (signal[k] - s[_U + k])
            s[_U + k] = u
            away = u - s[_M + k]
            z = min(abs(away) / (math.sqrt(s[_V + k]) + 1e-9 * abs(s[_M + k]) + 1e-12), CLIP)
            if n < SETTLE or (k in (1, 2) and n < 0.25 * calibration):
                z = 0.0
            if z > largest:
                largest, which[i] = z, k
            y += 0.25 * z
            s[_M + k] += long_gain * away
            s[_V + k] = (1.0 - long_gain) * (s[_V + k] + long_gain * away * away)
        place = min(int(math.log(max(y, LOWEST) / LOWEST) * _PER_BIN), BINS - 1)
        above = 0.0
        for k in range(place, BINS):
            above += histogram[row, k]
        weight = s[_WEIGHT]
        rarity[i] = -math.log10((above / weight + 1.0) / (s[_TOTAL] / weight + 1.0))
        out[i] = 0.25 * y + rarity[i]
        centre[i], spread[i] = base, math.sqrt(s[_SPREAD])
        if is_planned:
            weight *= 2.0 ** (1.0 / plan[HALF_LIFE])
        histogram[row, place] += weight
        s[_TOTAL] += weight
        if weight > 1e6:
            for k in range(BINS):
                histogram[row, k] /= weight
            s[_TOTAL] /= weight
            weight = 1.0
        s[_WEIGHT] = weight
        s[_MEAN] += (x - s[_MEAN]) * (1.0 / (n + 1.0) if n < calibration else long_gain)
        s[_SPREAD] += long_gain * (min(residual * residual, 1e300) - s[_SPREAD])
        profile[row, slot] += max(1.0 / (visits[row, slot] + 1.0), _PROFILE_GAIN) * (x - profile[row, slot])
        visits[row, slot] = min(visits[row, slot] + 1, 250)
        if has_prev:
            s[_DIFF] += max(1.0 / n, long_gain) * (diff - s[_DIFF])
        s[_PREV], s[_HAS_PREV] = x, 1.0
        s[_N] = n + 1.0
        restarts[i] = False
        if is_planned and plan[DRIFT] < NEVER and diff > 0.0 and n >= max(calibration, plan[READY_AFTER]):
            restarts[i] = drift.follow(watch[row], largest, plan)
            if restarts[i]:
                s[:] = profile[row] = histogram[row] = 0.0
                visits[row] = 0


@dataclass(frozen=True)
class Unusual:
    """Columns.

    Score and H (powers of ten), which of NAMES stands out most, what is usual now, its deviation, and whether this is a
    channel's last reading before it begins anew.
    """

    score: NDArray[np.float64]
    rarity: NDArray[np.float64]
    which: NDArray[np.int64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    restarts: NDArray[np.bool_]


_PARTS: Final = ("stats", "profile", "visits", "histogram", "watch")


class AdaptiveFold:
    """State by device row; ``slots`` are SLOTS, or twice as many to tell weekends from weekdays."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.stats = np.zeros((0, WIDTH), np.float64)
        self.profile = np.zeros((0, slots), np.float64)
        self.visits = np.zeros((0, slots), np.uint8)
        self.histogram = np.zeros((0, BINS), np.float32)
        self.watch = np.zeros((0, drift.WIDTH), np.float64)

    def fold(
        self,
        rows: NDArray[np.int64],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        gaps: NDArray[np.bool_],
        plans: NDArray[np.float64],
    ) -> Unusual:
        """Score each reading, then learn it, in order. ``times`` in ms; ``plans`` (n, tuning.WIDTH)."""
        devices = int(rows.max(initial=-1)) + 1
        for part in _PARTS:
            if part != "watch" or (plans[:, DRIFT] < NEVER).any():
                setattr(self, part, grown(getattr(self, part), devices))
        count = len(rows)
        found = Unusual(
            score=np.empty(count, np.float64),
            rarity=np.empty(count, np.float64),
            which=np.empty(count, np.int64),
            centre=np.empty(count, np.float64),
            spread=np.empty(count, np.float64),
            restarts=np.empty(count, np.bool_),
        )
        state = (self.stats, self.profile, self.visits, self.histogram, self.watch)
        columns = (found.score, found.rarity, found.which, found.centre, found.spread, found.restarts)
        _fold(rows, times, values, gaps, plans, *state, *columns)
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
