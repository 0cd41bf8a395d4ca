"""Concept drift: a channel whose readings have been unusual for so long that what is usual must be learned anew.

Watched is how far the adaptive detector's largest signal is from what is usual (in deviations, 0 to 6). A reading that
repeats the one before does not count: a dead sensor is no new normal.

1. Means over 1/32 calibration go to ADWIN (``streams/adwin.py``), once the channel is ready and calibrated.
2. Where ADWIN finds that their mean has risen, the mean from before is kept, and the next calibration is waited for.
3. It is a drift if each quarter of that calibration lay at least ``drift`` (of the channel's plan) above the mean from
   before. A fault that ends by itself is none.

The adaptive detector follows a change by itself, within 16 calibrations, and is the blinder meanwhile: its deviations
hold the old and the new. So there is a drift to find where a channel had been calm for some four calibrations at least.
"""

from __future__ import annotations

from typing import Final

from numba import njit

from streams import adwin
from streams.tuning import CALIBRATION, DRIFT

BLOCKS: Final = 32
"""Means a calibration."""
QUARTER: Final = BLOCKS // 4

_SUM, _COUNT, _BEFORE, _SINCE, _QUARTER = range(5)
_WINDOW: Final = 5
WIDTH: Final = _WINDOW + adwin.WIDTH


@njit(cache=True, nogil=True)
def follow(watch, away, plan):
    """Take the next reading's distance from what is usual; return whether the channel has drifted.

    ``watch`` is a row of WIDTH numbers, zeros at first and again after a drift.
    """
    watch[_SUM] += away
    watch[_COUNT] += 1.0
    if watch[_COUNT] < plan[CALIBRATION] / BLOCKS:
        return False
    mean = watch[_SUM] / watch[_COUNT]
    watch[_SUM] = watch[_COUNT] = 0.0
    if watch[_SINCE] > 0.0:
        watch[_QUARTER] += mean / QUARTER
        if watch[_SINCE] % QUARTER == 0.0:
            is_higher = watch[_QUARTER] >= watch[_BEFORE] + plan[DRIFT]
            if is_higher and watch[_SINCE] == BLOCKS:
                watch[:] = 0.0
                return True
            watch[_QUARTER] = 0.0
            if not is_higher:
                watch[_SINCE] = -1.0
        watch[_SINCE] += 1.0
    before, since = adwin.add(watch[_WINDOW:], mean)
    if before < since:
        watch[_BEFORE] = before if watch[_SINCE] == 0.0 else min(before, watch[_BEFORE])
        watch[_SINCE], watch[_QUARTER] = 1.0, 0.0
    return False
