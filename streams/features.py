"""Features of a reading, relative to its own device: one compiled fold over a batch in offset order.

Shared by training and scoring, so that they cannot drift apart. For reading x of a device that was seen n times:

| column | name  | formula |
| ------ | ----- | ------- |
| 0 | value | (x - m) / s, m and s the running mean and deviation of x |
| 1 | short | (u - m_u) / s_u, u the short mean of x (gain 1/8), m_u and s_u its running mean and deviation |
| 2 | step  | (d - m_d) / s_d, d = log(abs(x - x_prev) / D + 0.05), D the running mean of abs(x - x_prev) |
| 3 | rough | (r - m_r) / s_r, r the short mean of d: high in a burst of noise |
| 4 | repeat | (k - m_k) / (s_k + 1), k how often in a row x has just been the same: high for a stuck value |

Running statistics are exponentially weighted with gain max(1/(n+1), 1/512) (those of repeat with 1/4096: they must
not learn a stuck value while it is being noticed) and taken *before* x updates them. All
columns are in standard deviations; the models see them squashed into 0..1 by ``squash``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES: Final = ("value", "short", "step", "rough", "repeat")
COUNT: Final = len(NAMES)
SETTLE: Final = 20
"""Readings of a device before its features are other than 0."""

# Layout of a device's row of floats.
(
    _MEAN,
    _VAR,
    _SHORT,
    _SHORT_MEAN,
    _SHORT_VAR,
    _PREV,
    _STEP,
    _STEP_MEAN,
    _STEP_VAR,
    _ROUGH,
    _ROUGH_MEAN,
    _ROUGH_VAR,
    _REPEAT,
    _REPEAT_MEAN,
    _REPEAT_VAR,
) = range(15)
WIDTH: Final = 15
_LONG_GAIN, _SHORT_GAIN, _REPEAT_GAIN = 1.0 / 512.0, 1.0 / 8.0, 1.0 / 4096.0
_LIMIT: Final = 1e150
"""Values are cut here for the statistics: their squares must stay finite."""
_FAR: Final = 1e6


@njit(cache=True, nogil=True)
def _standard(value, mean, variance):
    floor = 1e-9 * abs(mean) + 1e-12
    return min(max((value - mean) / (np.sqrt(variance) + floor), -_FAR), _FAR)


@njit(cache=True, nogil=True)
def _fold_features(rows, values, restarts, seen, stats, out, seen_before):
    for i in range(rows.shape[0]):
        row = rows[i]
        x = min(max(values[i], -_LIMIT), _LIMIT)
        n = seen[row]
        seen_before[i] = n
        s = stats[row]
        gain = max(1.0 / (n + 1.0), _LONG_GAIN)
        short_gain = max(1.0 / (n + 1.0), _SHORT_GAIN)
        short = s[_SHORT] + short_gain * (x - s[_SHORT])
        diff = abs(x - s[_PREV]) if n > 0 else 0.0
        step = np.log(diff / (s[_STEP] + 1e-12) + 0.05) if n > 1 and s[_STEP] > 0.0 else 0.0
        rough = s[_ROUGH] + short_gain * (step - s[_ROUGH])
        repeat = s[_REPEAT] + 1.0 if n > 0 and x == s[_PREV] else 0.0
        if n >= SETTLE:
            out[i, 0] = _standard(x, s[_MEAN], s[_VAR])
            out[i, 1] = _standard(short, s[_SHORT_MEAN], s[_SHORT_VAR])
            out[i, 2] = _standard(step, s[_STEP_MEAN], s[_STEP_VAR])
            out[i, 3] = _standard(rough, s[_ROUGH_MEAN], s[_ROUGH_VAR])
            out[i, 4] = min((repeat - s[_REPEAT_MEAN]) / (np.sqrt(s[_REPEAT_VAR]) + 1.0), _FAR)
        else:
            out[i, :] = 0.0
        delta = x - s[_MEAN]
        s[_MEAN] += gain * delta
        s[_VAR] = (1.0 - gain) * (s[_VAR] + gain * delta * delta)
        s[_SHORT] = short
        delta = short - s[_SHORT_MEAN]
        s[_SHORT_MEAN] += gain * delta
        s[_SHORT_VAR] = (1.0 - gain) * (s[_SHORT_VAR] + gain * delta * delta)
        if n > 0:
            s[_STEP] += max(1.0 / n, _LONG_GAIN) * (diff - s[_STEP])
        if n > 1:
            gain = max(1.0 / (n - 1.0), _LONG_GAIN)
            delta = step - s[_STEP_MEAN]
            s[_STEP_MEAN] += gain * delta
            s[_STEP_VAR] = (1.0 - gain) * (s[_STEP_VAR] + gain * delta * delta)
            delta = rough - s[_ROUGH_MEAN]
            s[_ROUGH_MEAN] += gain * delta
            s[_ROUGH_VAR] = (1.0 - gain) * (s[_ROUGH_VAR] + gain * delta * delta)
            s[_ROUGH] = rough
        delta = repeat - s[_REPEAT_MEAN]
        s[_REPEAT_MEAN] += _REPEAT_GAIN * delta
        s[_REPEAT_VAR] = (1.0 - _REPEAT_GAIN) * (s[_REPEAT_VAR] + _REPEAT_GAIN * delta * delta)
        s[_REPEAT] = repeat
        s[_PREV] = x
        seen[row] = n + 1
        if restarts[i]:
            seen[row] = 0
            s[:] = 0.0


def fold_features(
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    seen: NDArray[np.int64],
    stats: NDArray[np.float64],
    restarts: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the features of each reading, shape (n, COUNT), and how often its device had been seen before.

    Updates ``seen`` (devices) and ``stats`` (devices, WIDTH). After a reading of ``restarts`` its device begins anew.
    """
    out = np.empty((len(rows), COUNT), np.float64)
    seen_before = np.empty(len(rows), np.int64)
    restarts = np.zeros(len(rows), np.bool_) if restarts is None else restarts
    _fold_features(rows, values, restarts, seen, stats, out, seen_before)
    return out, seen_before


def squash(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map standard deviations to 0..1 (softsign: 0 to 0.5, 4 deviations to 0.75, order kept however far out)."""
    squashed: NDArray[Any] = 0.5 + 0.5 * features / (4.0 + np.abs(features))
    return squashed
