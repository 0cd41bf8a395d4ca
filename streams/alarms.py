"""The alarm policy: when evidence becomes an alarm. One compiled fold in offset order, state per device.

Evidence comes as an excess: powers of ten beyond the bar of the detector that is furthest beyond its own. A device that
is ready alarms when

- the excess reaches what its past alarms ask for: raise_bar for each, fading by exp(-1 / (4 calibration)) a reading, or
- the reading is a record: beyond everything seen by more than record_margin of the range,

and more than cool_down calibrations have passed since its last alarm. An alarm within 0.2 calibrations of the one
before raises the bar no further: it is the same event. A device that has drifted begins anew. The numbers come from the
device's plan (``streams/tuning.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numba import njit

from streams.arrays import grown
from streams.tuning import CALIBRATION, COOL_DOWN, RAISE_BAR, READY_AFTER, RECORD_MARGIN, SETTLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAME_EVENT: Final = 0.2
_MEMORY: Final = 4.0
_N, _LOW, _HIGH, _ALARMS, _LAST, _ANEW = range(6)
WIDTH: Final = 6


@njit(cache=True, nogil=True)
def _fold(rows, values, excess, plans, restarts, stats, raised, is_record, is_alarm, is_ready, is_back):
    for i in range(rows.shape[0]):
        s, plan = stats[rows[i]], plans[i]
        x, n = values[i], s[_N]
        is_alarm[i] = is_record[i] = is_ready[i] = is_back[i] = False
        raised[i] = np.nan
        if n == 0.0:
            s[_LOW] = s[_HIGH] = x
            s[_LAST] = -np.inf
        if n >= SETTLE and n >= plan[READY_AFTER]:
            is_ready[i] = True
            is_back[i] = s[_ANEW] > 0.0
            s[_ANEW] = 0.0
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
        if restarts[i]:
            s[:] = 0.0
            s[_ANEW] = 1.0


@dataclass(frozen=True)
class Alarms:
    """Columns.

    The excess over the raised bar (NaN while not ready), which readings are records, alarms, of a device that is ready,
    and the first ones of devices that are ready again after they began anew.
    """

    raised: NDArray[np.float64]
    is_record: NDArray[np.bool_]
    is_alarm: NDArray[np.bool_]
    is_ready: NDArray[np.bool_]
    is_back: NDArray[np.bool_]


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
        restarts: NDArray[np.bool_] | None = None,
    ) -> Alarms:
        """Decide for each reading, in order. After a reading of ``restarts`` its device begins anew."""
        self.stats = grown(self.stats, int(rows.max(initial=-1)) + 1)
        count = len(rows)
        restarts = np.zeros(count, np.bool_) if restarts is None else restarts
        raised = np.empty(count, np.float64)
        flags = [np.empty(count, np.bool_) for _ in range(4)]
        _fold(rows, values, excess, plans, restarts, self.stats, raised, *flags)
        return Alarms(raised, *flags)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {"stats": self.stats}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        fold.stats = state["stats"].copy()
        return fold
