"""The alarm policy: when evidence becomes an alarm. One compiled fold in offset order, state per device.

Evidence comes as an excess: powers of ten beyond the bar of the detector that is furthest beyond its own. A device that
is ready alarms when

- the excess reaches what its past alarms ask for: raise_bar for each, fading by exp(-1 / (4 calibration)) a reading, or
- the reading is a record: beyond everything seen by more than record_margin of the range,

and more than cool_down calibrations have passed since its last alarm. An alarm within 0.2 calibrations of the one
before raises the bar no further: it is the same event. The numbers come from the device's plan (``streams/tuning.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numba import njit

from streams.arrays import grown
from streams.tuning import CALIBRATION, COOL_DOWN, RAISE_BAR, READY_AFTER, RECORD_MARGIN, SETTLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAME_EVENT: Final = 0.2
_MEMORY: Final = 4.0
_N, _LOW, _HIGH, _ALARMS, _LAST = range(5)
WIDTH: Final = 5


@njit(cache=True, nogil=True)
def _fold(rows, values, excess, plans, stats, raised, is_record, is_alarm, is_ready):
    for i in range(rows.shape[0]):
        s, plan = stats[rows[i]], plans[i]
        x, n = values[i], s[_N]
        is_alarm[i] = is_record[i] = is_ready[i] = False
        raised[i] = np.nan
        if n == 0.0:
            s[_LOW] = s[_HIGH] = x
            s[_LAST] = -np.inf
        if n >= SETTLE and n >= plan[READY_AFTER]:
            is_ready[i] = True
            calibration = plan[CALIBRATION]
            since = n - s[_LAST]
            raised[i] = excess[i]
            alarms = 0.0
            if s[_ALARMS] > 0.0:
                alarms = s[_ALARMS] * math.exp(-since / (_MEMORY * calibration))
                raised[i] -= plan[RAISE_BAR] * alarms
            beyond = max(x - s[_HIGH], s[_LOW] - x)
            is_record[i] = beyond > 0.0 and beyond > plan[RECORD_MARGIN] * (s[_HIGH] - s[_LOW])
            if (is_record[i] or raised[i] >= 0.0) and since > plan[COOL_DOWN] * calibration:
                is_alarm[i] = True
                s[_ALARMS] = alarms + (1.0 if since > _SAME_EVENT * calibration else 0.0)
                s[_LAST] = n
        s[_LOW], s[_HIGH] = min(s[_LOW], x), max(s[_HIGH], x)
        s[_N] = n + 1.0


class AlarmFold:
    """Range, past alarms and the last one by device row."""

    def __init__(self) -> None:
        self.stats = np.zeros((0, WIDTH), np.float64)

    def fold(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float64],
        excess: NDArray[np.float64],
        plans: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the excess over the raised bar (NaN while not ready), and which are records, alarms, ready."""
        self.stats = grown(self.stats, int(rows.max(initial=-1)) + 1)
        count = len(rows)
        raised = np.empty(count, np.float64)
        is_record, is_alarm, is_ready = (np.empty(count, np.bool_) for _ in range(3))
        _fold(rows, values, excess, plans, self.stats, raised, is_record, is_alarm, is_ready)
        return raised, is_record, is_alarm, is_ready

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {"stats": self.stats}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        fold.stats = state["stats"].copy()
        return fold
