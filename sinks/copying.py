"""From decoded columns to the bytes of a binary COPY, in one compiled pass (``sinks/copy_kernels.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from fleetwatch import avro
from fleetwatch.avro_layout import (
    OP_BOOL,
    OP_DOUBLE,
    OP_ENUM,
    OP_INT,
    OP_LONG,
    OP_STRING,
    OP_TIME,
    Layout,
    layout_named,
)
from sinks import copy_kernels as kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fleetwatch.records import Record
    from sinks.stretch import Rows

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"

_KINDS: Final = {
    OP_STRING: kernels.TEXT,
    OP_TIME: kernels.TIME,
    OP_LONG: kernels.BIGINT,
    OP_INT: kernels.INTEGER,
    OP_DOUBLE: kernels.FLOAT,
    OP_BOOL: kernels.BOOLEAN,
    OP_ENUM: kernels.SYMBOL,
}
_EXTRA_KINDS: Final = {"timestamptz": kernels.TIME, "integer": kernels.INTEGER, "bigint": kernels.BIGINT}


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernel does for each column of a table, and the texts of enum symbols that it needs."""

    lines: NDArray[np.int64]
    symbols: NDArray[np.uint8]
    symbol_spans: NDArray[np.int64]
    widest_symbol: int
    texts: tuple[int, ...]
    """Slots of the columns of text."""


def binary_copy(
    record_type: type[Record],
    columns: tuple[tuple[str, str], ...],
    rows: Rows,
    extra: Mapping[str, NDArray[np.int64]],
) -> bytes:
    """Return the rows as a whole binary COPY stream.

    ``columns`` are (field of the record or name in ``extra``, type of PostgreSQL) in the order of the statement.
    ``extra`` holds numbers (milliseconds for a timestamptz) of each row, which the record itself does not have.
    """
    program = _program(avro.schema_name(record_type), columns, tuple(extra))
    ints = rows.batch.ints
    if extra:
        added = np.zeros((len(extra), ints.shape[1]), np.int64)
        added[:, rows.rows] = np.stack(list(extra.values()))
        ints = np.concatenate([ints, added])
    text_bytes = sum(int(ints[slot + 1, rows.rows].sum()) for slot in program.texts)
    room = text_bytes + len(rows) * (2 + len(program.lines) * (4 + max(8, program.widest_symbol)))
    out = np.empty(room, np.uint8)
    used = kernels.copy_rows(
        program.lines,
        rows.rows,
        ints,
        rows.batch.floats,
        rows.batch.buffer,
        program.symbols,
        program.symbol_spans,
        out,
    )
    return b"".join((HEADER, out[:used].data, TRAILER))


@cache
def _program(name: str, columns: tuple[tuple[str, str], ...], extra: tuple[str, ...]) -> Program:
    layout = layout_named(name)
    leaves = {leaf.name: leaf for leaf in layout.leaves}
    lines: list[tuple[int, int, int, int]] = []
    symbols: list[bytes] = []
    for column, sql_type in columns:
        leaf = leaves.get(column)
        if leaf is None:
            lines.append((_EXTRA_KINDS[sql_type], layout.int_rows + extra.index(column), -1, 0))
            continue
        lines.append((_KINDS[leaf.op], layout.slots[column], layout.present.get(column, -1), len(symbols)))
        symbols += [symbol.encode() for symbol in leaf.symbols]
    lengths = np.array([len(symbol) for symbol in symbols] or [0], np.int64)
    return Program(
        lines=np.array(lines, np.int64),
        symbols=np.frombuffer(b"".join(symbols) or b"\x00", np.uint8),
        symbol_spans=np.stack([np.cumsum(lengths) - lengths, lengths], axis=1),
        widest_symbol=int(lengths.max()),
        texts=_texts(layout, columns),
    )


def _texts(layout: Layout, columns: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    names = {name for name, _ in columns}
    return tuple(layout.slots[leaf.name] for leaf in layout.leaves if leaf.op == OP_STRING and leaf.name in names)
