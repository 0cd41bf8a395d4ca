"""Hypothesis strategies of records, of damaged events, and of flat schemas with their values."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from hypothesis import strategies as st

from fleetwatch import avro, avro_check, records
from fleetwatch.records import CameraDetection, Record, SensorReading, from_millis

RECORD_TYPES: tuple[type[Record], ...] = (
    records.SensorReading,
    records.CameraDetection,
    records.ScoredReading,
    records.WindowCount,
    records.Alert,
    records.AlertAction,
    records.ModelVersion,
    records.ModelComparison,
    records.GroundTruth,
    records.DeadLetter,
)
FLAT_TYPES = tuple(kind for kind in RECORD_TYPES if kind is not records.ModelVersion)
"""All but the one with arrays."""

INT_FIELDS = {"partition", "source_partition"}
"""Ints of 32 bits; all other numbers of the records are longs."""

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
millis = st.integers(avro_check.FIRST_MS, avro_check.LAST_MS)
times = millis.map(from_millis)

# --- records


def records_of(kind: type[Record], *, floats: st.SearchStrategy[float] | None = None, **given: Any) -> Any:
    """Draw records of a class; ``given`` are strategies of single fields. NaN only if ``floats`` has it."""
    floats = floats if floats is not None else st.floats(allow_nan=False)
    hints = avro._hints(kind.__name__)
    return st.builds(kind, **{name: given.get(name, _of_hint(name, hint, floats)) for name, hint in hints.items()})


def _of_hint(name: str, hint: Any, floats: st.SearchStrategy[float]) -> Any:
    if isinstance(hint, UnionType):
        (kind,) = (arg for arg in get_args(hint) if arg is not NoneType)
        return st.none() | _of_hint(name, kind, floats)
    if get_origin(hint) is tuple:
        return st.lists(_of_hint(name, get_args(hint)[0], floats), max_size=4).map(tuple)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    if issubclass(hint, Record):
        return records_of(hint, floats=floats)
    if hint is int:
        return ints if name in INT_FIELDS else longs
    simple = {str: texts, float: floats, bool: st.booleans(), bytes: st.binary(max_size=20), datetime: times}
    return simple[hint]


any_record = st.one_of([records_of(kind) for kind in RECORD_TYPES])

# --- damaged events


@dataclass(frozen=True)
class Event:
    """An input event as it stands in a partition."""

    key: bytes | None
    value: bytes | None


BROKER_MS = 1_795_305_600_000
MAX_SKEW_MS = 300_000
_names = st.text(min_size=1, max_size=12)
_event_times = st.one_of(
    st.integers(BROKER_MS - 10_000, BROKER_MS + 10_000),
    st.sampled_from([BROKER_MS + MAX_SKEW_MS, BROKER_MS + MAX_SKEW_MS + 1]),
    millis,
).map(from_millis)
_DEVICE_FIELD = {SensorReading: "device_id", CameraDetection: "camera_id"}
_BAD_KEYS: tuple[bytes | None, ...] = (None, b"", b"another", b"\xff")
_TELLING_BYTES = (0x00, 0x01, 0x02, 0x03, 0x7F, 0x80, 0x81, 0xC0, 0xED, 0xFE, 0xFF)


@st.composite
def events(draw: st.DrawFn, kind: type[Record]) -> Event:
    """Draw a reading or detection, every other one damaged: in its bytes, its key, its numbers or its time."""
    name_field = _DEVICE_FIELD[kind]
    damage = draw(st.sampled_from(["", "", "", "", "bytes", "bytes", "bytes", "key", "numbers"]))
    floats = st.floats() if damage == "numbers" else st.floats(allow_nan=False, allow_infinity=False)
    given = {name_field: _names, "event_time": _event_times if damage == "numbers" else times_near_broker}
    record = draw(records_of(kind, floats=floats, **given))
    value: bytes | None = avro.encode(record)
    key: bytes | None = getattr(record, name_field).encode()
    if damage == "bytes":
        value = draw(damaged(value))
    elif damage == "key":
        key = draw(st.sampled_from(_BAD_KEYS))
    return Event(key, value)


times_near_broker = st.integers(BROKER_MS - 10_000, BROKER_MS + 10_000).map(from_millis)


@st.composite
def damaged(draw: st.DrawFn, value: bytes) -> bytes | None:
    """Draw a damage to a framed value: cut, appended, bytes changed, an overlong number, noise, nothing left."""
    return draw(
        draw(st.sampled_from([_cut, _appended, _changed_bytes, _changed_bytes, _overlong, _noise, _framed]))(value)
    )


@st.composite
def _cut(draw: st.DrawFn, value: bytes) -> bytes:
    return value[: draw(st.integers(0, len(value) - 1))]


@st.composite
def _appended(draw: st.DrawFn, value: bytes) -> bytes:
    return value + draw(st.binary(min_size=1, max_size=12))


@st.composite
def _changed_bytes(draw: st.DrawFn, value: bytes) -> bytes:
    changed = bytearray(value)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(min(avro.FRAME_BYTES, len(value) - 1), len(value) - 1))
        changed[at] = draw(st.sampled_from(_TELLING_BYTES) | st.integers(0, 255))
    return bytes(changed)


@st.composite
def _overlong(draw: st.DrawFn, value: bytes) -> bytes:
    """Write the number that may end at some byte with one byte more."""
    at = draw(st.integers(avro.FRAME_BYTES, max(avro.FRAME_BYTES, len(value) - 1)))
    return value[:at] + bytes([value[at] | 0x80 if at < len(value) else 0x80, 0x00]) + value[at + 1 :]


@st.composite
def _noise(draw: st.DrawFn, value: bytes) -> bytes | None:
    noise = draw(st.binary(max_size=60))
    return draw(st.sampled_from([noise, value[: avro.FRAME_BYTES] + noise, None]))


@st.composite
def _framed(draw: st.DrawFn, value: bytes) -> bytes:
    schema_id = draw(st.sampled_from([0, 1, 1001, 1011, 1021, 2**32 - 1]))
    return draw(st.sampled_from([b"\x00", b"\x01"])) + struct.pack(">I", schema_id) + value[avro.FRAME_BYTES :]


# --- flat schemas


@dataclass(frozen=True)
class Field:
    """A field of a random schema: its Avro type, a strategy of its values, and the default of the newest version."""

    name: str
    kind: Any
    values: Any
    default: Any = None
    wider: str | None = None
    """A type to which the next version may widen it."""
    fields: tuple[Field, ...] = field(default=())


_SYMBOLS = ("A", "B", "C", "D")
_PRIMITIVES: dict[str, tuple[Any, Any, str | None]] = {
    "long": (longs, 7, "double"),
    "int": (ints, -3, "long"),
    "double": (st.floats(), 1.5, None),
    "float": (st.floats(width=32), 0.5, "double"),
    "boolean": (st.booleans(), True, None),
    "string": (texts, "grüße", None),
    "bytes": (st.binary(max_size=20), "\u00ff\u0000", None),
}
_TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}


@st.composite
def _leaf(draw: st.DrawFn, name: str) -> Field:
    choice = draw(st.sampled_from([*_PRIMITIVES, "enum", "timestamp"]))
    if choice == "enum":
        symbols = draw(st.lists(st.sampled_from(_SYMBOLS), min_size=1, max_size=4, unique=True))
        leaf = Field(
            name, {"type": "enum", "name": f"E_{name}", "symbols": symbols}, st.sampled_from(symbols), symbols[-1]
        )
    elif choice == "timestamp":
        leaf = Field(name, _TIMESTAMP, times, BROKER_MS)
    else:
        values, default, wider = _PRIMITIVES[choice]
        leaf = Field(name, choice, values, default, wider)
    null_first = draw(st.sampled_from([None, None, True, False]))
    if null_first is None:
        return leaf
    kind = ["null", leaf.kind] if null_first else [leaf.kind, "null"]
    return Field(name, kind, st.none() | leaf.values, None if null_first else leaf.default)


@st.composite
def flat_fields(draw: st.DrawFn) -> tuple[Field, ...]:
    """Draw the fields of a flat schema, some of them in a nested record."""
    found = []
    for number in range(draw(st.integers(1, 7))):
        name = f"f{number}"
        if draw(st.integers(0, 5)) == 0:
            inner = tuple(draw(_leaf(f"{name}_{k}")) for k in range(draw(st.integers(1, 3))))
            found.append(Field(name, None, None, fields=inner))
        else:
            found.append(draw(_leaf(name)))
    return tuple(found)


def schema_of(fields: tuple[Field, ...], name: str = "Probe", defaults: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the Avro schema of fields; those named in ``defaults`` have one."""
    return {
        "type": "record",
        "name": name,
        "fields": [
            {"name": part.name, "type": schema_of(part.fields, f"R_{part.name}") if part.fields else part.kind}
            | ({"default": part.default} if part.name in defaults else {})
            for part in fields
        ],
    }


def values_of(fields: tuple[Field, ...]) -> Any:
    """Draw plain values that fit the fields."""
    return st.fixed_dictionaries({p.name: values_of(p.fields) if p.fields else p.values for p in fields})


@st.composite
def evolved(draw: st.DrawFn, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Draw a later version: fields dropped, added with a default, reordered, widened, made nullable; other symbols."""
    kept = []
    for part in fields:
        change = draw(st.sampled_from(["keep", "keep", "drop", "widen", "nullable", "not null", "symbols"]))
        if change == "drop":
            continue
        kept.append(part if part.fields else _changed(draw, part, change))
    # fastavro gives the default of bytes as text: nothing to compare with
    with_default = [_leaf(f"g{number}").filter(lambda part: "bytes" not in part.kind) for number in range(3)]
    added = tuple(draw(leaf) for leaf in with_default[: draw(st.integers(0, 3))])
    order = draw(st.permutations([*kept, *added]))
    return schema_of(tuple(order), defaults=frozenset(part.name for part in added))


def _changed(draw: st.DrawFn, part: Field, change: str) -> Field:
    is_union = isinstance(part.kind, list)
    if change == "widen" and part.wider:
        return replace(part, kind=part.wider)
    if change == "nullable" and not is_union:
        return replace(part, kind=["null", part.kind])
    if change == "not null" and is_union:  # no compatible change: a null has no place then
        return replace(part, kind=next(kind for kind in part.kind if kind != "null"))
    if change == "symbols" and isinstance(part.kind, dict) and part.kind["type"] == "enum":
        symbols = draw(st.lists(st.sampled_from((*_SYMBOLS, "Z")), min_size=1, max_size=5, unique=True))
        fallback = draw(st.sampled_from([{}, {"default": symbols[0]}]))
        return replace(part, kind=part.kind | {"symbols": symbols} | fallback)
    return part
