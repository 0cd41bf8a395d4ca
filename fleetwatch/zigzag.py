"""Zigzag numbers of variable length, compiled: what Avro's longs and the fields of Kafka's records are written as.

Numba's cache of a kernel that calls these is made anew when the kernel's own file changes, not when this one does:
after a change here remove the cache (``make clean``).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def long_size(number):
    """Return how many bytes a number takes."""
    bits = np.uint64(number << 1) ^ np.uint64(number >> 63)
    size = 1
    while bits > np.uint64(0x7F):
        bits >>= np.uint64(7)
        size += 1
    return size


@njit(cache=True, nogil=True)
def write_long(out, pos, number):
    """Write a number; return the position after it."""
    bits = np.uint64(number << 1) ^ np.uint64(number >> 63)
    while bits > np.uint64(0x7F):
        out[pos] = np.uint8((bits & np.uint64(0x7F)) | np.uint64(0x80))
        bits >>= np.uint64(7)
        pos += 1
    out[pos] = np.uint8(bits)
    return pos + 1
