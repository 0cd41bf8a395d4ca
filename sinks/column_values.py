"""Columns of a decoded batch as lists of Python values, for what is written value by value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fleetwatch.avro_layout import OP_DOUBLE, OP_ENUM, OP_STRING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sinks.stretch import Rows

    IntArray = NDArray[np.int64]

Value: TypeAlias = str | int | float


class ColumnValues:
    """Each method takes the rows of the batch that are wanted, in the order wanted."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows.rows
        self._batch = rows.batch
        self._leaves = {leaf.name: leaf for leaf in rows.batch.layout.leaves}
        self._whole = rows.batch.buffer.tobytes()

    def any(self, name: str, chosen: IntArray) -> list[Value]:
        """Return a column of whatever type; absent is an empty text."""
        op = self._leaves[name].op
        if op in (OP_STRING, OP_ENUM):
            return list(self.texts(name, chosen))
        if op != OP_DOUBLE:
            return self.numbers(name, chosen)
        doubles: list[Value] = self._batch.doubles(name)[chosen].tolist()
        for row in self._absent(name, chosen):
            doubles[row] = ""
        return doubles

    def numbers(self, name: str, chosen: IntArray) -> list[Value]:
        """Return a column of whole numbers or times in milliseconds."""
        numbers: list[Value] = self._batch.numbers(name)[chosen].tolist()
        return numbers

    def texts(self, name: str, chosen: IntArray) -> list[str]:
        """Return a column of texts or symbols."""
        leaf = self._leaves[name]
        if leaf.op == OP_ENUM:
            return [leaf.symbols[number] for number in self._batch.numbers(name)[chosen].tolist()]
        start, length = self._batch.strings(name)
        first = start[chosen]
        spans = zip(first.tolist(), (first + length[chosen]).tolist(), strict=True)
        return [self._whole[begin:end].decode() for begin, end in spans]

    def json_numbers(self, name: str, chosen: IntArray) -> list[str]:
        """Return a column of doubles as JSON."""
        values = self._batch.doubles(name)[chosen]
        texts = list(map(repr if np.isfinite(values).all() else json.dumps, values.tolist()))
        for row in self._absent(name, chosen):
            texts[row] = "null"
        return texts

    def _absent(self, name: str, chosen: IntArray) -> list[int]:
        if name not in self._batch.layout.present:
            return []
        absent: list[int] = np.flatnonzero(~self._batch.is_present(name)[chosen]).tolist()
        return absent
