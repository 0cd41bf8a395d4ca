"""Sudden deviations, per device: how unlikely a reading is given the readings just before it.

Four questions, each answered in powers of ten ("1 in 10^e"), the largest answer counts:

| name | formula |
| ------ | ------- |
| value | (x - p) / s, p = l + rho (x_prev - l) what the reading before lets expect, l the level (gain 1/128) |
| level | (u - l) / s_u, u the short mean of x (gain 1/16) |
| noise | (q - m_q) / s_q, q the short mean (gain 1/8) of log(abs(x - p) / s + 0.05) |
| stuck | -k log10(p), k how often in a row x has just been the same, p the share of readings that are repeats |

(p is the share among readings after a repeat if that is larger: some values come in runs.)

Deviations z become powers of ten by the tail of the normal distribution. That reaches beyond what a device's own past
can tell, which matters where it reports every second and one false alarm a week is one in a million. To earn it:

- Outliers are cut before they are learned (at three deviations, levels at two), so that faults teach nothing.
- Few readings count for less: z of Student's t is taken as one of the normal distribution (Wallace 1959).
- A value is no less likely than by the device's own tail: a Weibull distribution through what one reading in 20 and one
  in 200 exceed. For levels and noise z is scaled down so that one reading in 200 begins an episode beyond 3.5. These
  quantiles are followed by small steps (Robbins and Monro 1951).

After a gap the reading before says nothing about the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numba import njit

from streams.arrays import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES: Final = ("value", "level", "noise", "stuck")
VALUE, LEVEL, NOISE, STUCK = range(4)
SETTLE: Final = 20
"""Readings of a device before it is judged."""
_LIMIT: Final = 1e150
_FAR: Final = 1e6
_CUT: Final = 3.0
_WIDE: Final = 8.0
"""A single reading moves the short means by no more deviations than this: one spike is no new level, and no noise."""
_CUT_LEVEL, _KEPT = 2.0, 0.92
"""A level that leaves stays away for long, so it is cut closer; so much of a normal variance is left by that."""
_SHORT, _LONG, _SCALE, _SLOW, _QUICK = 1.0 / 16.0, 1.0 / 128.0, 1.0 / 512.0, 1.0 / 2048.0, 1.0 / 8.0
_LEVEL_FROM: Final = 128
_TYPICAL, _RARE, _TYPICAL_STEP = 3.5, 1.0 / 200.0, 0.5
_OFTEN_STEP, _SELDOM_STEP = 0.03, 0.06
_NORMAL_OFTEN, _NORMAL_RATIO = 1.96, 1.434
"""Of the normal distribution: what one reading in 20 exceeds, and by what factor one in 200 exceeds that."""
_DOUBT: Final = 0.15
"""By so much the factor may err: a tail counts as heavier than normal from there on."""
_LOG_20: Final = math.log10(20.0)
_LOG_RATIO: Final = math.log(math.log(200.0) / math.log(20.0))
_PRIOR: Final = 4.0
"""Repeats of repeats are taken to be as frequent as repeats until so many were seen."""
_EPISODE: Final = 20
"""Readings beyond what is typical that lie closer together are one episode: it counts once."""
_BAR: Final = 6.5
"""Evidence from which a stuck value is not learned as usual."""

(
    _N,
    _PREV,
    _U,
    _L,
    _VX,
    _CX,
    _VR,
    _VU,
    _Q,
    _MQ,
    _VQ,
    _K,
    _P,
    _OFTEN,
    _SELDOM,
    _BIG_LEVEL,
    _BIG_NOISE,
    _STAYS,
    _CHANCES,
    _LAST,
    _LAST_LEVEL,
    _LAST_NOISE,
) = range(22)
WIDTH: Final = 22


@njit(cache=True, nogil=True)
def _tail(z):
    """-log10 of the chance that a normal variable lies further out than z, on either side (for large z; 0 below 1)."""
    if z <= 1.0:
        return 0.0
    return max(0.0, 0.4342944819 * (0.5 * z * z + math.log(z * 1.2533141373)))


@njit(cache=True, nogil=True)
def _normal(z, n):
    """Z of Student's t with n degrees of freedom as one of the normal distribution (Wallace 1959)."""
    z = min(z, _FAR)
    return math.sqrt(n * math.log(1.0 + z * z / n))


@njit(cache=True, nogil=True)
def _own_tail(z, often, seldom):
    """-log10 of the chance of z by a Weibull tail through what one reading in 20 and one in 200 exceed."""
    shape = _LOG_RATIO / math.log(max(seldom / often - _DOUBT, _NORMAL_RATIO))
    return _LOG_20 * (z / often) ** shape


@njit(cache=True, nogil=True)
def _cut(value, scale):
    return min(max(value, -_CUT * scale), _CUT * scale)


@njit(cache=True, nogil=True)
def _fold(rows, values, gaps, restarts, stats, evidence, size, which, centre, spread):
    z = np.zeros(3)
    for i in range(rows.shape[0]):
        s = stats[rows[i]]
        x = min(max(values[i], -_LIMIT), _LIMIT)
        n = s[_N]
        if n == 0.0:
            s[_PREV] = s[_U] = s[_L] = x
            s[_OFTEN], s[_SELDOM] = _NORMAL_OFTEN, _NORMAL_OFTEN * _NORMAL_RATIO
            s[_BIG_LEVEL] = s[_BIG_NOISE] = _TYPICAL
            s[_LAST : _LAST + 3] = -_EPISODE
        floor = 1e-9 * abs(s[_L]) + 1e-12
        deviation_x = math.sqrt(s[_VX]) + floor
        deviation_r = math.sqrt(s[_VR]) + floor
        rho = min(max(s[_CX] / s[_VX], 0.0), 0.98) if s[_VX] > 0.0 else 0.0
        before = s[_PREV] - s[_L]
        if gaps[i]:
            before = 0.0
        expected = s[_L] + rho * before
        r = x - expected
        step = x - s[_U]
        if n >= SETTLE:
            step = min(max(step, -_WIDE * deviation_x), _WIDE * deviation_x)
        u = s[_U] + max(1.0 / (n + 1.0), _SHORT) * step
        away = u - s[_L]
        # what the noise of single readings leaves in a short mean: the least that its deviation can be
        least = deviation_x * math.sqrt((1.0 + rho) / (1.0 - rho) / 31.0)
        deviation_u = max(math.sqrt(s[_VU]), least) + floor
        rough = math.log(min(abs(r) / deviation_r, _WIDE) + 0.05)
        q = s[_Q] + _QUICK * (rough - s[_Q])
        deviation_q = math.sqrt(s[_VQ]) + 0.1
        repeats = s[_K] + 1.0 if n > 0.0 and x == s[_PREV] and not gaps[i] else 0.0
        centre[i] = expected
        spread[i] = deviation_r
        name = VALUE
        if n >= SETTLE:
            freedom = min(n, 1.0 / _SCALE)
            far = min(abs(r) / deviation_r, _FAR)
            z[VALUE] = _normal(far, freedom)
            z[LEVEL] = _normal(abs(away) / deviation_u, freedom / 4.0) if n >= _LEVEL_FROM else 0.0
            z[NOISE] = _normal(max(q - s[_MQ], 0.0) / deviation_q, freedom / 4.0) if n >= _LEVEL_FROM else 0.0
            e = min(_tail(z[VALUE]), _own_tail(far, s[_OFTEN], s[_SELDOM]))
            for k in range(LEVEL, STUCK):
                other = _tail(z[k] * _TYPICAL / s[_SELDOM + k])
                if other > e:
                    e, name = other, k
            share = (s[_P] * n + 1.0) / (n + 2.0)
            stay = (s[_STAYS] + _PRIOR * share) / (s[_CHANCES] + _PRIOR)
            each = -math.log10(min(max(share, stay) + 0.02, 1.0))
            stuck = repeats * each
            if repeats == 0.0 and s[_K] > 0.0:  # a run has ended: it is learned, as a short one if it was alarming
                run = s[_K] if s[_K] * each < _BAR else 2.0
                fade = max(1.0 - _SLOW * s[_K], 0.0)
                s[_STAYS] = s[_STAYS] * fade + run - 1.0
                s[_CHANCES] = s[_CHANCES] * fade + run
            if stuck > e:
                e, name = stuck, STUCK
            evidence[i] = e
            size[i] = math.sqrt(4.605170186 * e)
            which[i] = name
            is_stuck = name == STUCK and e >= _BAR
            is_far = name == VALUE and e >= _BAR
            if not is_far and n - s[_LAST] > _EPISODE:
                s[_OFTEN] += _OFTEN_STEP * (0.95 if far > s[_OFTEN] else -0.05)
                s[_OFTEN] = max(s[_OFTEN], 1.0)
            z[VALUE] = far
            for k in range(3):
                least = s[_OFTEN] * _NORMAL_RATIO if k == VALUE else _TYPICAL
                step = _SELDOM_STEP if k == VALUE else _TYPICAL_STEP
                if z[k] <= s[_SELDOM + k]:
                    s[_SELDOM + k] = max(s[_SELDOM + k] - step * _RARE, least)
                    continue
                if n - s[_LAST + k] > _EPISODE and not (k == VALUE and is_far):
                    s[_SELDOM + k] += step * (1.0 - _RARE)
                s[_LAST + k] = n
        else:
            evidence[i] = np.nan
            size[i] = 0.0
            which[i] = VALUE
            is_stuck = False
        # learn, with outliers cut once there is a scale to cut at
        d = x - s[_L]
        if n >= SETTLE:
            d = _cut(d, deviation_x)
            r = _cut(r, deviation_r)
            before = _cut(before, deviation_x)
            away = min(max(away, -_CUT_LEVEL * deviation_u), _CUT_LEVEL * deviation_u)
            rough = min(rough, s[_MQ] + 3.0)
        if n > 0.0:
            gain_x = max(1.0 / n, _SLOW)
            s[_VX] += gain_x * (d * d - s[_VX])
            s[_CX] += gain_x * (d * before - s[_CX])
            gain_x = max(1.0 / n, _SCALE)
            s[_VR] += gain_x * (r * r - s[_VR])
            if not is_stuck:
                repeated = 1.0 if repeats > 0.0 else 0.0
                s[_P] += gain_x * (repeated - s[_P])
        if n >= SETTLE:
            gain_u = max(1.0 / (n - SETTLE + 1.0), _SLOW)
            s[_VU] += gain_u * (away * away / _KEPT - s[_VU])
            lean = min(q, s[_MQ] + _CUT * deviation_q) - s[_MQ]
            s[_MQ] += gain_u * lean
            s[_VQ] += gain_u * (lean * lean - s[_VQ])
            s[_Q] = q
        s[_L] += max(1.0 / (n + 1.0), _LONG) * d
        s[_U] = u
        s[_K] = repeats
        s[_PREV] = x
        s[_N] = n + 1.0
        if restarts[i]:
            s[:] = 0.0


@dataclass(frozen=True)
class Deviations:
    """What a batch is told of its readings, as columns.

    Evidence in powers of ten (NaN before SETTLE), the same in deviations of the normal distribution, which of NAMES it
    is, the expected value and its deviation.
    """

    evidence: NDArray[np.float64]
    size: NDArray[np.float64]
    which: NDArray[np.int64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]


class DeviationFold:
    """Statistics by device row."""

    def __init__(self) -> None:
        self.stats = np.zeros((0, WIDTH), np.float64)

    def fold(
        self,
        rows: NDArray[np.int64],
        values: NDArray[np.float64],
        gaps: NDArray[np.bool_],
        restarts: NDArray[np.bool_] | None = None,
    ) -> Deviations:
        """Judge each reading, then learn it, in order. After a reading of ``restarts`` its device begins anew."""
        self.stats = grown(self.stats, int(rows.max(initial=-1)) + 1)
        count = len(rows)
        found = Deviations(
            evidence=np.empty(count, np.float64),
            size=np.empty(count, np.float64),
            which=np.empty(count, np.int64),
            centre=np.empty(count, np.float64),
            spread=np.empty(count, np.float64),
        )
        restarts = np.zeros(count, np.bool_) if restarts is None else restarts
        columns = (found.evidence, found.size, found.which, found.centre, found.spread)
        _fold(rows, values, gaps, restarts, self.stats, *columns)
        return found

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        return {"stats": self.stats}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a fold that goes on where the snapshot was taken."""
        fold = cls()
        fold.stats = state["stats"].copy()
        return fold
