"""Batches of framed Avro bodies to columns and back, each in one compiled pass.

A schema becomes a small program (``avro_layout``); the decoder runs it over every body (``avro_kernels``), checks that
the body ends exactly where its message ends, and writes numbers into columns on the way. A body that does not fit
leaves a status and touches no neighbour. Strings stay where they are: a column of them is (start, length) into
the joined bytes. The encoder runs the same kind of program the other way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetwatch import avro, avro_kernels
from fleetwatch.avro_layout import (
    OP_BYTES,
    OP_DOUBLE,
    OP_ENUM,
    OP_FLOAT,
    OP_STRING,
    Layout,
    Leaf,
    layout_named,
    layout_of,
    leaves_of,
    reader_program,
    writer_program,
)
from fleetwatch.byte_column import ByteColumn, read_only
from fleetwatch.records import Reason
from fleetwatch.row_status import OK, STATUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleetwatch.records import Record

    IntArray = NDArray[np.int64]
    FloatArray = NDArray[np.float64]
    ByteArray = NDArray[np.uint8]


def join_bytes(values: Sequence[bytes | None]) -> tuple[ByteArray, IntArray, IntArray]:
    """Return the values end to end, with their starts and stops; None counts as empty."""
    lengths = np.fromiter((len(value) if value else 0 for value in values), np.int64, len(values))
    stops = np.cumsum(lengths)
    joined = b"".join(value or b"" for value in values)
    return np.frombuffer(joined, np.uint8), stops - lengths, stops


@dataclass(frozen=True)
class Batch:
    """Decoded events of one type: columns by name; ``status`` 0 marks the rows that are usable.

    ``buffer`` holds the joined values, into which string columns point.
    """

    layout: Layout
    buffer: ByteArray
    status: NDArray[np.int64]
    ints: NDArray[np.int64]
    floats: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.status)

    def numbers(self, name: str) -> IntArray:
        """Return a column of longs, ints, times (ms), booleans (0, 1), or enum symbols (index)."""
        column: IntArray = self.ints[self.layout.slots[name]]
        return column

    def doubles(self, name: str) -> FloatArray:
        """Return a column of doubles."""
        column: FloatArray = self.floats[self.layout.slots[name]]
        return column

    def strings(self, name: str) -> tuple[IntArray, IntArray]:
        """Return starts and lengths of a string column in ``buffer``."""
        slot = self.layout.slots[name]
        return self.ints[slot], self.ints[slot + 1]

    def text(self, name: str, row: int) -> str:
        """Return one string."""
        start, length = self.strings(name)
        return bytes(self.buffer[start[row] : start[row] + length[row]]).decode()

    def is_present(self, name: str) -> NDArray[np.bool_]:
        """Return where a nullable field is not null."""
        present: NDArray[np.bool_] = self.ints[self.layout.present[name]] == 1
        return present

    def refuse(self, rows: NDArray[Any], reason: Reason) -> None:
        """Mark rows (a mask or indices) as unusable, unless an earlier reason applies."""
        marked = np.zeros(len(self), np.bool_)
        marked[rows] = True
        self.status[marked & (self.status == OK)] = STATUS[reason]


def decode_batch(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None],
    record_type: type[Record],
    *,
    key_field: str | None = None,
    max_bytes: int = avro.MAX_EVENT_BYTES,
) -> Batch:
    """Decode framed bodies written with any version of the record's schema.

    Never raises for what the bytes are: unusable rows carry a status. With ``key_field`` the key must be that
    string. Fields missing in an older version get their schema's default. A ``ByteColumn`` is used as it is.
    """
    count = len(values)
    if len(keys) != count:
        raise ValueError(f"{count} values, but {len(keys)} keys")
    layout = layout_of(record_type)
    values = values if isinstance(values, ByteColumn) else ByteColumn.of(values)
    keys = keys if isinstance(keys, ByteColumn) else ByteColumn.of(keys)
    buffer, starts = values.buffer, values.starts
    stops, key_lengths = starts + np.maximum(values.lengths, 0), np.maximum(keys.lengths, 0)
    text_starts: dict[str, int] = {}
    if texts := _default_texts(avro.schema_name(record_type)):
        more = ByteColumn.of(list(texts.values()))
        text_starts = dict(zip(texts, (more.starts + len(buffer)).tolist(), strict=True))
        buffer = np.concatenate([buffer, more.buffer])
    status = np.zeros(count, np.int64)
    schema_ids = np.empty(count, np.int64)
    ints = np.zeros((layout.int_rows, count), np.int64)
    floats = np.zeros((layout.float_rows, count), np.float64)
    buffer = read_only(buffer)
    batch = Batch(layout, buffer, status, ints, floats)
    if count == 0:
        return batch
    avro_kernels.frame_rows(buffer, starts, stops, key_lengths, max_bytes, status, schema_ids)
    name = avro.schema_name(record_type)
    for schema_id in np.unique(schema_ids[status == OK]):
        rows = np.flatnonzero((schema_ids == schema_id) & (status == OK))
        writer = avro.schema_by_id(int(schema_id))
        if writer is None:
            status[rows] = STATUS[Reason.UNKNOWN_SCHEMA]
        elif writer.rsplit(".v", 1)[0] != name:
            status[rows] = STATUS[Reason.WRONG_SCHEMA]
        else:
            program, enum_map = reader_program(writer)
            _fill_defaults(batch, writer, rows, text_starts)
            avro_kernels.decode_rows(buffer, starts, stops, rows, program, enum_map, status, ints, floats)
    if key_field is not None:
        same = np.empty(count, np.bool_)
        start, length = batch.strings(key_field)
        avro_kernels.equal_rows(buffer, start, length, keys.buffer, keys.starts, key_lengths, same)
        batch.refuse(~same, Reason.KEY_MISMATCH)
    return batch


def _fill_defaults(batch: Batch, writer: str, rows: IntArray, text_starts: dict[str, int]) -> None:
    """Give the fields that this writer does not have their defaults (absent needs nothing)."""
    for leaf in _lacking(writer):
        if leaf.default is None:
            continue
        slot = batch.layout.slots[leaf.name]
        if leaf.name in batch.layout.present:
            batch.ints[batch.layout.present[leaf.name], rows] = 1
        if leaf.op in (OP_DOUBLE, OP_FLOAT):
            batch.floats[slot, rows] = leaf.default
        elif leaf.op == OP_ENUM:
            batch.ints[slot, rows] = leaf.symbols.index(leaf.default)
        elif leaf.op in (OP_STRING, OP_BYTES):
            batch.ints[slot, rows] = text_starts.get(leaf.name, 0)
            batch.ints[slot + 1, rows] = len(_default_text(leaf))
        else:
            batch.ints[slot, rows] = int(leaf.default)


@cache
def _lacking(writer: str) -> tuple[Leaf, ...]:
    """Return the leaves of the newest version that this one does not have."""
    written = {leaf.name for leaf in leaves_of(avro.load_schema(writer)["fields"])}
    return tuple(leaf for leaf in layout_named(writer.rsplit(".v", 1)[0]).leaves if leaf.name not in written)


@cache
def _default_texts(name: str) -> dict[str, bytes]:
    """Return the default strings of a record's newest schema that are not empty: they are appended to the values."""
    texts = {
        leaf.name: _default_text(leaf)
        for leaf in layout_named(name).leaves
        if leaf.op in (OP_STRING, OP_BYTES) and isinstance(leaf.default, str)
    }
    return {leaf_name: text for leaf_name, text in texts.items() if text}


def _default_text(leaf: Leaf) -> bytes:
    """Return the default of a string or bytes field (which JSON holds as text of U+0000 to U+00FF)."""
    return str(leaf.default).encode("latin-1" if leaf.op == OP_BYTES else "utf-8")


def new_batch(record_type: type[Record], count: int, buffer: ByteArray) -> Batch:
    """Return an empty batch of ``count`` rows to fill and encode; its strings point into ``buffer``."""
    layout = layout_of(record_type)
    return Batch(
        layout,
        read_only(buffer),
        np.zeros(count, np.int64),
        np.zeros((layout.int_rows, count), np.int64),
        np.zeros((layout.float_rows, count), np.float64),
    )


def encode_batch(batch: Batch, record_type: type[Record]) -> ByteColumn:
    """Frame and encode every row of a batch with the record's newest schema."""
    layout = layout_of(record_type)
    program = writer_program(avro.schema_name(record_type))
    header = np.frombuffer(avro.frame_header(record_type), np.uint8)
    text_bytes = sum(
        int(batch.ints[layout.slots[leaf.name] + 1].sum()) for leaf in layout.leaves if leaf.op in (OP_STRING, OP_BYTES)
    )
    out = np.empty(text_bytes + len(batch) * (5 + 11 * len(program)), np.uint8)
    ends = np.empty(len(batch), np.int64)
    used = avro_kernels.encode_rows(program, header, batch.ints, batch.floats, batch.buffer, out, ends)
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    return ByteColumn(out[:used], starts, ends - starts)
