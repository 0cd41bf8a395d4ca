"""Whether one Avro schema reads what another wrote, and if not, which field is at fault.

The rules of https://avro.apache.org/docs/1.12.0/specification/#schema-resolution, for every value that the writer can
write; and one of ours: a logical type stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROMOTED: Final = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""What a written primitive may be read as, besides itself."""

Named = dict[str, Any]
"""Named types met so far, by their names without a namespace."""


def incompatibilities(reader: Any, writer: Any) -> list[str]:
    """Return why ``reader`` cannot read all of what ``writer`` writes, a line a field; nothing when it can."""
    return list(_differences(reader, writer, "", {}, {}))


def _differences(reader: Any, writer: Any, path: str, readers: Named, writers: Named) -> Iterator[str]:
    reader, writer = _resolved(reader, readers), _resolved(writer, writers)
    if isinstance(writer, list):
        for branch in writer:
            yield from _differences(reader, branch, path, readers, writers)
        return
    if isinstance(reader, list):
        tries = [list(_differences(branch, writer, path, dict(readers), dict(writers))) for branch in reader]
        if all(tries):
            yield f"{_at(path)}{_name(writer)} fits none of {', '.join(_name(branch) for branch in reader)}"
        return
    if reader["type"] == writer["type"]:
        yield from _same_kind(reader, writer, path, readers, writers)
    elif reader["type"] not in _PROMOTED.get(writer["type"], set()):
        yield f"{_at(path)}{_name(writer)} cannot be read as {_name(reader)}"


def _same_kind(reader: Any, writer: Any, path: str, readers: Named, writers: Named) -> Iterator[str]:
    kind = reader["type"]
    if reader.get("logicalType") != writer.get("logicalType"):
        yield f"{_at(path)}{_name(writer)} cannot be read as {_name(reader)}: another logical type"
    if kind in _INNER:
        yield from _differences(reader[_INNER[kind]], writer[_INNER[kind]], f"{path}[]", readers, writers)
    elif kind in _NAMED:
        if _short(writer["name"]) not in map(_short, (reader["name"], *reader.get("aliases", ()))):
            yield f"{_at(path)}{_name(writer)} cannot be read as {_name(reader)}: another name"
        yield from _NAMED[kind](reader, writer, path, readers, writers)


def _record(reader: Any, writer: Any, path: str, readers: Named, writers: Named) -> Iterator[str]:
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        names = [field["name"], *field.get("aliases", ())]
        found = next((written[name] for name in names if name in written), None)
        inner = f"{path}.{field['name']}" if path else field["name"]
        if found is not None:
            yield from _differences(field["type"], found["type"], inner, readers, writers)
        elif "default" not in field:
            yield f"{inner}: older data lacks it, and it has no default"


def _enum(reader: Any, writer: Any, path: str, _readers: Named, _writers: Named) -> Iterator[str]:
    gone = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if gone and "default" not in reader:
        yield f"{_at(path)}symbol {', '.join(gone)} is gone, and {_name(reader)} has no default"


def _fixed(reader: Any, writer: Any, path: str, _readers: Named, _writers: Named) -> Iterator[str]:
    if reader["size"] != writer["size"]:
        yield f"{_at(path)}{writer['size']} bytes cannot be read as {reader['size']}"


_INNER: Final = {"array": "items", "map": "values"}
_NAMED: Final = {"record": _record, "enum": _enum, "fixed": _fixed}


def _resolved(schema: Any, named: Named) -> Any:
    """Return a schema as a dict or a list; a name stands for the type of that name."""
    if isinstance(schema, str):
        schema = named.get(_short(schema), {"type": schema})
    if isinstance(schema, dict):
        if isinstance(schema["type"], dict | list):
            return _resolved(schema["type"], named)
        if "name" in schema:
            named[_short(schema["name"])] = schema
    return schema


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _name(schema: Any) -> str:
    if isinstance(schema, str):
        return schema
    if isinstance(schema, list):
        return f"[{', '.join(_name(branch) for branch in schema)}]"
    found = schema.get("name") or schema.get("logicalType") or schema["type"]
    return _short(found) if isinstance(found, str) else _name(found)


def _at(path: str) -> str:
    return f"{path}: " if path else ""
