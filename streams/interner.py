"""Byte strings to small row numbers, so that per-device state can be arrays: a hash table over numpy buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _intern_rows(buffer, starts, lengths, table, arena, name_starts, name_lengths, count, used, out):
    mask = table.shape[0] - 1
    for row in range(starts.shape[0]):
        start, length = starts[row], lengths[row]
        digest = np.uint64(14695981039346656037)
        for k in range(length):
            digest = (digest ^ np.uint64(buffer[start + k])) * np.uint64(1099511628211)
        place = np.int64(digest & np.uint64(mask))
        while True:
            known = table[place] - 1
            if known < 0:
                table[place] = count + 1
                name_starts[count] = used
                name_lengths[count] = length
                for k in range(length):
                    arena[used + k] = buffer[start + k]
                used += length
                out[row] = count
                count += 1
                break
            same = name_lengths[known] == length
            if same:
                at = name_starts[known]
                for k in range(length):
                    if arena[at + k] != buffer[start + k]:
                        same = False
                        break
            if same:
                out[row] = known
                break
            place = (place + 1) & mask
    return count, used


class Interner:
    """Gives each distinct byte string the next row number, in order of first sight. Rows are never reused."""

    def __init__(self) -> None:
        self._table = np.zeros(64, np.int64)
        self._arena = np.empty(1024, np.uint8)
        self._starts = np.empty(32, np.int64)
        self._lengths = np.empty(32, np.int64)
        self._used = 0
        self.count = 0

    def rows(
        self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the row number of each string, making new ones; shape as ``starts``."""
        self._reserve(len(starts), int(lengths.sum()))
        out = np.empty(len(starts), np.int64)
        self.count, self._used = _intern_rows(
            buffer,
            starts,
            lengths,
            self._table,
            self._arena,
            self._starts,
            self._lengths,
            self.count,
            self._used,
            out,
        )
        return out

    def pair_rows(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a row number for each pair of numbers (kept as their 16 bytes)."""
        pairs = np.ascontiguousarray(np.stack([left, right], axis=1))
        count = len(left)
        return self.rows(
            pairs.view(np.uint8).reshape(-1),
            np.arange(count, dtype=np.int64) * 16,
            np.full(count, 16, np.int64),
        )

    def name(self, row: int) -> bytes:
        """Return the string of a row."""
        start = self._starts[row]
        return self._arena[start : start + self._lengths[row]].tobytes()

    def pair(self, row: int) -> tuple[int, int]:
        """Return the two numbers of a pair's row."""
        left, right = np.frombuffer(self.name(row), np.int64)
        return int(left), int(right)

    def spans(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Return all strings as (bytes, starts, lengths), by row."""
        return self._arena[: self._used], self._starts[: self.count], self._lengths[: self.count]

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what ``restore`` needs."""
        arena, starts, lengths = self.spans()
        return {"arena": arena.copy(), "starts": starts.copy(), "lengths": lengths.copy()}

    @classmethod
    def restore(cls, state: dict[str, NDArray[Any]]) -> Interner:
        """Return an interner with the same rows."""
        interner = cls()
        interner.rows(state["arena"], state["starts"], state["lengths"])
        return interner

    def _reserve(self, more: int, more_bytes: int) -> None:
        total = self.count + more
        if len(self._starts) < total:
            size = max(total, 2 * len(self._starts))
            self._starts = np.resize(self._starts, size)
            self._lengths = np.resize(self._lengths, size)
        if len(self._arena) < self._used + more_bytes:
            self._arena = np.resize(self._arena, max(self._used + more_bytes, 2 * len(self._arena)))
        if len(self._table) < 2 * total:
            size = 1 << (2 * total).bit_length()
            self._table = np.zeros(size, np.int64)
            arena, starts, lengths = self.spans()
            out = np.empty(self.count, np.int64)
            _intern_rows(
                arena,
                starts.copy(),
                lengths.copy(),
                self._table,
                arena.copy(),
                self._starts.copy(),
                self._lengths.copy(),
                0,
                0,
                out,
            )
