"""The compiled passes of recordings: rows to the bytes of a block and back, frames put on, times moved.

``columns`` has a line for each of ``PARTITION`` to ``VALUE_LENGTH``; starts and lengths are bytes of a buffer.
"""

from __future__ import annotations

from numba import njit

from fleetwatch.avro_kernels import _read_long
from fleetwatch.avro_layout import OP_BOOL, OP_BYTES, OP_DOUBLE, OP_FLOAT, OP_STRING, OP_TIME
from fleetwatch.zigzag import long_size, write_long

(
    PARTITION,
    OFFSET,
    BROKER_MS,
    EVENT_MS,
    KEY_START,
    KEY_LENGTH,
    HEADERS_START,
    HEADERS_LENGTH,
    BRANCH,
    VALUE_START,
    VALUE_LENGTH,
) = range(11)
WIDTH = 11
ABSENT = -(2**63)
"""No event time. A key that is absent has the length -1."""
NULL, RAW = 0, 1
"""Branches of a value that is absent, and of one that is kept as it came; schemas follow."""
ROW_BYTES = 70
"""A row takes at most so many bytes besides key, headers and value."""

_TRUNCATED = -1
"""Of a position: the bytes end too early or are no Avro of a row."""


@njit(cache=True, nogil=True)
def _copy(source, start, length, out, pos):
    for k in range(length):
        out[pos + k] = source[start + k]
    return pos + length


@njit(cache=True, nogil=True)
def encode_rows(columns, keys, headers, values, out):
    """Write rows one after another; return the bytes used."""
    pos = 0
    for row in range(columns.shape[1]):
        pos = write_long(out, pos, columns[PARTITION, row])
        pos = write_long(out, pos, columns[OFFSET, row])
        pos = write_long(out, pos, columns[BROKER_MS, row])
        if columns[EVENT_MS, row] == ABSENT:
            out[pos] = 0
            pos += 1
        else:
            out[pos] = 2
            pos = write_long(out, pos + 1, columns[EVENT_MS, row])
        length = columns[KEY_LENGTH, row]
        if length < 0:
            out[pos] = 0
            pos += 1
        else:
            out[pos] = 2
            pos = write_long(out, pos + 1, length)
            pos = _copy(keys, columns[KEY_START, row], length, out, pos)
        if columns[HEADERS_LENGTH, row] == 0:
            out[pos] = 0
            pos += 1
        else:
            pos = _copy(headers, columns[HEADERS_START, row], columns[HEADERS_LENGTH, row], out, pos)
        branch, length = columns[BRANCH, row], columns[VALUE_LENGTH, row]
        size = long_size(branch) + length
        if branch == RAW:
            size += long_size(length)
        pos = write_long(out, pos, size)
        pos = write_long(out, pos, branch)
        if branch == RAW:
            pos = write_long(out, pos, length)
        pos = _copy(values, columns[VALUE_START, row], length, out, pos)
    return pos


@njit(cache=True, nogil=True)
def _skip_bytes(buffer, pos, end):
    """Return where a string or bytes end."""
    length, pos, bad = _read_long(buffer, pos, end)
    if bad or length < 0 or length > end - pos:
        return _TRUNCATED
    return pos + length


@njit(cache=True, nogil=True)
def _skip_headers(buffer, pos, end):
    """Return where an array of (name, null or bytes) ends."""
    while True:
        count, pos, bad = _read_long(buffer, pos, end)
        if bad:
            return _TRUNCATED
        if count == 0:
            return pos
        if count < 0:  # a block with its size in bytes
            _, pos, bad = _read_long(buffer, pos, end)
            if bad:
                return _TRUNCATED
        for _ in range(abs(count)):
            pos = _skip_bytes(buffer, pos, end)
            if pos < 0:
                return _TRUNCATED
            branch, pos, bad = _read_long(buffer, pos, end)
            if bad or branch < 0 or branch > 1:
                return _TRUNCATED
            if branch == 1:
                pos = _skip_bytes(buffer, pos, end)
                if pos < 0:
                    return _TRUNCATED


@njit(cache=True, nogil=True)
def decode_rows(buffer, branches, columns):
    """Read rows; return how many are whole and where the last whole one ends.

    All is well when that is every row and the end of the buffer. ``branches`` is how many a value has.
    """
    end = buffer.shape[0]
    after = 0
    for row in range(columns.shape[1]):
        pos = after
        for column in (PARTITION, OFFSET, BROKER_MS):
            columns[column, row], pos, bad = _read_long(buffer, pos, end)
            if bad:
                return row, after
        branch, pos, bad = _read_long(buffer, pos, end)
        if bad or branch < 0 or branch > 1:
            return row, after
        columns[EVENT_MS, row] = ABSENT
        if branch == 1:
            columns[EVENT_MS, row], pos, bad = _read_long(buffer, pos, end)
            if bad:
                return row, after
        branch, pos, bad = _read_long(buffer, pos, end)
        if bad or branch < 0 or branch > 1:
            return row, after
        columns[KEY_START, row], columns[KEY_LENGTH, row] = pos, -1
        if branch == 1:
            length, pos, bad = _read_long(buffer, pos, end)
            if bad or length < 0 or length > end - pos:
                return row, after
            columns[KEY_START, row], columns[KEY_LENGTH, row] = pos, length
            pos += length
        columns[HEADERS_START, row] = pos
        pos = _skip_headers(buffer, pos, end)
        if pos < 0:
            return row, after
        columns[HEADERS_LENGTH, row] = pos - columns[HEADERS_START, row]
        size, pos, bad = _read_long(buffer, pos, end)
        if bad or size < 1 or size > end - pos:
            return row, after
        stop = pos + size
        branch, pos, bad = _read_long(buffer, pos, stop)
        if bad or branch < 0 or branch >= branches:
            return row, after
        if branch == RAW:
            length, pos, bad = _read_long(buffer, pos, stop)
            if bad or length != stop - pos:
                return row, after
        if branch == NULL and pos != stop:
            return row, after
        columns[BRANCH, row] = branch
        columns[VALUE_START, row], columns[VALUE_LENGTH, row] = pos, stop - pos
        after = stop
    return columns.shape[1], after


@njit(cache=True, nogil=True)
def frame_rows(buffer, columns, frames, out, ends):
    """Write the values as they were in the topic, those of a schema with its frame; set their ``ends``."""
    pos = 0
    for row in range(columns.shape[1]):
        branch = columns[BRANCH, row]
        if branch > RAW:
            for k in range(5):
                out[pos + k] = frames[branch, k]
            pos += 5
        pos = _copy(buffer, columns[VALUE_START, row], columns[VALUE_LENGTH, row], out, pos)
        ends[row] = pos
    return pos


@njit(cache=True, nogil=True)
def gather_rows(buffer, starts, lengths, out, out_starts):
    """Copy entries end to end; set where they begin."""
    pos = 0
    for row in range(starts.shape[0]):
        out_starts[row] = pos
        pos = _copy(buffer, starts[row], max(lengths[row], 0), out, pos)
    return pos


@njit(cache=True, nogil=True)
def shift_bodies(buffer, starts, stops, program, delta_ms, out, ends):
    """Copy Avro bodies with all their times moved; set their ``ends``. They must have been checked before."""
    pos = 0
    for row in range(starts.shape[0]):
        at, end = starts[row], stops[row]
        for k in range(program.shape[0]):
            op = program[k, 0]
            start = at
            if program[k, 3] >= 0:
                branch, at, _ = _read_long(buffer, at, end)
                if branch == program[k, 3]:
                    pos = _copy(buffer, start, at - start, out, pos)
                    continue
            if op == OP_TIME:
                pos = _copy(buffer, start, at - start, out, pos)
                number, at, _ = _read_long(buffer, at, end)
                pos = write_long(out, pos, number + delta_ms)
                continue
            if op == OP_DOUBLE:
                at += 8
            elif op == OP_FLOAT:
                at += 4
            elif op == OP_BOOL:
                at += 1
            elif op in (OP_STRING, OP_BYTES):
                length, at, _ = _read_long(buffer, at, end)
                at += length
            else:
                _, at, _ = _read_long(buffer, at, end)
            pos = _copy(buffer, start, at - start, out, pos)
        ends[row] = pos
    return pos
