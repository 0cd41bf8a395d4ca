"""Whether bytes are Avro of a schema, to the letter: fastavro reads more than the format allows.

The reason is the first thing wrong in reading order, as in the compiled decoder of ``fleetwatch.columns``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from fleetwatch.errors import RefusedError
from fleetwatch.records import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_MS: Final = -62_135_596_800_000
LAST_MS: Final = 253_402_300_799_999
"""Years 1 to 9999: other times are well-formed numbers, but no datetime can hold them."""

Named = dict[str, Any]
"""The named types met so far: later fields may refer to them by name."""


def check_body(schema: Any, value: bytes, pos: int) -> None:
    """Check that one body of this schema (as fastavro parsed it) reaches from ``pos`` exactly to the end.

    Raises:
        RefusedError: TRUNCATED, TRAILING_BYTES or MALFORMED.
        TypeError: the schema has a type that no record of ours uses.

    """
    end = _skip(schema, value, pos, {})
    if end != len(value):
        raise RefusedError(Reason.TRAILING_BYTES, f"{len(value) - end} bytes after the body")


def _skip(schema: Any, value: bytes, pos: int, named: Named) -> int:
    """Return where the next value ends."""
    if isinstance(schema, list):
        branch, pos = _number(value, pos)
        if not 0 <= branch < len(schema):
            _malformed(f"a union has no branch {branch}")
        schema = schema[branch]
    if isinstance(schema, str):
        schema = named.get(schema, {"type": schema})
    if "name" in schema:
        named[schema["name"]] = schema
    if schema["type"] not in _SKIPS:
        raise TypeError(f"values of type {schema['type']} cannot be checked")
    return _SKIPS[schema["type"]](schema, value, pos, named)


def _record(schema: Any, value: bytes, pos: int, named: Named) -> int:
    for field in schema["fields"]:
        pos = _skip(field["type"], value, pos, named)
    return pos


def _array(schema: Any, value: bytes, pos: int, named: Named) -> int:
    count, pos = _number(value, pos)
    while count:
        if count < 0:  # a block with its size in bytes
            _, pos = _number(value, pos)
        for _ in range(abs(count)):
            pos = _skip(schema["items"], value, pos, named)
        count, pos = _number(value, pos)
    return pos


def _enum(schema: Any, value: bytes, pos: int, _named: Named) -> int:
    index, pos = _number(value, pos)
    if not 0 <= index < len(schema["symbols"]):
        _malformed(f"{schema['name']} has no symbol {index}")
    return pos


def _long(schema: Any, value: bytes, pos: int, _named: Named) -> int:
    number, pos = _number(value, pos)
    if schema.get("logicalType") == "timestamp-millis" and not FIRST_MS <= number <= LAST_MS:
        _malformed(f"{number} ms is outside of the years 1 to 9999")
    return pos


def _int(_schema: Any, value: bytes, pos: int, _named: Named) -> int:
    number, pos = _number(value, pos)
    if not -(2**31) <= number < 2**31:
        _malformed(f"{number} is no int")
    return pos


def _bytes(_schema: Any, value: bytes, pos: int, _named: Named) -> int:
    return _text(value, pos)[1]


def _string(_schema: Any, value: bytes, pos: int, _named: Named) -> int:
    start, end = _text(value, pos)
    try:
        text = value[start:end].decode()
    except UnicodeDecodeError:
        _malformed("a string is not UTF-8")
    if "\x00" in text:
        _malformed("a string contains U+0000, which the database cannot store")
    return end


def _boolean(_schema: Any, value: bytes, pos: int, _named: Named) -> int:
    end = _advance(value, pos, 1)
    if value[pos] > 1:
        _malformed(f"a boolean of {value[pos]}")
    return end


_SKIPS: Final[dict[str, Callable[[Any, bytes, int, Named], int]]] = {
    "record": _record,
    "array": _array,
    "enum": _enum,
    "long": _long,
    "int": _int,
    "bytes": _bytes,
    "string": _string,
    "boolean": _boolean,
    "double": lambda _schema, value, pos, _named: _advance(value, pos, 8),
    "float": lambda _schema, value, pos, _named: _advance(value, pos, 4),
    "null": lambda _schema, _value, pos, _named: pos,
}


def _advance(value: bytes, pos: int, size: int) -> int:
    if size > len(value) - pos:
        raise RefusedError(Reason.TRUNCATED, "the body ends too early")
    return pos + size


def _text(value: bytes, pos: int) -> tuple[int, int]:
    """Return where a string or bytes begin and end."""
    length, start = _number(value, pos)
    if length < 0:
        _malformed(f"a length of {length}")
    return start, _advance(value, start, length)


def _number(value: bytes, pos: int) -> tuple[int, int]:
    """Read a zigzag number; return it and the next position."""
    if pos < len(value) and (short := value[pos]) < 0x80:
        return (short >> 1) ^ -(short & 1), pos + 1
    bits, shift = 0, 0
    while True:
        if pos >= len(value):
            raise RefusedError(Reason.TRUNCATED, "the body ends too early")
        byte = value[pos]
        pos += 1
        bits |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            _malformed("a number of more than 64 bits")
    if byte == 0 and shift:
        _malformed("a number in more bytes than it takes")
    if bits >= 2**64:
        _malformed("a number of more than 64 bits")
    return (bits >> 1) ^ -(bits & 1), pos


def _malformed(detail: str) -> NoReturn:
    raise RefusedError(Reason.MALFORMED, detail)
