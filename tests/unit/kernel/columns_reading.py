"""Columns back to plain values, and the same from fastavro, so that tests can compare the two."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from typing import TYPE_CHECKING, Any

import fastavro

from fleetwatch import avro_layout
from fleetwatch.records import to_millis

if TYPE_CHECKING:
    from fleetwatch.columns import Batch


def row_of(batch: Batch, row: int) -> dict[str, Any]:
    """Return one row: dotted names, times as ms, enums as symbols, doubles as their bits."""
    return {leaf.name: _value(batch, leaf, row) for leaf in batch.layout.leaves}


def _value(batch: Batch, leaf: avro_layout.Leaf, row: int) -> Any:
    if leaf.null_branch >= 0 and not batch.is_present(leaf.name)[row]:
        return None
    if leaf.op in (avro_layout.OP_DOUBLE, avro_layout.OP_FLOAT):
        return bits(float(batch.doubles(leaf.name)[row]))
    if leaf.op in (avro_layout.OP_STRING, avro_layout.OP_BYTES):
        start, length = batch.strings(leaf.name)
        raw = bytes(batch.buffer[start[row] : start[row] + length[row]])
        return raw.decode() if leaf.op == avro_layout.OP_STRING else raw
    number = int(batch.numbers(leaf.name)[row])
    if leaf.op == avro_layout.OP_ENUM:
        return leaf.symbols[number]
    return bool(number) if leaf.op == avro_layout.OP_BOOL else number


def fastavro_row(body: bytes, writer: Any, reader: Any) -> dict[str, Any]:
    """Return what fastavro reads from a body without its frame, in the form of ``row_of``."""
    return flat(fastavro.schemaless_reader(io.BytesIO(body), writer, reader))


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return plain values of Avro in the form of ``row_of``."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            found[prefix + name] = bits(value)
        else:
            found[prefix + name] = to_millis(value) if isinstance(value, datetime) else value
    return found


def bits(number: float) -> bytes:
    """Return a double's bytes: NaN equals itself then, and 0.0 differs from -0.0. All NaN count as one."""
    return b"NaN" if number != number else struct.pack("<d", number)  # noqa: PLR0124  # how NaN is known
