"""The compiled pass from decoded columns to PostgreSQL's binary COPY format.

The format (PostgreSQL's documentation of COPY, "Binary Format"): a 16-bit field count before each row, a 32-bit length
before each field (-1 for null), all big-endian; timestamps are microseconds since 2000.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TEXT, TIME, BIGINT, INTEGER, FLOAT, BOOLEAN, SYMBOL = range(7)
_SYMBOL = SYMBOL
_PG_EPOCH_MS = 946_684_800_000


@njit(cache=True, nogil=True)
def _put32(out, pos, number):
    out[pos] = np.uint8((number >> 24) & 0xFF)
    out[pos + 1] = np.uint8((number >> 16) & 0xFF)
    out[pos + 2] = np.uint8((number >> 8) & 0xFF)
    out[pos + 3] = np.uint8(number & 0xFF)
    return pos + 4


@njit(cache=True, nogil=True)
def _put64(out, pos, bits):
    for k in range(8):
        out[pos + k] = np.uint8((bits >> np.uint64(56 - 8 * k)) & np.uint64(0xFF))
    return pos + 8


@njit(cache=True, nogil=True)
def copy_rows(program, rows, ints, floats, buffer, symbols, symbol_spans, out):
    """Write the given rows one after another; return the bytes used.

    The program has one line a column: (kind, slot, present slot or -1, first line of its symbols' spans).
    """
    scratch = np.empty(1, np.float64)
    as_bits = scratch.view(np.uint64)
    fields = program.shape[0]
    pos = 0
    for row in rows:
        out[pos] = np.uint8(fields >> 8)
        out[pos + 1] = np.uint8(fields & 0xFF)
        pos += 2
        for k in range(fields):
            kind, slot, present = program[k, 0], program[k, 1], program[k, 2]
            if present >= 0 and ints[present, row] == 0:
                pos = _put32(out, pos, -1)
            elif kind == TEXT:
                start, length = ints[slot, row], ints[slot + 1, row]
                pos = _put32(out, pos, length)
                for b in range(length):
                    out[pos + b] = buffer[start + b]
                pos += length
            elif kind == _SYMBOL:
                line = program[k, 3] + ints[slot, row]
                start, length = symbol_spans[line, 0], symbol_spans[line, 1]
                pos = _put32(out, pos, length)
                for b in range(length):
                    out[pos + b] = symbols[start + b]
                pos += length
            elif kind == FLOAT:
                scratch[0] = floats[slot, row]
                pos = _put64(out, _put32(out, pos, 8), as_bits[0])
            elif kind == BIGINT:
                pos = _put64(out, _put32(out, pos, 8), np.uint64(ints[slot, row]))
            elif kind == TIME:
                micros = (ints[slot, row] - _PG_EPOCH_MS) * 1000
                pos = _put64(out, _put32(out, pos, 8), np.uint64(micros))
            elif kind == INTEGER:
                pos = _put32(out, _put32(out, pos, 4), ints[slot, row])
            else:
                pos = _put32(out, pos, 1)
                out[pos] = np.uint8(ints[slot, row] != 0)
                pos += 1
    return pos
