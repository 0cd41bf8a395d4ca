"""Rows to bytes and back: Avro in Confluent's wire format (0x00, 4-byte schema id, body).

For single records at the edges. Batches go through ``fleetwatch.columns``, which refuses the same bytes for the
same reasons as ``decode(strict=True)`` (a property test holds the two together).
"""

from __future__ import annotations

import io
import json
import re
import struct
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import fastavro

from fleetwatch import avro_check, records
from fleetwatch.errors import RefusedError
from fleetwatch.records import Reason, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA_DIR: Final = Path(__file__).resolve().parent.parent / "schemas"
MAGIC: Final = b"\x00"
FRAME_BYTES: Final = 5
MAX_EVENT_BYTES: Final = 64 * 1024
"""A larger input event is refused: a reading is some 100 bytes."""

R = TypeVar("R", bound=Record)

_DEFAULTS: Final[dict[type, Callable[[Any], Any]]] = {
    datetime: records.from_millis,
    float: float,
    bytes: lambda text: text.encode("latin-1"),
}
"""fastavro gives a default that an older version lacks as it stands in the schema's JSON."""


def schema_name(record_type: type[Record]) -> str:
    """File stem of a record's schemas: SensorReading -> sensor_reading."""
    return _snake_case(record_type.__name__)


@cache
def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


_given_ids: dict[str, int] = {}


@cache
def schema_ids() -> dict[str, int]:
    """Return ``sensor_reading.v1 -> id``: a registry's, else the checked-in table, so that every process agrees."""
    return dict(_given_ids) or {str(k): int(v) for k, v in json.loads((SCHEMA_DIR / "ids.json").read_text()).items()}


def use_ids(ids: Mapping[str, int]) -> None:
    """Take these ids, a registry's, instead of the table; none gives the table back.

    For the entry of a process, before anything is encoded or decoded.
    """
    _given_ids.clear()
    _given_ids.update(ids)
    for function in (schema_ids, latest_version, schema_by_id):
        function.cache_clear()


@cache
def load_schema(name_and_version: str) -> dict[str, Any]:
    """Return the JSON of one schema file, such as ``sensor_reading.v1``."""
    loaded: dict[str, Any] = json.loads((SCHEMA_DIR / f"{name_and_version}.avsc").read_text())
    return loaded


@cache
def latest_version(name: str) -> str:
    """Return the newest version of a schema: ``sensor_reading`` -> ``sensor_reading.v1``."""
    versions = [key for key in schema_ids() if key.rsplit(".v", 1)[0] == name]
    return max(versions, key=lambda key: int(key.rsplit(".v", 1)[1]))


@cache
def schema_by_id(schema_id: int) -> str | None:
    """Return which schema an id names, or None."""
    return {value: key for key, value in schema_ids().items()}.get(schema_id)


@cache
def _parsed(name_and_version: str) -> Any:
    return fastavro.parse_schema(dict(load_schema(name_and_version)))


def frame_header(record_type: type[Record]) -> bytes:
    """Return the five bytes before the body of this record's newest schema."""
    return MAGIC + struct.pack(">I", schema_ids()[latest_version(schema_name(record_type))])


def encode(record: Record) -> bytes:
    """Frame and encode one record with its newest schema.

    Raises:
        ValueError: a field does not fit the schema.

    """
    out = io.BytesIO()
    out.write(frame_header(type(record)))
    try:
        fastavro.schemaless_writer(out, _parsed(latest_version(schema_name(type(record)))), _plain(record), strict=True)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{type(record).__name__}: {error}") from None
    return out.getvalue()


def decode(value: bytes | None, record_type: type[R], *, strict: bool = False) -> R:
    """Decode one framed record, written with any version of its schema.

    ``strict`` is for what devices send: fastavro reads some bytes that are no Avro (negative indices, overlong
    numbers, a boolean of 7), and these are refused then too.

    Raises:
        RefusedError: with the reason; nothing else, whatever the bytes are.

    """
    if not value:
        raise RefusedError(Reason.EMPTY_VALUE, "the event has no value")
    if value[:1] != MAGIC or len(value) < FRAME_BYTES:
        raise RefusedError(Reason.NOT_FRAMED, "no schema id in front (0x00 and four bytes expected)")
    (schema_id,) = struct.unpack_from(">I", value, 1)
    writer = schema_by_id(schema_id)
    if writer is None:
        raise RefusedError(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id} is not known here")
    name = schema_name(record_type)
    if writer.rsplit(".v", 1)[0] != name:
        raise RefusedError(Reason.WRONG_SCHEMA, f"{writer} where {name} belongs")
    if strict:
        avro_check.check_body(_parsed(writer), value, FRAME_BYTES)
    body = io.BytesIO(value)
    body.seek(FRAME_BYTES)
    try:
        raw = fastavro.schemaless_reader(body, _parsed(writer), _parsed(latest_version(name)))
        record = _revive(record_type, raw)
    except Exception as error:  # noqa: BLE001  # fastavro raises whatever the bytes provoke
        avro_check.check_body(_parsed(writer), value, FRAME_BYTES)  # names the reason, if the bytes are at fault
        raise RefusedError(Reason.MALFORMED, f"{type(error).__name__}: {error}"[:300]) from None
    if body.tell() != len(value):
        raise RefusedError(Reason.TRAILING_BYTES, f"{len(value) - body.tell()} bytes after the body")
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(class_name: str) -> dict[str, Any]:
    return get_type_hints(getattr(records, class_name), vars(records))


def _revive(record_type: type[R], raw: dict[str, Any]) -> R:
    converters = _converters(record_type.__name__)
    return record_type(
        **{
            name: value if (convert := converters[name]) is None or value is None else convert(value)
            for name, value in raw.items()
        }
    )


@cache
def _converters(class_name: str) -> dict[str, Callable[[Any], Any] | None]:
    """Return what makes each field of what fastavro gives; None where that is right as it is. Null stays null."""
    return {name: _converter(hint) for name, hint in _hints(class_name).items()}


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    if isinstance(hint, UnionType):
        (hint,) = (arg for arg in get_args(hint) if arg is not NoneType)
    if get_origin(hint) is tuple:
        convert = _converter(get_args(hint)[0])
        return tuple if convert is None else lambda items: tuple(map(convert, items))
    if issubclass(hint, Enum):
        return {member.value: member for member in hint}.__getitem__
    if issubclass(hint, Record):
        return lambda raw: _revive(hint, raw)
    if hint in _DEFAULTS:
        return lambda value: value if isinstance(value, hint) else _DEFAULTS[hint](value)
    return None
