"""Checks of the files in ``schemas/``: each parses, has an id of its own, an example that fits, and a record class."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import fastavro

from fleetwatch import avro, avro_compat, records

if TYPE_CHECKING:
    from enum import Enum


def record_types() -> dict[str, type[records.Record]]:
    """Return the record class of each schema name that has one."""
    found: dict[str, type[records.Record]] = {}
    for name in {key.rsplit(".v", 1)[0] for key in avro.schema_ids()}:
        record_type = getattr(records, "".join(part.capitalize() for part in name.split("_")), None)
        if record_type is not None:
            found[name] = record_type
    return found


def example(name_and_version: str) -> dict[str, Any]:
    """Return the example of a schema (kept in Avro's JSON encoding) as plain values."""
    text = (avro.SCHEMA_DIR / "examples" / f"{name_and_version}.json").read_text()
    schema = fastavro.parse_schema(dict(avro.load_schema(name_and_version)))
    (record,) = fastavro.json_reader(io.StringIO(json.dumps(json.loads(text))), schema)
    return dict(record)


def encode_example(name_and_version: str) -> bytes:
    """Return the example of a schema, framed and encoded with just this version.

    Raises:
        Exception: whatever is wrong with the two files.

    """
    out = io.BytesIO()
    out.write(avro.MAGIC + struct.pack(">I", avro.schema_ids()[name_and_version]))
    schema = fastavro.parse_schema(dict(avro.load_schema(name_and_version)))
    fastavro.schemaless_writer(out, schema, example(name_and_version), strict=True)
    return out.getvalue()


def problems() -> list[str]:
    """Return what is wrong, a line each; nothing when all is well."""
    ids = avro.schema_ids()
    files = {path.stem for path in avro.SCHEMA_DIR.glob("*.avsc")}
    found = [f"{name}.avsc has no id in ids.json" for name in sorted(files - ids.keys())]
    found += [f"ids.json names {name}, which is no file" for name in sorted(ids.keys() - files)]
    if len(set(ids.values())) != len(ids):
        found.append("ids.json gives one id twice")
    for name in sorted(files & ids.keys()):
        found += _problems_of(name)
    return found + compatibility_problems()


def compatibility_problems() -> list[str]:
    """Return which version cannot read which older one, and why: BACKWARD_TRANSITIVE, a line a field."""
    found = []
    for name in sorted({key.rsplit(".v", 1)[0] for key in avro.schema_ids()}):
        keys = [key for key in avro.schema_ids() if key.rsplit(".v", 1)[0] == name]
        keys.sort(key=lambda key: int(key.rsplit(".v", 1)[1]))
        for newer, older in ((b, a) for at, b in enumerate(keys) for a in keys[:at]):
            try:
                differences = avro_compat.incompatibilities(avro.load_schema(newer), avro.load_schema(older))
            except (KeyError, TypeError, ValueError, FileNotFoundError):
                continue  # no schema at all, which is said above
            found += [f"{newer} cannot read {older}: {difference}" for difference in differences]
    return found


def _problems_of(name_and_version: str) -> list[str]:
    name = name_and_version.rsplit(".v", 1)[0]
    record_type = record_types().get(name)
    if record_type is None:
        return [f"{name_and_version}.avsc has no record class"]
    try:
        fastavro.parse_schema(dict(avro.load_schema(name_and_version)))
    except Exception as error:  # noqa: BLE001  # whatever is wrong with the file, it is reported
        return [f"{name_and_version}.avsc: {error}"]
    found = []
    if avro.latest_version(name) == name_and_version:
        found += _differences(name_and_version, record_type)
    try:
        value = encode_example(name_and_version)
    except FileNotFoundError:
        return [*found, f"examples/{name_and_version}.json is missing"]
    except Exception as error:  # noqa: BLE001  # whatever does not fit, it is reported
        return [*found, f"examples/{name_and_version}.json does not fit: {error}"]
    try:
        avro.decode(value, record_type, strict=True)
    except Exception as error:  # noqa: BLE001  # whatever hinders reading, it is reported
        found.append(f"{name_and_version} cannot be read as {avro.latest_version(name)}: {error}")
    return found


def _differences(name_and_version: str, record_type: type[records.Record]) -> list[str]:
    """Compare a schema's fields, and the symbols of its enums, with the record class."""
    found = []
    theirs = {field["name"]: field["type"] for field in avro.load_schema(name_and_version)["fields"]}
    differing = {field.name for field in fields(record_type)} ^ theirs.keys()  # type: ignore[arg-type]  # all are dataclasses
    if differing:
        found.append(f"{name_and_version}.avsc and its record class differ in {', '.join(sorted(differing))}")
    for kind in theirs.values():
        if isinstance(kind, dict) and kind["type"] == "enum":
            enum: type[Enum] | None = getattr(records, kind["name"].rsplit(".", 1)[-1], None)
            if enum is None or {member.value for member in enum} != set(kind["symbols"]):
                found.append(f"{name_and_version}.avsc and its record class differ in the symbols of {kind['name']}")
    return found
