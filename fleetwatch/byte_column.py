"""A column of byte strings: one buffer, and where in it each of them lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

NONE_LENGTH = -1
"""The length of an entry that is None."""


def read_only(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a view that cannot be written: numba compiles its own code for each kind, and one is enough."""
    if buffer.flags.writeable:
        buffer = buffer.view()
        buffer.flags.writeable = False
    return buffer


@dataclass(frozen=True, eq=False)
class ByteColumn(Sequence[bytes | None]):
    """Entries ``buffer[start : start + length]``; they may overlap, lie in any order, or be None (length -1)."""

    buffer: NDArray[np.uint8]
    starts: IntArray
    lengths: IntArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "buffer", read_only(self.buffer))

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> Self:
        """Join values."""
        lengths = np.fromiter((NONE_LENGTH if value is None else len(value) for value in values), np.int64, len(values))
        stops = np.cumsum(np.maximum(lengths, 0))
        buffer = np.frombuffer(b"".join(value for value in values if value), np.uint8)
        return cls(buffer, stops - np.maximum(lengths, 0), lengths)

    @classmethod
    def repeat(cls, value: bytes, count: int) -> Self:
        """Return one value ``count`` times; its bytes are there once."""
        starts = np.zeros(count, np.int64)
        return cls(np.frombuffer(value, np.uint8), starts, starts + len(value))

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> Self: ...
    def __getitem__(self, at: int | slice) -> bytes | Self | None:
        if isinstance(at, slice):
            return type(self)(self.buffer, self.starts[at], self.lengths[at])
        start, length = int(self.starts[at]), int(self.lengths[at])
        return None if length < 0 else self.buffer[start : start + length].tobytes()

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the entries of some rows; the buffer is shared."""
        return type(self)(self.buffer, self.starts[rows], self.lengths[rows])

    def to_list(self) -> list[bytes | None]:
        """Return the entries as they were given to ``of``."""
        whole = self.buffer.tobytes()
        return [
            None if length < 0 else whole[start : start + length]
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        ]
