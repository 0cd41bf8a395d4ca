"""Reads what contestants wrote."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
from measure import HERE

from fleetwatch import avro

PEER_SCHEMA_ID = 9001


class Reader:
    """Decodes records of ours and of the peers by their schema id; times stay integers."""

    def __init__(self) -> None:
        peer = json.loads((HERE / "contestants" / "scored.avsc").read_text(encoding="utf-8"))
        self._schemas = {PEER_SCHEMA_ID: fastavro.parse_schema(peer)}

    def __call__(self, value: bytes) -> dict[str, Any]:
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            name = avro.schema_by_id(number)
            assert name is not None
            self._schemas[number] = fastavro.parse_schema(_plain(avro.load_schema(name)))
        return fastavro.schemaless_reader(BytesIO(value[5:]), self._schemas[number], None)


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema
