"""The compiled passes of the columnar codec: frames, bodies to columns, columns to bodies."""

from __future__ import annotations

import numpy as np
from numba import njit

from fleetwatch import avro_check
from fleetwatch.avro_layout import (
    OP_BOOL,
    OP_BYTES,
    OP_DOUBLE,
    OP_ENUM,
    OP_FLOAT,
    OP_INT,
    OP_STRING,
    OP_TIME,
)
from fleetwatch.records import Reason
from fleetwatch.row_status import STATUS
from fleetwatch.zigzag import write_long

_TRUNCATED, _TRAILING, _MALFORMED = (
    STATUS[Reason.TRUNCATED],
    STATUS[Reason.TRAILING_BYTES],
    STATUS[Reason.MALFORMED],
)
_LOWEST = np.full(9, -(2**63), np.int64)
_HIGHEST = np.full(9, 2**63 - 1, np.int64)
_LOWEST[OP_INT], _HIGHEST[OP_INT] = -(2**31), 2**31 - 1
_LOWEST[OP_TIME], _HIGHEST[OP_TIME] = avro_check.FIRST_MS, avro_check.LAST_MS


@njit(cache=True, nogil=True)
def _read_long(buffer, pos, end):
    """Read a zigzag number; return it, the next position, and a status. Overlong forms are malformed."""
    result = np.uint64(0)
    shift = np.uint64(0)
    while True:
        if pos >= end:
            return np.int64(0), pos, _TRUNCATED
        byte = buffer[pos]
        pos += 1
        if shift == np.uint64(63) and byte > 1:
            return np.int64(0), pos, _MALFORMED
        result |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift > np.uint64(0):
                return np.int64(0), pos, _MALFORMED
            break
        shift += np.uint64(7)
        if shift > np.uint64(63):
            return np.int64(0), pos, _MALFORMED
    return np.int64(result >> np.uint64(1)) ^ -np.int64(result & np.uint64(1)), pos, 0


@njit(cache=True, nogil=True)
def _is_text(buffer, pos, end):
    """UTF-8 without U+0000, which PostgreSQL cannot store."""
    while pos < end:
        byte = buffer[pos]
        if byte < 0x80:
            if byte == 0:
                return False
            pos += 1
            continue
        if 0xC2 <= byte <= 0xDF:
            more = 1
        elif 0xE0 <= byte <= 0xEF:
            more = 2
        elif 0xF0 <= byte <= 0xF4:
            more = 3
        else:
            return False
        if pos + more >= end:
            return False
        second = buffer[pos + 1]
        if byte == 0xE0 and second < 0xA0:
            return False
        if byte == 0xED and second > 0x9F:
            return False
        if byte == 0xF0 and second < 0x90:
            return False
        if byte == 0xF4 and second > 0x8F:
            return False
        for k in range(1, more + 1):
            if buffer[pos + k] & 0xC0 != 0x80:
                return False
        pos += more + 1
    return True


@njit(cache=True, nogil=True)
def decode_rows(buffer, starts, stops, rows, program, enum_map, status, ints, floats):
    """Run one writer's program over the given rows. A row's status stays 0 only if its body fits to the byte.

    What is well written but has no place in the reader's schema (a symbol, a null) counts only after all else.
    """
    scratch = np.empty(1, np.uint64)
    as_double = scratch.view(np.float64)
    scratch32 = np.empty(1, np.uint32)
    as_float = scratch32.view(np.float32)
    for row in rows:
        pos = starts[row] + 5
        end = stops[row]
        bad = 0
        unresolved = False
        for k in range(program.shape[0]):
            op, slot, present = program[k, 0], program[k, 1], program[k, 4]
            if present >= 0:
                ints[present, row] = 1
            if program[k, 3] >= 0:
                branch, pos, bad = _read_long(buffer, pos, end)
                if bad:
                    break
                if branch < 0 or branch > 1:
                    bad = _MALFORMED
                    break
                if branch == program[k, 3]:
                    if present >= 0:
                        ints[present, row] = 0
                    elif program[k, 7]:
                        unresolved = True
                    continue
            if op == OP_DOUBLE:
                if pos + 8 > end:
                    bad = _TRUNCATED
                    break
                bits = np.uint64(0)
                for b in range(8):
                    bits |= np.uint64(buffer[pos + b]) << np.uint64(8 * b)
                pos += 8
                scratch[0] = bits
                if slot >= 0:
                    floats[slot, row] = as_double[0]
            elif op == OP_FLOAT:
                if pos + 4 > end:
                    bad = _TRUNCATED
                    break
                bits32 = np.uint32(0)
                for b in range(4):
                    bits32 |= np.uint32(buffer[pos + b]) << np.uint32(8 * b)
                pos += 4
                scratch32[0] = bits32
                if slot >= 0:
                    floats[slot, row] = as_float[0]
            elif op == OP_BOOL:
                if pos >= end:
                    bad = _TRUNCATED
                    break
                if buffer[pos] > 1:
                    bad = _MALFORMED
                    break
                if slot >= 0:
                    ints[slot, row] = buffer[pos]
                pos += 1
            else:
                number, pos, bad = _read_long(buffer, pos, end)
                if bad:
                    break
                if op in (OP_STRING, OP_BYTES):
                    if number < 0:
                        bad = _MALFORMED
                        break
                    if number > end - pos:
                        bad = _TRUNCATED
                        break
                    if op == OP_STRING and not _is_text(buffer, pos, pos + number):
                        bad = _MALFORMED
                        break
                    if slot >= 0:
                        ints[slot, row] = pos
                        ints[slot + 1, row] = number
                    pos += number
                elif op == OP_ENUM:
                    if number < 0 or number >= program[k, 2]:
                        bad = _MALFORMED
                        break
                    symbol = enum_map[program[k, 5] + number]
                    if symbol < 0:
                        unresolved = True
                    elif slot >= 0:
                        ints[slot, row] = symbol
                elif number < _LOWEST[op] or number > _HIGHEST[op]:
                    bad = _MALFORMED
                    break
                elif slot >= 0:
                    if program[k, 6]:
                        floats[slot, row] = number
                    else:
                        ints[slot, row] = number
        if bad == 0 and pos != end:
            bad = _TRAILING
        if bad == 0 and unresolved:
            bad = _MALFORMED
        status[row] = bad


@njit(cache=True, nogil=True)
def frame_rows(buffer, starts, stops, key_lengths, max_bytes, status, schema_ids):
    """Set the status and the schema id (-1 where it has none) of every row, from its frame, size and key."""
    for row in range(starts.shape[0]):
        size = stops[row] - starts[row]
        schema_ids[row] = -1
        if size == 0:
            status[row] = 1
        elif size > max_bytes:
            status[row] = 2
        elif key_lengths[row] == 0:
            status[row] = 3
        elif size < 5 or buffer[starts[row]] != 0:
            status[row] = 4
        else:
            status[row] = 0
            number = np.int64(0)
            for k in range(1, 5):
                number = (number << 8) | np.int64(buffer[starts[row] + k])
            schema_ids[row] = number


@njit(cache=True, nogil=True)
def equal_rows(left, left_start, left_length, right, right_start, right_length, out):
    """Set ``out`` where two string columns are the same."""
    for row in range(out.shape[0]):
        same = left_length[row] == right_length[row]
        if same:
            for k in range(left_length[row]):
                if left[left_start[row] + k] != right[right_start[row] + k]:
                    same = False
                    break
        out[row] = same


@njit(cache=True, nogil=True)
def encode_rows(program, header, ints, floats, buffer, out, ends):
    """Write the frame and body of every row one after another; set their ``ends`` and return the bytes used."""
    scratch = np.empty(1, np.float64)
    as_bits = scratch.view(np.uint64)
    pos = 0
    for row in range(ends.shape[0]):
        for k in range(5):
            out[pos + k] = header[k]
        pos += 5
        for k in range(program.shape[0]):
            op, slot = program[k, 0], program[k, 1]
            if program[k, 3] >= 0:
                is_present = ints[program[k, 4], row] == 1
                branch = 1 - program[k, 3] if is_present else program[k, 3]
                pos = write_long(out, pos, branch)
                if not is_present:
                    continue
            if op == OP_DOUBLE:
                scratch[0] = floats[slot, row]
                bits = as_bits[0]
                for b in range(8):
                    out[pos + b] = np.uint8((bits >> np.uint64(8 * b)) & np.uint64(0xFF))
                pos += 8
            elif op == OP_BOOL:
                out[pos] = np.uint8(ints[slot, row])
                pos += 1
            elif op in (OP_STRING, OP_BYTES):
                start, length = ints[slot, row], ints[slot + 1, row]
                pos = write_long(out, pos, length)
                for b in range(length):
                    out[pos + b] = buffer[start + b]
                pos += length
            else:
                pos = write_long(out, pos, ints[slot, row])
        ends[row] = pos
    return pos
