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
    from collections.abc import Iterator, Mapping

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
    row_room: int
    """What a row takes at most, beside its texts."""
    texts: tuple[int, ...]
    """Slots of the columns of text."""


PIECE_ROWS: Final = 4096


def binary_copy(
    record_type: type[Record],
    columns: tuple[tuple[str, str], ...],
    rows: Rows,
    extra: Mapping[str, NDArray[np.int64]],
) -> Iterator[bytes]:
    """Yield the rows as a binary COPY stream, in pieces: the server works on one while the next is made.

    ``columns`` are (field of the record or name in ``extra``, type of PostgreSQL) in the order of the statement.
    ``extra`` holds numbers (milliseconds for a timestamptz) of each row, which the record itself does not have.
    """
    program = _program(avro.schema_name(record_type), columns, tuple(extra))
    ints = rows.batch.ints
    if extra:
        added = np.zeros((len(extra), ints.shape[1]), np.int64)
        added[:, rows.rows] = np.stack(list(extra.values()))
        ints = np.concatenate([ints, added])
    yield HEADER
    for first in range(0, len(rows), PIECE_ROWS):
        piece = rows.rows[first : first + PIECE_ROWS]
        text_bytes = sum(int(ints[slot + 1, piece].sum()) for slot in program.texts)
        out = np.empty(text_bytes + len(piece) * program.row_room, np.uint8)
        used = kernels.copy_rows(
            program.lines,
            piece,
            ints,
            rows.batch.floats,
            rows.batch.buffer,
            program.symbols,
            program.symbol_spans,
            out,
        )
        yield out[:used].tobytes()
    yield TRAILER


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
        row_room=2 + len(lines) * (4 + max(8, int(lengths.max()))),
        texts=_texts(layout, columns),
    )


def _texts(layout: Layout, columns: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    names = {name for name, _ in columns}
    return tuple(layout.slots[leaf.name] for leaf in layout.leaves if leaf.op == OP_STRING and leaf.name in names)
