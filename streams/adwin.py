"""ADWIN: a window of recent numbers that is cut where its older part has another mean than its newer one.

Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", 2007, as ``river.drift.ADWIN`` has it
(with ``clock=1``): compiled, and with its state in one row of numbers, so that a partition can have one for each of
its channels and carry them in its snapshot. A test compares them number by number.

The window is kept as buckets of 1, 2, 4, ... numbers, up to MAX_BUCKETS of a size. River's has no end; this one lets go
of its oldest numbers beyond ROWS sizes (some 380). Of each bucket it keeps the sum and the sum of squares around
its mean.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

MAX_BUCKETS: Final = 3
ROWS: Final = 7
MIN_LENGTH: Final = 5
GRACE: Final = 10
DELTA: Final = 0.002
_SLOTS: Final = MAX_BUCKETS + 1

_LENGTH, _TOTAL, _SQUARES = range(3)
_COUNTS: Final = 3
_BUCKETS: Final = _COUNTS + ROWS
WIDTH: Final = _BUCKETS + 2 * ROWS * _SLOTS


@njit(cache=True, nogil=True)
def _at(row, slot):
    return _BUCKETS + 2 * (row * _SLOTS + slot)


@njit(cache=True, nogil=True)
def _remove(w, row, count):
    """Forget the oldest buckets of a row."""
    kept = int(w[_COUNTS + row]) - count
    for slot in range(kept):
        at, other = _at(row, slot), _at(row, slot + count)
        w[at], w[at + 1] = w[other], w[other + 1]
    w[_COUNTS + row] = kept


@njit(cache=True, nogil=True)
def _append(w, row, total, squares):
    at = _at(row, int(w[_COUNTS + row]))
    w[at], w[at + 1] = total, squares
    w[_COUNTS + row] += 1.0


@njit(cache=True, nogil=True)
def _drop_oldest(w):
    """Take the oldest bucket out of the window."""
    row = ROWS - 1
    while w[_COUNTS + row] == 0.0:
        row -= 1
    size, at = 2.0**row, _at(row, 0)
    w[_LENGTH] -= size
    w[_TOTAL] -= w[at]
    apart = w[at] / size - w[_TOTAL] / w[_LENGTH]
    w[_SQUARES] -= w[at + 1] + size * w[_LENGTH] * apart * apart / (size + w[_LENGTH])
    _remove(w, row, 1)


@njit(cache=True, nogil=True)
def _insert(w, x):
    w[_LENGTH] += 1.0
    if w[_LENGTH] > 1.0:
        apart = x - w[_TOTAL] / (w[_LENGTH] - 1.0)
        w[_SQUARES] += (w[_LENGTH] - 1.0) * apart * apart / w[_LENGTH]
    w[_TOTAL] += x
    _append(w, 0, x, 0.0)
    for row in range(ROWS):
        if w[_COUNTS + row] <= MAX_BUCKETS:
            break
        if row == ROWS - 1:
            _drop_oldest(w)
            break
        size, first, second = 2.0**row, _at(row, 0), _at(row, 1)
        apart = w[first] / size - w[second] / size
        squares = w[first + 1] + w[second + 1] + size * apart * apart / 2.0
        _append(w, row + 1, w[first] + w[second], squares)
        _remove(w, row, 2)


@njit(cache=True, nogil=True)
def _has_cut(w):
    """Say whether the window has two parts whose means differ by more than chance allows."""
    confidence = math.log(2.0 * math.log(w[_LENGTH]) / DELTA)
    variance = w[_SQUARES] / w[_LENGTH]
    older, older_total = 0.0, 0.0
    for row in range(ROWS - 1, -1, -1):
        for slot in range(int(w[_COUNTS + row])):
            older += 2.0**row
            older_total += w[_at(row, slot)]
            newer = w[_LENGTH] - older
            if newer < MIN_LENGTH:
                return False
            if older < MIN_LENGTH:
                continue
            apart = older_total / older - (w[_TOTAL] - older_total) / newer
            share = 1.0 / (older - MIN_LENGTH + 1.0) + 1.0 / (newer - MIN_LENGTH + 1.0)
            if abs(apart) > math.sqrt(2.0 * share * variance * confidence) + 2.0 / 3.0 * confidence * share:
                return True
    return False


@njit(cache=True, nogil=True)
def add(w, x):
    """Add a number to a window; where that shows a change, return the mean before and the mean since (else NaN twice).

    ``w`` is a row of WIDTH numbers, zeros at first. After a change the window is empty: whoever goes on begins anew.
    """
    _insert(w, x)
    length, total = w[_LENGTH], w[_TOTAL]
    if length > GRACE:
        while _has_cut(w):
            _drop_oldest(w)
    if w[_LENGTH] == length:
        return np.nan, np.nan
    before, since = (total - w[_TOTAL]) / (length - w[_LENGTH]), w[_TOTAL] / w[_LENGTH]
    w[:] = 0.0
    return before, since
