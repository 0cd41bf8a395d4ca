"""Avro schemas as small programs: one operation a leaf field, and the columns that the fields of a record have.

Only flat schemas: primitives, enums, timestamps in ms, nested records of those, and ``[null, T]``. An older version
may lack fields (the newest has a default), have others, in another order, and numbers that widen without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleetwatch import avro

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleetwatch.records import Record

    IntArray = NDArray[np.int64]

OP_LONG, OP_INT, OP_DOUBLE, OP_STRING, OP_ENUM, OP_BOOL, OP_FLOAT, OP_BYTES, OP_TIME = range(9)
_OPS: Final = {
    "long": OP_LONG,
    "int": OP_INT,
    "double": OP_DOUBLE,
    "float": OP_FLOAT,
    "string": OP_STRING,
    "bytes": OP_BYTES,
    "boolean": OP_BOOL,
}
_WIDENS: Final = {(OP_INT, OP_LONG), (OP_INT, OP_DOUBLE), (OP_LONG, OP_DOUBLE), (OP_FLOAT, OP_DOUBLE)}
"""Operations of writer and reader that may differ."""
NO_DEFAULT: Final = object()


@dataclass(frozen=True)
class Leaf:
    """One leaf field of a schema: dotted name, operation, symbols of an enum, and whether null is allowed.

    ``fallback`` is the index of the symbol that an enum takes for one it does not know, or -1.
    """

    name: str
    op: int
    symbols: tuple[str, ...]
    fallback: int
    null_branch: int
    default: Any


def leaves_of(fields: list[dict[str, Any]], prefix: str = "") -> list[Leaf]:
    """Return the leaf fields of a record schema in order, nested ones with dotted names.

    Raises:
        TypeError: a field is of a type that has no columns.

    """
    found: list[Leaf] = []
    for field in fields:
        name, kind, null_branch = prefix + field["name"], field["type"], -1
        if "aliases" in field:
            raise TypeError(f"{name}: an alias has no columns")
        if isinstance(kind, list):
            if len(kind) != 2 or "null" not in kind:
                raise TypeError(f"{name}: a union other than [null, T] has no columns")
            null_branch = kind.index("null")
            kind = kind[1 - null_branch]
        if isinstance(kind, dict) and kind["type"] == "record":
            if null_branch >= 0 or "default" in field:
                raise TypeError(f"{name}: a record that is nullable or has a default has no columns")
            found += leaves_of(kind["fields"], name + ".")
            continue
        op, symbols, fallback = _kind(name, kind)
        found.append(Leaf(name, op, symbols, fallback, null_branch, field.get("default", NO_DEFAULT)))
    return found


def _kind(name: str, kind: Any) -> tuple[int, tuple[str, ...], int]:
    """Return operation, symbols and fallback of a type that is neither a union nor a record."""
    if not isinstance(kind, dict):
        kind = {"type": kind}
    if kind["type"] == "enum":
        symbols = tuple(kind["symbols"])
        return OP_ENUM, symbols, symbols.index(kind["default"]) if "default" in kind else -1
    if kind.get("logicalType") == "timestamp-millis":
        return OP_TIME, (), -1
    if kind["type"] not in _OPS or "logicalType" in kind:
        raise TypeError(f"{name}: {kind.get('logicalType', kind['type'])} has no columns")
    return _OPS[kind["type"]], (), -1


@dataclass(frozen=True)
class Layout:
    """Where the columns of a record live in the decoder's output matrices: rows of ``ints`` and of ``floats``.

    A string takes two rows of ``ints`` (start, length), a nullable field one more in front (0 absent, 1 present).
    """

    leaves: tuple[Leaf, ...]
    slots: dict[str, int]
    present: dict[str, int]
    int_rows: int
    float_rows: int

    @staticmethod
    def of(leaves: Sequence[Leaf]) -> Layout:
        """Lay the leaves out in order."""
        slots, present, ints, floats = {}, {}, 0, 0
        for leaf in leaves:
            if leaf.null_branch >= 0:
                present[leaf.name] = ints
                ints += 1
            if leaf.op in (OP_DOUBLE, OP_FLOAT):
                slots[leaf.name] = floats
                floats += 1
            else:
                slots[leaf.name] = ints
                ints += 2 if leaf.op in (OP_STRING, OP_BYTES) else 1
        return Layout(tuple(leaves), slots, present, ints, floats)


def layout_of(record_type: type[Record]) -> Layout:
    """Return the layout of the newest schema of a record."""
    return layout_named(avro.schema_name(record_type))


@cache
def layout_named(name: str) -> Layout:
    """Return the layout of the newest version of a schema, such as ``sensor_reading``."""
    return Layout.of(leaves_of(avro.load_schema(avro.latest_version(name))["fields"]))


def program_of(writer: Sequence[Leaf], reader: Layout) -> tuple[IntArray, IntArray]:
    """Compile a writer's schema for a reader's layout.

    Rows of (op, slot or -1, symbols, null branch or -1, present slot or -1, enum map start, whether a number goes to
    ``floats``, whether the reader takes no null).

    Raises:
        TypeError: the reader cannot read what this writer writes.

    """
    ops: list[tuple[int, ...]] = []
    enum_map: list[int] = []
    by_name = {leaf.name: leaf for leaf in reader.leaves}
    written = {leaf.name for leaf in writer}
    for leaf in reader.leaves:
        if leaf.name not in written and leaf.default is NO_DEFAULT:
            raise TypeError(f"{leaf.name}: an older version lacks it, and it has no default")
    for leaf in writer:
        target = by_name.get(leaf.name)
        if target and target.op != leaf.op and (leaf.op, target.op) not in _WIDENS:
            raise TypeError(f"{leaf.name}: its type has changed")
        slot = reader.slots.get(leaf.name, -1)
        present = reader.present.get(leaf.name, -1)
        start = len(enum_map)
        if leaf.op == OP_ENUM:
            known, fallback = (target.symbols, target.fallback) if target else (leaf.symbols, -1)
            enum_map += [known.index(symbol) if symbol in known else fallback for symbol in leaf.symbols]
        to_float = target is not None and target.op == OP_DOUBLE
        takes_no_null = target is not None and present < 0
        ops.append((leaf.op, slot, len(leaf.symbols), leaf.null_branch, present, start, to_float, takes_no_null))
    return np.array(ops, np.int64).reshape(-1, 8), np.array(enum_map or [0], np.int64)


@cache
def writer_program(name: str) -> IntArray:
    """Return the program that writes the newest version of a schema.

    Raises:
        TypeError: it has single floats, which are read, never written.

    """
    layout = layout_named(name)
    program, _ = program_of(layout.leaves, layout)
    if (program[:, 0] == OP_FLOAT).any():
        raise TypeError("single floats are read, never written")
    return program


@cache
def reader_program(name_and_version: str) -> tuple[IntArray, IntArray]:
    """Return program and enum map that read one version of a schema into the layout of its newest."""
    return program_of(
        leaves_of(avro.load_schema(name_and_version)["fields"]), layout_named(name_and_version.rsplit(".v", 1)[0])
    )
