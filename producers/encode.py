"""Rows to framed Avro bytes. The same bytes as ``fleetwatch.avro.encode``, without making a record first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import fastavro

from fleetwatch import avro

if TYPE_CHECKING:
    from fleetwatch.records import Record
    from producers.batches import Row


class RowEncoder:
    """Encodes rows of one record type with its newest schema. Not for use by several threads."""

    def __init__(self, record_type: type[Record]) -> None:
        name = avro.latest_version(avro.schema_name(record_type))
        self._schema = fastavro.parse_schema(dict(avro.load_schema(name)))
        self._header = avro.frame_header(record_type)
        self._out = io.BytesIO()

    def __call__(self, row: Row) -> bytes:
        """Return one framed message.

        Raises:
            ValueError, TypeError, KeyError: the row does not fit the schema.

        """
        out = self._out
        out.seek(0)
        out.truncate()
        out.write(self._header)
        fastavro.schemaless_writer(out, self._schema, row)
        return out.getvalue()
