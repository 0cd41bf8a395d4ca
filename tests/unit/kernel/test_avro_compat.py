from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from fleetwatch import avro, schema_check
from fleetwatch.avro_compat import incompatibilities
from tests.unit.kernel.schema_folder import using_schemas, write_schemas

if TYPE_CHECKING:
    from pathlib import Path

COLOUR = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
INNER = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]}


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    made = [
        {"name": f"f{at}", "type": kind} if not isinstance(kind, tuple) else kind[0] for at, kind in enumerate(fields)
    ]
    return {"type": "record", "name": "R", "namespace": "n", "fields": made, **more}


def named(name: str, kind: Any, **more: Any) -> tuple[dict[str, Any]]:
    return ({"name": name, "type": kind, **more},)


# The reader, the writer, and what is said of them.
CASES: dict[str, tuple[Any, Any, list[str]]] = {
    "the same": (record("int", COLOUR), record("int", COLOUR), []),
    # numbers widen, they do not narrow
    "int as long": (record("long"), record("int"), []),
    "long as int": (record("int"), record("long"), ["f0: long cannot be read as int"]),
    "string as bytes": (record("bytes"), record("string"), []),
    # a new field needs a default, a field that is gone needs nothing
    "a field more": (record("int", named("b", "int", default=1)), record("int"), []),
    "a field more without default": (
        record("int", named("b", "int")),
        record("int"),
        ["b: older data lacks it, and it has no default"],
    ),
    "a field less": (record("int"), record("int", named("b", "int")), []),
    "a field renamed": (
        record(named("new", "int")),
        record(named("old", "int")),
        ["new: older data lacks it, and it has no default"],
    ),
    "a field with an alias": (record(named("new", "int", aliases=["old"])), record(named("old", "int")), []),
    # what may be null must be read by what takes null
    "null allowed": (record(["null", "int"]), record("int"), []),
    "null forbidden": (record("int"), record(["null", "int"]), ["f0: null cannot be read as int"]),
    "another union": (
        record(["null", "int"]),
        record(["null", "string"]),
        ["f0: string fits none of null, int"],
    ),
    # symbols may be added, and taken away where there is a default
    "a symbol more": (record(COLOUR | {"symbols": ["RED", "BLUE", "GREEN"]}), record(COLOUR), []),
    "a symbol less": (
        record(COLOUR | {"symbols": ["RED"]}),
        record(COLOUR),
        ["f0: symbol BLUE is gone, and Colour has no default"],
    ),
    "a symbol less, with a default": (record(COLOUR | {"symbols": ["RED"], "default": "RED"}), record(COLOUR), []),
    "an enum renamed": (
        record(COLOUR | {"name": "Color"}),
        record(COLOUR),
        ["f0: Colour cannot be read as Color: another name"],
    ),
    # paths go into nested records and arrays
    "nested": (
        record(INNER | {"fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]}),
        record(INNER),
        ["f0.b: older data lacks it, and it has no default"],
    ),
    "in an array": (
        record({"type": "array", "items": INNER | {"fields": [{"name": "a", "type": "string"}]}}),
        record({"type": "array", "items": INNER}),
        ["f0[].a: int cannot be read as string"],
    ),
    "a name that stands for a type": (record(INNER, "Inner"), record(INNER, "Inner"), []),
    "another logical type": (
        record("long"),
        record(MILLIS),
        ["f0: timestamp-millis cannot be read as long: another logical type"],
    ),
    "two at once": (
        record("int", "int"),
        record("string", "double"),
        ["f0: string cannot be read as int", "f1: double cannot be read as int"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_field_at_fault_is_named(name: str):
    reader, writer, expected = CASES[name]
    assert incompatibilities(reader, writer) == expected


VALUES = {"int": 1, "long": 2**40, "string": "x", "double": 1.5, "bytes": b"x"}


def value_of(kind: Any) -> Any:
    """A value that a lenient reader would trip over: the last symbol, the null of a union."""
    match kind:
        case list():
            return None if "null" in kind and kind[1] != "string" else value_of(kind[1])
        case {"type": "record"}:
            return {field["name"]: value_of(field["type"]) for field in kind["fields"]}
        case {"type": "enum"}:
            return kind["symbols"][-1]
        case {"type": "array"}:
            return [value_of(kind["items"])]
        case {"type": inner}:
            return value_of(inner)
    return {"a": 1} if kind == "Inner" else VALUES[kind]


@pytest.mark.parametrize("name", [name for name in CASES if "logical" not in name and "renamed" not in name])
def test_fastavro_agrees(name: str):
    """It reads the writer's value exactly where nothing is said."""
    reader, writer, expected = CASES[name]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(writer), value_of(writer))
    out.seek(0)
    try:
        fastavro.schemaless_reader(out, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    except Exception:  # noqa: BLE001  # it raises whatever does not fit
        assert expected
    else:
        assert expected == []


def test_every_version_must_read_all_older_ones(tmp_path: Path):
    """v3 reads v2 and not v1: what was recorded first would be lost, though each step alone looked harmless."""
    first = avro.load_schema("sensor_reading.v1")
    more = {"name": "rack", "type": "string"}
    second = {**first, "fields": [*first["fields"], more | {"default": ""}]}
    third = {**first, "fields": [*first["fields"], more]}
    write_schemas(tmp_path, {"sensor_reading.v1": first, "sensor_reading.v2": second, "sensor_reading.v3": third})
    with using_schemas(tmp_path):
        assert schema_check.compatibility_problems() == [
            "sensor_reading.v3 cannot read sensor_reading.v1: rack: older data lacks it, and it has no default"
        ]
