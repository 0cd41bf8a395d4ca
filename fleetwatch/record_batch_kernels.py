"""The compiled passes over the records of a Kafka record batch: to columns, and from columns."""

from __future__ import annotations

import numpy as np
from numba import njit

from fleetwatch.zigzag import long_size, write_long


@njit(cache=True, nogil=True)
def _read_varint(buffer, pos, end):
    """Return a zigzag number and the next position, -1 when it does not fit."""
    bits = np.uint64(0)
    shift = np.uint64(0)
    while pos < end and shift < np.uint64(70):
        byte = buffer[pos]
        pos += 1
        bits |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return np.int64(bits >> np.uint64(1)) ^ -np.int64(bits & np.uint64(1)), pos
        shift += np.uint64(7)
    return np.int64(0), -1


@njit(cache=True, nogil=True)
def _read_span(buffer, pos, end):
    """Return length and start of bytes and the position after them, -1 when they do not fit."""
    length, start = _read_varint(buffer, pos, end)
    if start < 0 or length < -1 or length > end - start:
        return length, start, -1
    return length, start, start + max(length, 0)


@njit(cache=True, nogil=True)
def read_records(buffer, base_offset, last_delta, first_ms, columns):
    """Fill rows of ``columns`` (offset, time, key start, length, value start, length); False if they do not fit.

    Offsets must ascend, up to ``last_delta`` from the first: they are searched, and reading goes on after the last.
    """
    pos = 0
    before = np.int64(-1)
    for row in range(columns.shape[1]):
        size, pos = _read_varint(buffer, pos, buffer.shape[0])
        if pos < 0 or size < 1 or size > buffer.shape[0] - pos:
            return False
        end = pos + size
        delta_ms, pos = _read_varint(buffer, pos + 1, end)
        if pos < 0:
            return False
        delta, pos = _read_varint(buffer, pos, end)
        if pos < 0 or delta <= before or delta > last_delta:
            return False
        before = delta
        columns[3, row], columns[2, row], pos = _read_span(buffer, pos, end)
        if pos < 0:
            return False
        columns[5, row], columns[4, row], pos = _read_span(buffer, pos, end)
        if pos < 0:
            return False
        columns[0, row] = base_offset + delta
        columns[1, row] = first_ms + delta_ms
        pos = end
    return pos == buffer.shape[0]


@njit(cache=True, nogil=True)
def _write_span(out, pos, buffer, start, length):
    pos = write_long(out, pos, length)
    for k in range(length):
        out[pos + k] = buffer[start + k]
    return pos + max(length, 0)


@njit(cache=True, nogil=True)
def write_records(key_buffer, key_starts, key_lengths, buffer, starts, lengths, out):
    """Write records one after another, all of the batch's first time; return the bytes used."""
    pos = 0
    for row in range(starts.shape[0]):
        key, value = key_lengths[row], lengths[row]
        size = 3 + long_size(row) + long_size(key) + max(key, 0) + long_size(value) + max(value, 0)
        pos = write_long(out, pos, size)
        out[pos] = 0
        out[pos + 1] = 0
        pos = write_long(out, pos + 2, row)
        pos = _write_span(out, pos, key_buffer, key_starts[row], key)
        pos = _write_span(out, pos, buffer, starts[row], value)
        out[pos] = 0
        pos += 1
    return pos
